//! Programs that are broken at random: refused or traced, but never a fault of the tracer.

use std::collections::BTreeMap;

use cairn_program::{Kind, Limits, trace};

use crate::common::{Dice, text};

const EXTRA: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "f\"{",
    "}\"",
    ":",
    ",",
    "lambda x:",
    "for i in range(3)",
    "if",
    "else",
    "=",
    "+=",
    "**",
    "//",
    "%",
    "@",
    "-1",
    "0",
    "1e308",
    "9223372036854775807",
    "-9223372036854775808",
    "None",
    "True",
    "...",
    "x",
    "def f(x):\n    return f(x)\n",
    "while True:\n    pass\n",
    "*",
    "not ",
    " in ",
    " is ",
    "\n",
    "\n    ",
    "'",
    "\"\"\"",
    "\\",
    "é",
    ".shape",
    "[:, 1:]",
    "[...]",
    ".T",
    ".reshape(",
    "range(",
    "sum(",
    "zip(",
    "max(",
    "'a'*",
    "[0]*",
    "math.",
    "param('z', 3, 4)",
    "[::-1]",
    ".sum()",
    ".mean(-1)",
    "concat([",
    "2 ** 63",
    "return",
    "assert ",
    "//0",
    "%0",
    "sorted(",
    "dict(",
    ".items()",
    "range(0, 9, 4611686018427387904)[::4]",
    "in range(5)",
    "-(-9223372036854775807 - 1)",
    "[:, ::3]",
    "[..., tokens]",
    ".cumsum(0)",
    ".flip(1)",
    "topk(",
    "conv1d(",
];

fn tokens(source: &str) -> Vec<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| !word(c)).filter(|&end| end > 0).unwrap_or(if word(first) {
            rest.len()
        } else {
            first.len_utf8()
        });
        let (token, after) = rest.split_at(end);
        parts.push(token);
        rest = after;
    }
    parts
}

/// Words for words and numbers for numbers mostly, so that the parser lets most of them through.
fn mutant(dice: &mut Dice, tokens: &[&str]) -> String {
    let word = |token: &str| token.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
    let words: Vec<usize> = (0..tokens.len()).filter(|&i| word(tokens[i])).collect();
    let mut parts: Vec<&str> = tokens.to_vec();
    for _ in 0..=dice.below(3) {
        let at = words[dice.below(words.len() as u64) as usize].min(parts.len() - 1);
        match dice.below(12) {
            0 => drop(parts.remove(at)),
            1 => parts.insert(at, dice.one(EXTRA)),
            2 => {
                parts[at] =
                    dice.one(&["0", "-1", "1.5", "9223372036854775807", "None", "[]", "()", "''", "{}", "x", "h"])
            }
            3 => parts[at] = dice.one(EXTRA),
            4 => parts.insert(
                at + 1,
                dice.one(&["[0]", "[-1]", ".shape", ".T", "()", "[::-1]", ".sum()", " + 1", " // 0", "[None]"]),
            ),
            _ => parts[at] = tokens[words[dice.below(words.len() as u64) as usize]],
        }
    }
    if dice.below(4) == 0 {
        let at = dice.below(parts.len() as u64) as usize;
        let end = (at + dice.below(60) as usize).min(parts.len());
        parts.drain(at..end);
    }
    parts.concat()
}

#[test]
fn broken_programs_are_refused_by_the_rules_only() {
    let seed = 7;
    let mut dice = Dice(seed);
    let mut context = text();
    let mut kinds = BTreeMap::<&str, u32>::new();
    // Budgets that buy few steps: schedules are evaluated for each.
    let sources = [
        (include_str!("gpt.py"), 5_000_000_000_000),
        (include_str!("example.py"), 5_000_000_000_000),
        (include_str!("shapes.py"), 20_000_000_000),
        (crate::common::NAMES, 5_000_000_000_000),
    ];
    for (source, budget) in sources {
        context.budget = budget;
        let tokens = tokens(source);
        for _ in 0..250 {
            let broken = mutant(&mut dice, &tokens);
            let result = trace(&broken, &context, &Limits { fuel: 20_000, ..Limits::default() });
            let kind = match &result {
                Ok(_) => "traced",
                Err(diagnostic) => {
                    let _ = diagnostic.render(&broken, "train.py");
                    assert_ne!(diagnostic.kind, Kind::Internal, "seed {seed}: {diagnostic}\n{broken}");
                    diagnostic.kind.name()
                }
            };
            *kinds.entry(kind).or_default() += 1;
        }
    }
    println!("{kinds:?}");
    assert!(kinds.len() > 5 && kinds.contains_key("traced"), "{kinds:?}");
}
