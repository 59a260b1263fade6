//! Numbers as people read them.

/// `1234567` → `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 byte`, `1,024 bytes`.
pub(crate) fn bytes(n: u64) -> String {
    count(n, "byte")
}

/// `1 read`, `2 reads`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    let plural = match (n, noun.ends_with("ss")) {
        (1, _) => "",
        (_, true) => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", grouped(n))
}

/// `950 ns`, `12.3 µs`, `1.50 s`.
pub(crate) fn duration(ns: f64, unicode: bool) -> String {
    let micro = if unicode { "µs" } else { "us" };
    let (value, unit) = match ns {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, micro),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    format!("{} {unit}", significant(value))
}

/// `1.2M`, `370k`, `85`.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        n if n >= 1e9 => format!("{}G", significant(n / 1e9)),
        n if n >= 1e6 => format!("{}M", significant(n / 1e6)),
        n if n >= 1e3 => format!("{}k", significant(n / 1e3)),
        n => significant(n),
    }
}

/// Three significant digits.
pub(crate) fn significant(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
