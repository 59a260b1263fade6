//! Lines no longer than the terminal is wide.

/// Breaks `text` into lines of at most `width` characters, after one of `after`. What has no
/// such place is left whole: a path cut in two is no use.
pub(crate) fn wrap(text: &str, width: usize, after: &[char]) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for piece in text.split_inclusive(after) {
        let len = |s: &str| s.trim_end().chars().count();
        if !line.is_empty() && line.chars().count() + len(piece) > width {
            lines.push(line.trim_end().to_owned());
            line.clear();
        }
        line.push_str(piece);
    }
    lines.push(line.trim_end().to_owned());
    lines
}

/// [`wrap()`] for text with colours in it, broken after commas. Colour codes have no width.
pub(super) fn wrap_painted(text: &str, width: usize) -> Vec<String> {
    let visible = |s: &str| {
        let mut in_code = false;
        let counts = s.trim_end().chars().filter(|c| match (in_code, c) {
            (false, '\x1b') => {
                in_code = true;
                false
            }
            (true, c) => {
                in_code = *c != 'm';
                false
            }
            (false, _) => true,
        });
        counts.count()
    };
    let (mut lines, mut line) = (Vec::new(), String::new());
    for piece in text.split_inclusive(", ") {
        if !line.is_empty() && visible(&line) + 1 + visible(piece) > width {
            lines.push(line.trim_end().to_owned());
            line = "     ".to_owned();
        }
        line.push_str(piece);
    }
    lines.push(line.trim_end().to_owned());
    lines
}
