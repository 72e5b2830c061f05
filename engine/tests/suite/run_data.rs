//! Data sets: what is refused, how they are split, and that every target is scored exactly once.

use cairn_engine::backend::Tensor;
use cairn_engine::data::{DataError, DataSpec, Dataset, PADDING, STREAM, Split};
use cairn_engine::random::Stream;
use cairn_protocol::Seed;
use proptest::prelude::*;

const NAMES: &[u8] = include_bytes!("../../../tracks/names/data/names.txt");
const SHAKESPEARE: &[u8] = include_bytes!("../../../tracks/shakespeare-small/data/input.txt");

fn ints([input, target]: &[Tensor; 2]) -> (&[i32], &[i32]) {
    match (input, target) {
        (Tensor::I32(input), Tensor::I32(target)) => (input, target),
        _ => panic!("batches are of integers"),
    }
}

/// Scored targets of a part.
fn scored(data: &Dataset, split: Split, context: u32, rows: u32) -> u64 {
    let windows = data.windows(split, context, rows).unwrap();
    windows.map(|batch| ints(&batch).1.iter().filter(|target| **target != PADDING).count() as u64).sum()
}

#[test]
fn the_shipped_data_split_as_specified() {
    let names = Dataset::load("names", NAMES).unwrap();
    let spec = names.spec();
    assert_eq!((spec.vocab, spec.classes, spec.context), (27, 27, Some(16)));
    // 29,494 distinct names: 23,595, 2,949 and 2,950.
    assert_eq!((spec.validation_rows, spec.test_rows), (2_949, 2_950));
    assert_eq!(spec.evaluation_batches(16), (12, 12));
    let text = Dataset::load("bytes", SHAKESPEARE).unwrap();
    assert_eq!(text.spec(), &DataSpec::text(256, 65_536, 55_769, 55_769));
    for (data, context) in [(&names, 16), (&text, 64), (&text, 100)] {
        let rows = data.spec().evaluation_rows(context);
        let (validation, test) = data.spec().evaluation_batches(context);
        assert_eq!(data.windows(Split::Validation, context, rows).unwrap().count() as u64, validation);
        assert_eq!(data.windows(Split::Test, context, rows).unwrap().count() as u64, test);
        assert_eq!(scored(data, Split::Validation, context, rows), data.spec().validation_targets);
        assert_eq!(scored(data, Split::Test, context, rows), data.spec().test_targets);
    }
}

#[test]
fn a_name_becomes_a_padded_row() {
    let raw = "abc\nabcdefghijklmno\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nabc\nabc\n";
    let data = Dataset::load("names", raw.as_bytes()).unwrap();
    let mut rows: Vec<(Vec<i32>, Vec<i32>)> = Vec::new();
    for split in [Split::Validation, Split::Test] {
        for batch in data.windows(split, 16, 4).unwrap() {
            let (input, target) = ints(&batch);
            assert_eq!((input.len(), target.len()), (64, 64));
            rows.extend(input.chunks(16).map(<[i32]>::to_vec).zip(target.chunks(16).map(<[i32]>::to_vec)));
        }
    }
    let stream = Stream::new(&Seed([1; 32]), STREAM, "");
    let batch = data.batch(&stream, 0, 200, 16).unwrap();
    let (input, target) = ints(&batch);
    rows.extend(input.chunks(16).map(<[i32]>::to_vec).zip(target.chunks(16).map(<[i32]>::to_vec)));
    let letters = |target: &[i32]| target.iter().take_while(|token| **token > 0).copied().collect::<Vec<i32>>();
    let find = |name: &[i32]| rows.iter().find(|(_, target)| letters(target) == name).unwrap();
    let (input, target) = find(&[1, 2, 3]);
    assert_eq!(input[..], [&[0, 1, 2, 3][..], &[0; 12]].concat());
    assert_eq!(target[..], [&[1, 2, 3, 0][..], &[-1; 12]].concat());
    let (input, target) = find(&(1..=15).collect::<Vec<i32>>());
    assert_eq!(input[..], (0..=15).collect::<Vec<i32>>());
    assert_eq!(target[..], (1..=15).chain([0]).collect::<Vec<i32>>());
}

