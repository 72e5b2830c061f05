//! The gate and the knobs, on sources as people and attackers write them.

use cairn_program::{Hint, Kind, KnobValue, SOURCE_BYTES_MAX, knobs};

const PROGRAM: &str = "from cairn import relu\n\
    DEPTH = 2            # 1..8\n\
    WIDTH: int = 64      # 32..256 step 16\n\
    LR = -3e-3           # 1e-4..3e-2 log\n\
    ACT = relu           # one of relu, gelu, silu\n\
    BETAS = (0.9, 0.95)\n\
    A, B = 1, True       # plain words\n\
    def f():\n    LOCAL = 3\n";

#[test]
fn constants_are_found_with_their_place_value_and_hint() {
    let found = knobs(PROGRAM).unwrap();
    let names: Vec<&str> = found.iter().map(|k| k.name.as_str()).collect();
    assert_eq!(names, ["DEPTH", "WIDTH", "LR", "ACT", "BETAS[0]", "BETAS[1]", "A", "B"]);
    let texts: Vec<&str> = found.iter().map(|k| &PROGRAM[k.range.clone()]).collect();
    assert_eq!(texts, ["2", "64", "-3e-3", "relu", "0.9", "0.95", "1", "True"]);
    assert_eq!(found[2].value, KnobValue::Float(-3e-3));
    assert_eq!(found[0].hint, Some(Hint::Range { low: 1.0, high: 8.0, log: false, step: None }));
    assert_eq!(found[1].hint, Some(Hint::Range { low: 32.0, high: 256.0, log: false, step: Some(16.0) }));
    assert_eq!(found[2].hint, Some(Hint::Range { low: 1e-4, high: 3e-2, log: true, step: None }));
    assert_eq!(found[3].hint, Some(Hint::OneOf(vec!["relu".into(), "gelu".into(), "silu".into()])));
    assert!(found[4..].iter().all(|k| k.hint.is_none()));
}

#[test]
fn a_hint_that_makes_no_sense_is_only_a_comment() {
    for comment in ["8..1", "0..1 log", "nan..1", "1..inf", "1..8 step 0", "1..8 step", "one of relu", ".."] {
        let found = knobs(&format!("A = 1 # {comment}\n")).unwrap();
        assert_eq!(found[0].hint, None, "{comment}");
    }
}

#[test]
fn attacks_end_at_a_limit_of_the_source() {
    let deep = |open: &str, close: &str| format!("a = {}1{}\n", open.repeat(20_000), close.repeat(20_000));
    let attacks = [
        ("parentheses", deep("(", ")")),
        ("unclosed", "(".repeat(60_000)),
        ("minus", format!("a = {}1\n", "-".repeat(60_000))),
        ("not", format!("a = {}1\n", "not ".repeat(15_000))),
        ("lambda defaults", format!("a = {}1\n", "lambda x=".repeat(7_000))),
        ("lambda after comma", format!("a = {}1\n", "lambda x,y=".repeat(5_000))),
        ("attributes", format!("a = b{}\n", ".c".repeat(30_000))),
        ("calls", format!("a = b{}\n", "()".repeat(30_000))),
        ("conditional", format!("a = {}1\n", "1 if 1 else ".repeat(5_000))),
        ("power", format!("a = 1{}\n", "**1".repeat(20_000))),
        ("too long", format!("#{}", "x".repeat(SOURCE_BYTES_MAX))),
        ("many constants", "a=1\n".repeat(2_000)),
        (
            "blocks",
            (0..300).map(|i| format!("{}if 1:\n", " ".repeat(i))).collect::<String>() + &" ".repeat(300) + "pass\n",
        ),
    ];
    for (name, source) in attacks {
        let diagnostic = knobs(&source).expect_err(name);
        assert_eq!(diagnostic.kind, Kind::Limit, "{name}: {diagnostic}");
    }
}

#[test]
fn what_is_flat_is_not_refused_as_deep() {
    let entries: String = (0..300).map(|i| format!("'k{i}': {i}, ")).collect();
    knobs(&format!("TABLE = {{{entries}}}\nLIST = [{}]\n", "1, ".repeat(1_000))).unwrap();
}

#[test]
fn bad_text_is_a_syntax_error_at_its_place() {
    for (source, line, column) in [("a = 1\nb = \0\n", 2, 5), ("a = 1\r\n", 1, 6), ("é = )\n", 1, 5)] {
        let diagnostic = knobs(source).unwrap_err();
        assert_eq!((diagnostic.kind, diagnostic.line, diagnostic.column), (Kind::Syntax, line, column), "{source:?}");
    }
}

#[test]
fn a_diagnostic_shows_line_caret_and_hint() {
    let source = "a = 1\nb = (2 +* 3)\n";
    let shown = knobs(source).unwrap_err().render(source, "train.py");
    assert!(shown.contains(" --> train.py:2:"), "{shown}");
    assert!(shown.contains("  | b = (2 +* 3)\n  |         ^"), "{shown}");
}
