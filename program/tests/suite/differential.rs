//! The evaluator and CPython agree: on programs by hand, and on seeded random expressions.

use crate::common::{Dice, evaluated};
use crate::cpython;

const PROGRAMS: &str = include_str!("programs.txt");

#[test]
fn programs_by_hand_give_what_cpython_gives() {
    let programs: Vec<String> = PROGRAMS
        .split("\n%%\n")
        .map(|program| {
            let program = program.trim_matches('\n');
            if program.contains("result") { format!("{program}\n") } else { format!("result = {program}\n") }
        })
        .collect();
    assert!(programs.len() > 100, "{}", programs.len());
    let Some(expected) = cpython::results(&programs) else { return };
    for (program, expected) in programs.iter().zip(expected) {
        assert_eq!(evaluated(program), expected, "{program}");
    }
}

fn number(dice: &mut Dice, depth: u32) -> String {
    if depth == 0 {
        return dice
            .one(&["0", "1", "-1", "2", "3", "-7", "10", "0.5", "-2.5", "1e3", "0.1", "True", "x", "y", "n"])
            .to_owned();
    }
    let d = depth - 1;
    match dice.below(14) {
        0..=6 => {
            let op = dice.one(&["+", "-", "*", "/", "//", "%", "+", "-", "*"]);
            format!("({} {op} {})", number(dice, d), number(dice, d))
        }
        7 => format!("({} ** {})", number(dice, 0), dice.one(&["0", "1", "2", "3", "-1"])),
        8 => format!("(-{})", number(dice, d)),
        9 => format!("({} if {} else {})", number(dice, d), truth(dice, d), number(dice, d)),
        10 => format!("{}({}, {})", dice.one(&["min", "max"]), number(dice, d), number(dice, d)),
        11 => format!("abs({})", number(dice, d)),
        12 => format!("sum([{}, {}])", number(dice, d), number(dice, d)),
        _ => format!("[{}, {}][{}]", number(dice, d), number(dice, d), dice.one(&["0", "1", "-1", "-2", "2"])),
    }
}

fn truth(dice: &mut Dice, depth: u32) -> String {
    if depth == 0 {
        return dice.one(&["True", "False", "x", "[]", "''", "'a'", "0.0", "None"]).to_owned();
    }
    let d = depth - 1;
    match dice.below(6) {
        0 => format!("(not {})", truth(dice, d)),
        1 => format!("({} and {})", truth(dice, d), truth(dice, d)),
        2 => format!("({} or {})", truth(dice, d), truth(dice, d)),
        3 => format!("({} in [{}, {}])", number(dice, d), number(dice, d), number(dice, d)),
        _ => {
            let (a, b) = (dice.one(&["<", "<=", "==", "!=", ">", ">="]), dice.one(&["<", "==", ">="]));
            format!("({} {a} {} {b} {})", number(dice, d), number(dice, d), number(dice, d))
        }
    }
}

#[test]
fn random_expressions_give_what_cpython_gives() {
    let seed = 20_261;
    let mut dice = Dice(seed);
    let programs: Vec<String> = (0..3_000)
        .map(|i| {
            let value = if i % 3 == 0 { truth(&mut dice, 4) } else { number(&mut dice, 4) };
            format!("x = 5\ny = -0.75\nn = 1234567\nresult = {value}\n")
        })
        .collect();
    let Some(expected) = cpython::results(&programs) else { return };
    let mut large = 0;
    for (program, expected) in programs.iter().zip(expected) {
        let got = evaluated(program);
        // Python's integers are larger, and its complex numbers are ours to refuse.
        if got == "OverflowError" && expected != got || expected.contains('j') {
            large += 1;
            continue;
        }
        assert_eq!(got, expected, "seed {seed}\n{program}");
    }
    assert!(large < 150, "{large} of 3000 are beyond 64 bits");
}
