//! The library's own heap in the report, where `--native-heap` put it into the arena.

use super::text::wrap;
use super::{Hex, units};

/// Most leaks in a report.
pub const MAX_LEAKS: usize = 1000;

/// What the library's heap came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct NativeHeap {
    /// Allocations that were made.
    pub allocations: u64,
    /// Allocations that were given back.
    pub frees: u64,
    /// Allocations that are live after the last call.
    pub live: u64,
    /// Their sizes together, in bytes.
    pub live_bytes: u64,
    /// The live ones, at most [`MAX_LEAKS`]: leaks, or what the library keeps for its next call.
    pub leaks: Vec<Leak>,
    /// What is not seen: functions and libraries that were left alone, and why.
    pub not_covered: Vec<String>,
}

/// An allocation that was not given back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Leak {
    /// Its name in violations, `heap#7`.
    pub allocation: String,
    /// Its address.
    pub base: Hex,
    /// Size in bytes.
    pub size: u64,
    /// What made it: `malloc in parse+0x1a (w.c:12)`.
    pub made_by: String,
}

impl NativeHeap {
    /// Lines of `width` columns for people.
    pub(super) fn lines(&self, width: usize, verbose: bool) -> Vec<String> {
        let live = match self.live {
            0 => "all given back".to_owned(),
            n => format!(
                "{} live ({})",
                units::grouped(n),
                units::bytes(self.live_bytes)
            ),
        };
        let listed = if verbose || self.live == 0 {
            ""
        } else {
            "; --verbose lists them"
        };
        let head = format!(
            "native heap: {}, {live}{listed}",
            units::count(self.allocations, "allocation")
        );
        let mut lines = wrap(&head, width, &[' ']);
        if !verbose {
            return lines;
        }
        for leak in &self.leaks {
            let text = format!(
                "{}, {}: {}",
                leak.allocation,
                units::bytes(leak.size),
                leak.made_by
            );
            lines.extend(indented(&text, width));
        }
        let listed = self.leaks.len() as u64;
        if self.live > listed {
            lines.push(format!("  and {} more", units::grouped(self.live - listed)));
        }
        for text in &self.not_covered {
            lines.extend(indented(&format!("not covered: {text}"), width));
        }
        lines
    }
}

fn indented(text: &str, width: usize) -> impl Iterator<Item = String> {
    let lines = wrap(text, width - 4, &[' ']);
    lines.into_iter().enumerate().map(|(index, line)| {
        let indent = if index == 0 { "  " } else { "    " };
        format!("{indent}{line}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_or_in_full() {
        let mut heap = NativeHeap {
            allocations: 3,
            frees: 3,
            ..NativeHeap::default()
        };
        let all = "native heap: 3 allocations, all given back";
        assert_eq!(heap.lines(80, false), [all]);
        heap.frees = 1;
        heap.live = 2;
        heap.live_bytes = 1500;
        heap.leaks = vec![Leak {
            allocation: "heap#2".into(),
            base: Hex(0x1000),
            size: 24,
            made_by: "malloc in a_function_with_a_long_name+0x1a (and_a_long_file.c:120)".into(),
        }];
        heap.not_covered = vec!["libx.so can load others by dlopen".into()];
        assert_eq!(
            heap.lines(80, false),
            ["native heap: 3 allocations, 2 live (1,500 bytes); --verbose lists them"]
        );
        let lines = heap.lines(80, true);
        assert_eq!(lines[0], "native heap: 3 allocations, 2 live (1,500 bytes)");
        assert!(lines[1].starts_with("  heap#2, 24 bytes: malloc in "));
        assert!(lines.contains(&"  and 1 more".to_owned()), "{lines:?}");
        assert!(
            lines
                .last()
                .is_some_and(|line| line.starts_with("  not covered: libx.so"))
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
    }
}
