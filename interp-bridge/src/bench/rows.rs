//! Answers as rows of the report, and how those of one question compare.

use tracer_user::backend::Backend;

use super::question::Figure;
use crate::report::bench::{BARE, BenchRow, Unit};

/// The row of one answer.
pub(super) fn row(question: &str, unit: Unit, who: &str, figure: Figure) -> BenchRow {
    BenchRow {
        question: question.to_owned(),
        backend: who.to_owned(),
        unit,
        accesses: figure.count,
        ns_per_access: figure.ns,
        accesses_per_s: 1e9 / figure.ns,
        ns_above_none: None,
        ratio_to_none: None,
        ratio_to_ptrace: None,
        ratio_to_bare: None,
        accesses_each: figure.accesses_each,
        size: figure.size,
        note: figure.note,
    }
}

/// Fills in what compares the rows of one question: those of pieces of work of one size.
pub(super) fn compare(rows: &mut [BenchRow]) {
    let bases: Vec<_> = rows
        .iter()
        .map(|row| {
            [Backend::None.name(), Backend::Ptrace.name(), BARE].map(|who| {
                let found = rows.iter().find(|r| r.backend == who && r.size == row.size);
                found.map(|base| base.ns_per_access)
            })
        })
        .collect();
    for (row, [none, ptrace, bare]) in rows.iter_mut().zip(bases) {
        let ns = row.ns_per_access;
        row.ns_above_none = none.map(|none| ns - none);
        row.ratio_to_none = none.map(|none| ns / none);
        row.ratio_to_ptrace = ptrace.map(|ptrace| ns / ptrace);
        row.ratio_to_bare = bare.map(|bare| ns / bare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_rows_of_the_same_question() {
        let figure = |ns| Figure::new(10, ns);
        let mut rows = [("none", 2.0), ("inproc", 5.0), ("ptrace", 50.0)]
            .map(|(who, ns)| row("q", Unit::Access, who, figure(ns)));
        compare(&mut rows);
        assert_eq!(rows[1].ns_above_none, Some(3.0));
        assert_eq!(rows[1].ratio_to_none, Some(2.5));
        assert_eq!(rows[1].ratio_to_ptrace, Some(0.1));
        assert_eq!(rows[1].ratio_to_bare, None);
        let mut rows =
            [("ebpf", 3.0), (BARE, 2.0)].map(|(who, ns)| row("q", Unit::Fault, who, figure(ns)));
        compare(&mut rows);
        assert_eq!(rows[0].ratio_to_bare, Some(1.5));
        assert_eq!(rows[0].ns_above_none, None);
        let mut rows = [("none", None), ("ebpf", None), ("ptrace", Some(8))].map(|(who, size)| {
            let figure = Figure {
                size,
                ..figure(4.0)
            };
            row("q", Unit::Run, who, figure)
        });
        compare(&mut rows);
        assert_eq!(rows[1].ratio_to_none, Some(1.0));
        assert_eq!(rows[1].ratio_to_ptrace, None);
        assert_eq!(rows[2].ratio_to_none, None);
    }
}
