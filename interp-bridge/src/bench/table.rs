//! All questions, in the order in which they are asked and shown.

use super::{
    agents::Agents, callbacks::Callback, calls, cold::Cold, copies, library::Library, loops, lua,
    neighbours::Neighbours, question::Question, sparse::Sparse, sqlite::Sqlite, threads, tiny,
    zlib::Zlib,
};

/// See the module.
pub(super) fn all() -> Vec<Box<dyn Question>> {
    fn boxed<Q: Question + 'static>(question: Q) -> Box<dyn Question> {
        Box::new(question)
    }
    let mut all: Vec<Box<dyn Question>> = Vec::new();
    all.extend(loops::QUESTIONS.map(boxed));
    all.extend(tiny::QUESTIONS.map(boxed));
    all.extend(calls::QUESTIONS.map(boxed));
    all.push(boxed(Callback));
    all.extend(lua::QUESTIONS.map(boxed));
    all.extend(threads::QUESTIONS.map(boxed));
    all.extend(copies::questions().map(boxed));
    all.push(boxed(Library::of(Zlib::Buffers)));
    all.push(boxed(Library::of(Zlib::Heap)));
    all.push(boxed(Library::of(Sqlite)));
    all.push(boxed(Sparse));
    all.push(boxed(Cold));
    all.push(boxed(Neighbours));
    all.push(boxed(Agents));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bench;

    #[test]
    fn questions_are_told_apart_and_fit_a_line() {
        let texts: Vec<String> = all().iter().map(|question| question.text()).collect();
        let set: BTreeSet<&String> = texts.iter().collect();
        assert_eq!(set.len(), texts.len(), "{texts:?}");
        assert!(texts.iter().all(|text| text.len() < 80), "{texts:?}");
    }

    #[test]
    fn only_leaves_out_what_does_not_contain_it() {
        let all = bench::questions(&[]);
        let only = |text: &str| bench::questions(&[text.to_owned()]);
        let calls = only("an empty call");
        assert_eq!(
            calls,
            [
                "an empty call, 1 MiB live",
                "an empty call, 256 MiB live",
                "an empty call, 1 GiB live",
            ]
        );
        assert!(calls.iter().all(|text| all.contains(text)));
        assert_eq!(only("no such question"), [""; 0]);
        let two = bench::questions(&["AVX2".to_owned(), "a byte copy".to_owned()]);
        assert_eq!(two.len(), 2, "one of them is enough: {two:?}");
    }

    /// Figures of other versions are found by these.
    #[test]
    fn names_that_were_published_stay() {
        let all = bench::questions(&[]);
        for text in [
            "a loop of 4-byte reads",
            "a byte copy (a read and a write each)",
            "atomic adds (a read and a write each)",
            "a call with one read, nothing else live",
            "a call with one read, 1 MiB live",
            "a call with one read, 256 MiB live",
            "failing calls: a read out of bounds",
            "failing calls: a null pointer, which crashes",
            "a callback, in one native call",
        ] {
            assert!(all.iter().any(|known| known == text), "{text}");
        }
    }
}