#[test]
fn hostile_data_are_refused_with_the_place() {
    let ten = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
    let line = |text: &str| match Dataset::load("names", text.as_bytes()) {
        Err(DataError::Line { line, column, .. }) => (line, column),
        other => panic!("{text:?}: {other:?}"),
    };
    assert_eq!(line("anna\nbo b\n"), (2, 3));
    assert_eq!(line("anna\nBob\n"), (2, 1));
    assert_eq!(line("anna\r\nbob\r\n"), (1, 5));
    assert_eq!(line("anna\n\nbob\n"), (2, 1));
    assert_eq!(line(""), (1, 1));
    assert_eq!(line("abcdefghijklmnop\n"), (1, 16));
    assert_eq!(line("jos\u{e9}\n"), (1, 4));
    let few = Dataset::load("names", ten.as_bytes());
    assert!(matches!(few, Err(DataError::TooSmall { found: 9, needed: 10, .. })), "{few:?}");
    assert!(Dataset::load("names", format!("{ten}j").as_bytes()).is_ok());
    let empty = Dataset::load("bytes", b"");
    assert!(matches!(empty, Err(DataError::TooSmall { found: 0, .. })), "{empty:?}");
    let large = Dataset::load("names", &vec![b'a'; (64 << 20) + 1]);
    assert!(matches!(large, Err(DataError::TooLarge { .. })), "{large:?}");
    let other = Dataset::load("csv", b"").unwrap_err();
    assert_eq!(other.to_string(), "there is no converter `csv`; there are `names` and `bytes`");
}

#[test]
fn a_context_that_the_data_lack_is_refused() {
    let names = Dataset::load("names", NAMES).unwrap();
    let text = Dataset::load("bytes", &[7; 100]).unwrap();
    let stream = Stream::new(&Seed([0; 32]), STREAM, "");
    for (data, context, fits) in [(&names, 16, true), (&names, 8, false), (&text, 89, true), (&text, 90, false)] {
        assert_eq!(data.batch(&stream, 0, 3, context).is_ok(), fits, "{context}");
        assert_eq!(data.windows(Split::Test, context, 1).is_ok(), fits, "{context}");
    }
    assert!(text.batch(&stream, 0, 1, 0).is_err());
}

#[test]
fn a_batch_depends_on_seed_step_and_row_only() {
    let text = Dataset::load("bytes", SHAKESPEARE).unwrap();
    let stream = |seed: u8| Stream::new(&Seed([seed; 32]), STREAM, "");
    let batch = |seed, step, rows| text.batch(&stream(seed), step, rows, 32).unwrap();
    assert_eq!(batch(1, 5, 4), batch(1, 5, 4));
    assert_ne!(batch(1, 5, 4), batch(1, 6, 4));
    assert_ne!(batch(1, 5, 4), batch(2, 5, 4));
    let (few, many) = (batch(1, 5, 2), batch(1, 5, 4));
    assert_eq!(ints(&few).0, &ints(&many).0[..64], "more rows do not move those before them");
    // A window is where the formula says, inside the training part.
    let train = SHAKESPEARE.len() * 90 / 100;
    for row in 0..4 {
        let draw = u64::from(stream(1).word(5, row));
        let start = ((draw * (train as u64 - 32)) >> 32) as usize;
        let want: Vec<i32> = SHAKESPEARE[start..start + 33].iter().map(|&byte| i32::from(byte)).collect();
        let at = row as usize * 32..row as usize * 32 + 32;
        assert_eq!(ints(&many).0[at.clone()], want[..32]);
        assert_eq!(ints(&many).1[at], want[1..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The text counts up, so that a target names its place (modulo 251).
    #[test]
    fn windows_score_every_target_once(len in 40usize..3000, context in 1u32..200, rows in 1u32..9) {
        let raw: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let data = Dataset::load("bytes", &raw).unwrap();
        prop_assume!(context <= data.spec().context_max);
        for (split, from, to) in [(Split::Validation, 90, 95), (Split::Test, 95, 100)] {
            let (from, to) = (len * from / 100, len * to / 100);
            let mut next = from + 1;
            for batch in data.windows(split, context, rows).unwrap() {
                let (input, target) = ints(&batch);
                prop_assert_eq!(input.len(), (rows * context) as usize);
                for (&byte, &goal) in input.iter().zip(target).filter(|(_, goal)| **goal != PADDING) {
                    prop_assert_eq!(goal, (next % 251) as i32);
                    prop_assert_eq!(byte, ((next - 1) % 251) as i32);
                    next += 1;
                }
            }
            prop_assert_eq!(next, to);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..400)) {
        for converter in ["names", "bytes"] {
            if let Ok(data) = Dataset::load(converter, &raw) {
                let context = data.spec().context_max;
                let rows = data.spec().evaluation_rows(context);
                prop_assert_eq!(scored(&data, Split::Test, context, rows), data.spec().test_targets);
            }
        }
    }
}
