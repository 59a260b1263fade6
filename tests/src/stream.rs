//! Two traces of the same call, compared event by event and thread by thread.

use std::collections::BTreeMap;
use std::fmt;

use crate::report::{Event, hex};

/// An event without what differs from run to run: sequence number, thread, address, and whether a
/// fault or translated code recorded it.
#[derive(Clone, Debug)]
pub struct Step {
    /// `r`, `w`, or `m` for a write that is not certain.
    pub kind: char,
    /// Buffer concerned.
    pub allocation: String,
    /// From the buffer's base.
    pub offset: i64,
    /// In bytes.
    pub size: u64,
    /// Place of the instruction in its page.
    pub place: u64,
    /// Function and offset of the instruction, where the function is known: not that of a library
    /// that was unloaded before anybody looked.
    pub symbol: Option<String>,
}

impl PartialEq for Step {
    fn eq(&self, other: &Step) -> bool {
        let all = |step: &Step| {
            (
                step.kind,
                step.allocation.clone(),
                step.offset,
                step.size,
                step.place,
            )
        };
        let named = self.symbol.as_ref().zip(other.symbol.as_ref());
        all(self) == all(other) && named.is_none_or(|(left, right)| left == right)
    }
}

impl Eq for Step {}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} at {} (page+{:#x})",
            self.kind,
            self.allocation,
            self.offset,
            self.size,
            self.symbol.as_deref().unwrap_or("?"),
            self.place
        )
    }
}

impl Step {
    fn of(event: &Event) -> Step {
        let kind = match (event.kind.as_str(), event.certain) {
            ("read", true) => 'r',
            ("write", true) => 'w',
            ("write", false) => 'm',
            _ => '?',
        };
        let offset = event.offset.as_ref().and_then(|offset| offset.value());
        Step {
            kind,
            allocation: event.allocation.clone().unwrap_or_default(),
            offset: offset.unwrap_or_default(),
            size: event.size,
            place: hex(&event.ip).unwrap_or_default() & 0xfff,
            symbol: event.symbol.clone(),
        }
    }
}

/// The steps of each thread, in its order; the threads in the order in which they were created.
pub fn streams(events: &[Event]) -> Vec<Vec<Step>> {
    let mut threads: BTreeMap<u32, Vec<Step>> = BTreeMap::new();
    for event in events {
        threads.entry(event.tid).or_default().push(Step::of(event));
    }
    threads.into_values().collect()
}

/// Where two traces part.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which thread.
    pub thread: usize,
    /// Which of its steps.
    pub step: usize,
    /// What the two have there, with a few steps before and after.
    pub text: String,
}

/// The first difference between two traces.
pub fn difference(expected: &[Vec<Step>], actual: &[Vec<Step>]) -> Option<Difference> {
    let none = Vec::new();
    for thread in 0..expected.len().max(actual.len()) {
        let left = expected.get(thread).unwrap_or(&none);
        let right = actual.get(thread).unwrap_or(&none);
        if left == right {
            continue;
        }
        let step = left.iter().zip(right).take_while(|(a, b)| a == b).count();
        let shown = |steps: &[Step]| -> String {
            let from = step.saturating_sub(3);
            let near = steps.iter().enumerate().skip(from).take(8);
            near.map(|(at, one)| {
                let mark = if at == step { ">" } else { " " };
                format!("  {mark} {at}: {one}\n")
            })
            .collect()
        };
        return Some(Difference {
            thread,
            step,
            text: format!(
                "thread {thread}: {} events instead of {}, and number {step} is another\n\
                 expected:\n{}actual:\n{}",
                right.len(),
                left.len(),
                shown(left),
                shown(right)
            ),
        });
    }
    None
}
