//! Streams in which every byte depends on its place.

use fibra_examples::pattern::Pattern;
use proptest::prelude::*;

proptest! {
    #[test]
    fn parts_are_those_of_the_whole(seed: u64, at in 0..1_u64 << 40, lengths in prop::collection::vec(0..40_usize, 0..10)) {
        let pattern = Pattern::new(seed);
        let mut whole = vec![0; lengths.iter().sum()];
        pattern.fill(at, &mut whole);
        let mut place = 0;
        for length in lengths {
            let mut part = vec![0; length];
            pattern.fill(at + place as u64, &mut part);
            prop_assert_eq!(&part[..], &whole[place..place + length]);
            prop_assert_eq!(pattern.first_wrong(at + place as u64, &part), None);
            place += length;
        }
    }

    #[test]
    fn a_byte_that_is_wrong_is_found_where_it_is(seed: u64, at in 0..1_u64 << 40, length in 1..100_usize, nth: prop::sample::Index, by in 1..=255_u8) {
        let pattern = Pattern::new(seed);
        let mut bytes = vec![0; length];
        pattern.fill(at, &mut bytes);
        let nth = nth.index(length);
        bytes[nth] ^= by;
        // What comes after it may be wrong, too.
        bytes[nth + 1..].fill(0);
        prop_assert_eq!(pattern.first_wrong(at, &bytes), Some(nth));
    }
}

#[test]
fn places_and_seeds_differ() {
    let part = |seed, at| {
        let mut bytes = [0; 16];
        Pattern::new(seed).fill(at, &mut bytes);
        bytes
    };
    let parts: std::collections::HashSet<_> =
        (0..100).flat_map(|seed| (0..100).map(move |at| part(seed, 4096 * at))).collect();
    assert_eq!(parts.len(), 10_000);
    // None is another one a byte further.
    assert!((1..1000).all(|at| part(0, at) != part(0, 0)));
}
