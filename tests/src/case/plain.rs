//! What was reported, without what differs from run to run.

use std::fmt::Debug;

use anyhow::{Result, bail};

use crate::report::Event;

/// The decimal numbers in a text.
pub(super) fn numbers(text: &str) -> Vec<f64> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '-' || c == '.'))
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Events without what differs from run to run.
pub(super) fn plain(events: &[Event]) -> Result<Vec<(char, String, i64, u64)>> {
    events
        .iter()
        .map(|event| {
            let kind = match (event.kind.as_str(), event.certain) {
                ("read", true) => 'r',
                ("write", true) => 'w',
                ("write", false) => 'm',
                _ => bail!("a read that is not certain: {event:?}"),
            };
            let offset = event.offset.as_ref().and_then(|offset| offset.value());
            let name = event.allocation.clone().unwrap_or_default();
            Ok((kind, name, offset.unwrap_or_default(), event.size))
        })
        .collect()
}

pub(super) fn same<T: PartialEq + Debug>(what: &str, expected: &[T], actual: &[T]) -> Result<()> {
    if expected == actual {
        return Ok(());
    }
    let at = expected
        .iter()
        .zip(actual)
        .take_while(|(left, right)| left == right)
        .count();
    bail!(
        "{what} differ from number {at}: {} are {:?}…, expected {} with {:?}…",
        actual.len(),
        actual.iter().skip(at).take(4).collect::<Vec<_>>(),
        expected.len(),
        expected.iter().skip(at).take(4).collect::<Vec<_>>()
    )
}
