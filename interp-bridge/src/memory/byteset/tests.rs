use super::*;
use proptest::prelude::*;

#[test]
fn whole_sets_cost_nothing() {
    let len = 512 << 20;
    let mut set = ByteSet::empty(len);
    assert_eq!(set.insert(0..len), len);
    assert!(matches!(set.repr, Repr::Full));
    assert_eq!(set.remove(100..200), 100);
    assert_eq!(set.ranges().collect::<Vec<_>>(), [0..100, 200..len]);
    assert_eq!(set.insert(0..len + 5), 100, "clipped");
    assert!(matches!(set.repr, Repr::Full));
}

#[test]
fn chunks_fold_when_they_fill() {
    let mut set = ByteSet::empty(3 * CHUNK + 10);
    for offset in CHUNK..2 * CHUNK {
        set.insert(offset..offset + 1);
    }
    let Repr::Chunks(chunks) = &set.repr else {
        panic!("{set:?}")
    };
    assert!(matches!(
        chunks[..],
        [Chunk::Empty, Chunk::Full, Chunk::Empty, Chunk::Empty]
    ));
    set.insert(3 * CHUNK..3 * CHUNK + 10);
    let Repr::Chunks(chunks) = &set.repr else {
        panic!("{set:?}")
    };
    assert!(matches!(chunks[3], Chunk::Full), "the short last chunk");
}

#[test]
fn questions_about_a_few_bytes_look_no_farther() {
    let len = 512 << 20;
    let mut set = ByteSet::full(len);
    set.remove(len - 1..len);
    // Were each of these a walk to the first gap, they would take minutes.
    let start = std::time::Instant::now();
    for offset in 0..100_000 {
        assert!(set.contains_range(offset..offset + 4));
        assert!(set.gaps(offset..offset + 4).next().is_none());
    }
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn sets_are_small() {
    assert_eq!(size_of::<ByteSet>(), 40);
    assert_eq!(size_of::<Chunk>(), 16);
}

#[test]
#[expect(
    clippy::reversed_empty_ranges,
    reason = "callers may compute such ranges"
)]
fn odd_ranges_do_nothing() {
    let mut set = ByteSet::empty(10);
    assert_eq!(set.insert(5..5) + set.insert(7..3) + set.insert(10..12), 0);
    assert_eq!(set.insert(8..u64::MAX), 2);
    assert!(!set.contains_range(8..11) && set.contains_range(8..10));
    assert!(set.contains_range(3..3) && !set.intersects(3..3));
    let mut none = ByteSet::empty(0);
    assert_eq!(none.insert(0..1), 0);
    assert!(none.is_empty() && none.is_full() && none.ranges().next().is_none());
}

fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..200, 4000u64..4200, 8000u64..20_000]
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model(
        len in lengths(),
        steps in prop::collection::vec((any::<(u16, u16)>(), 0u8..4), 0..40),
        looks in prop::collection::vec(any::<(u16, u16)>(), 10),
        start_full: bool,
    ) {
        let mut set = if start_full { ByteSet::full(len) } else { ByteSet::empty(len) };
        let mut model = vec![start_full; len as usize];
        // Both whole-chunk and short ranges, some over the end.
        let range = |(a, b): (u16, u16), long: bool| {
            let start = u64::from(a) % (len + 1);
            let size = if long { u64::from(b) % (len + 10) } else { u64::from(b) % 70 };
            start..start + size
        };
        for (numbers, action) in steps {
            let range = range(numbers, action & 1 == 1);
            let add = action < 2;
            let clipped = range.start as usize..range.end.min(len) as usize;
            let expected = model[clipped.clone()].iter().filter(|bit| **bit != add).count();
            model[clipped].fill(add);
            let changed = if add { set.insert(range) } else { set.remove(range) };
            prop_assert_eq!(changed, expected as u64);
        }
        prop_assert_eq!(set.count(), model.iter().filter(|bit| **bit).count() as u64);
        prop_assert_eq!(set.is_full(), model.iter().all(|bit| *bit));

        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (offset, _) in (0u64..).zip(&model).filter(|(_, bit)| **bit) {
            match ranges.last_mut() {
                Some(last) if last.end == offset => last.end += 1,
                _ => ranges.push(offset..offset + 1),
            }
        }
        prop_assert_eq!(set.ranges().collect::<Vec<_>>(), ranges);

        for numbers in looks {
            let range = range(numbers, true);
            let clipped = range.start as usize..range.end.min(len) as usize;
            let bits = &model[clipped];
            let inside = range.end <= len || range.is_empty();
            prop_assert_eq!(
                set.contains_range(range.clone()),
                inside && bits.iter().all(|bit| *bit)
            );
            prop_assert_eq!(set.intersects(range.clone()), bits.iter().any(|bit| *bit));
            let gaps: u64 = set.gaps(range.clone()).map(|gap| gap.end - gap.start).sum();
            prop_assert_eq!(gaps, bits.iter().filter(|bit| !**bit).count() as u64);
            for gap in set.gaps(range.clone()) {
                prop_assert!(!set.intersects(gap));
            }
        }
    }

    #[test]
    fn difference(len in lengths(), a in any::<(u16, u16)>(), b in any::<(u16, u16)>()) {
        let make = |(from, size): (u16, u16)| {
            let mut set = ByteSet::empty(len);
            let start = u64::from(from) % (len + 1);
            set.insert(start..start + u64::from(size) % (len + 1));
            set
        };
        let (a, b) = (make(a), make(b));
        let rest = a.minus(&b);
        for offset in 0..len {
            let expected = a.contains(offset) && !b.contains(offset);
            prop_assert_eq!(rest.contains(offset), expected);
        }
    }
}
