//! Values that know their bound.

use cairn_protocol::bounded::TooLong;
use cairn_protocol::{BoundedBytes, BoundedVec, Text, encode};
use proptest::prelude::*;

#[test]
fn a_vector_takes_its_bound_and_no_more() {
    let mut items = BoundedVec::<u8, 3>::new();
    for item in 1..=3 {
        assert_eq!(items.push(item), Ok(()));
    }
    assert_eq!(items.push(4), Err(TooLong { got: 4, max: 3 }));
    assert_eq!(items[..], [1, 2, 3], "what did not fit changed nothing");
    assert_eq!(BoundedVec::<u8, 3>::try_from(vec![1, 2, 3]), Ok(items.clone()));
    assert_eq!(BoundedVec::<u8, 3>::try_from(vec![0; 4]), Err(TooLong { got: 4, max: 3 }));
    assert_eq!(items.into_inner(), [1, 2, 3]);
    assert!(BoundedVec::<u8, 0>::default().is_empty());
    assert_eq!(BoundedVec::<u8, 0>::new().push(1), Err(TooLong { got: 1, max: 0 }));
}

#[test]
fn bytes_take_their_bound_and_no_more() {
    let bytes = BoundedBytes::<2>::try_from(vec![1, 2]).unwrap();
    assert_eq!(bytes[..], [1, 2]);
    assert_eq!(format!("{bytes:?}"), "2 bytes", "a chunk is not printed into a log");
    assert_eq!(bytes.into_inner(), [1, 2]);
    assert_eq!(BoundedBytes::<2>::try_from(vec![0; 3]), Err(TooLong { got: 3, max: 2 }));
}

#[test]
fn a_text_is_bounded_in_bytes_not_in_characters() {
    assert_eq!(Text::<4>::try_from("éé").unwrap().as_str(), "éé");
    assert_eq!(Text::<4>::try_from("ééé"), Err(TooLong { got: 6, max: 4 }));
    assert_eq!(Text::<4>::try_from("ééé".to_owned()), Err(TooLong { got: 6, max: 4 }));
    assert_eq!(TooLong { got: 6, max: 4 }.to_string(), "6 items or bytes, at most 4 are allowed");
}

#[test]
fn a_text_is_cut_at_a_character() {
    let cut = |text| Text::<5>::truncated(text).as_str().to_owned();
    assert_eq!(cut("abcde"), "abcde");
    assert_eq!(cut("abcdef"), "abcde");
    assert_eq!(cut("ééé"), "éé");
    // Nothing after the cut, though the last letter would fit.
    assert_eq!(cut("abcd→e"), "abcd");
    assert_eq!(Text::<0>::truncated("a").as_str(), "");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_text_is_the_longest_prefix_that_fits(text in ".{0,40}") {
        let cut = Text::<16>::truncated(&text);
        prop_assert!(text.starts_with(cut.as_str()) && cut.len() <= 16);
        if let Some(next) = text[cut.len()..].chars().next() {
            prop_assert!(cut.len() + next.len_utf8() > 16);
        }
        prop_assert_eq!(&encode(&cut)[4..], cut.as_bytes());
    }
}
