//! Arithmetic on sorted, merged, half-open ranges of byte offsets.

use super::Span;

/// Sorts and merges.
pub(super) fn normal(mut ranges: Vec<Span>) -> Vec<Span> {
    ranges.retain(|(start, end)| start < end);
    ranges.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// Bytes in `a` or in `b`.
pub(super) fn union(a: &[Span], b: &[Span]) -> Vec<Span> {
    normal([a, b].concat())
}

/// Bytes in `a` that are not in `b`.
pub(super) fn minus(a: &[Span], b: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    let mut holes = b.iter().copied().peekable();
    for &(mut start, end) in a {
        while let Some(&(from, to)) = holes.peek() {
            if to <= start {
                holes.next();
                continue;
            }
            if from >= end {
                break;
            }
            if from > start {
                left.push((start, from));
            }
            start = start.max(to);
            if start >= end {
                break;
            }
            holes.next();
        }
        if start < end {
            left.push((start, end));
        }
    }
    left
}

/// How many bytes the ranges hold.
pub(super) fn total(ranges: &[Span]) -> u64 {
    ranges.iter().map(|(start, end)| end - start).sum()
}

/// How many bytes of `window` the ranges hold.
pub(super) fn overlap(ranges: &[Span], window: Span) -> u64 {
    let first = ranges.partition_point(|(_, end)| *end <= window.0);
    let inside = ranges[first..]
        .iter()
        .take_while(|(start, _)| *start < window.1);
    inside
        .map(|(start, end)| end.min(&window.1) - start.max(&window.0))
        .sum()
}
