//! The table is complete, its examples run, its refusals refuse at their line.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::{Operation, measure, operations};
use crate::builtin::{self, Home};
use crate::{Kind, Limits, TraceContext, trace};

/// Rows by each name that `of` gives.
fn by_name(of: impl Fn(&Operation) -> &'static [&'static str]) -> BTreeMap<&'static str, u32> {
    let mut count = BTreeMap::new();
    operations().flat_map(|operation| of(operation).iter()).for_each(|name| *count.entry(*name).or_default() += 1);
    count
}

#[test]
fn every_name_has_one_row() {
    for (home, rows) in
        [(Home::Cairn, by_name(|operation| operation.names)), (Home::Tensor, by_name(|operation| operation.methods))]
    {
        let known: Vec<&str> = builtin::names(home).collect();
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), known, "{home:?}");
        assert!(rows.values().all(|&count| count == 1), "{rows:?}");
    }
}

#[test]
fn signatures_name_the_operation() {
    for operation in operations() {
        let (name, rest) = operation.signature.split_once('(').unwrap();
        assert_eq!(name, operation.title());
        assert!(rest.contains(") -> "), "{}", operation.signature);
        assert!(!operation.about.is_empty() && !operation.gradient.is_empty() && !operation.price.is_empty());
    }
}

#[test]
fn examples_run() {
    for operation in operations() {
        let measured = measure::example(operation);
        assert!(measured.is_ok(), "{}: {measured:?}", operation.example);
        let (source, _) = operation.program(operation.example);
        let traced = trace(&source, &context(), &Limits::default());
        assert!(traced.is_ok(), "{}", traced.unwrap_err().render(&source, "train.py"));
    }
}

/// Parameters of a signature, without stars.
fn parameters(operation: &Operation) -> Vec<String> {
    let inside = operation.signature.split_once('(').unwrap().1.rsplit_once(") -> ").unwrap().0;
    let (mut depth, mut names, mut name) = (0, Vec::new(), String::new());
    for c in inside.chars().chain([',']) {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            _ => name.push(c),
        }
    }
    let plain = |text: &String| text.split([':', '=']).next().unwrap().trim().to_owned();
    names.iter().map(plain).filter(|name| !name.is_empty()).collect()
}

#[test]
fn parameters_of_signatures_are_those_of_the_calls() {
    for operation in operations().filter(|operation| !operation.names.is_empty()) {
        let name = operation.title();
        let parameters = parameters(operation);
        // What stands before a `/` has no name.
        let named = parameters.iter().position(|parameter| parameter == "/").map_or(0, |at| at + 1);
        for parameter in parameters.iter().skip(named).filter(|parameter| !parameter.starts_with('*')) {
            // Refused for another reason than an unknown argument.
            let (source, _) = operation.program(&format!("{name}({parameter}=None)"));
            let Err(diagnostic) = trace(&source, &context(), &Limits::default()) else { continue };
            assert!(!diagnostic.message.contains("has no argument"), "{name}: {diagnostic}");
        }
    }
}

#[test]
fn refusals_name_their_line() {
    for operation in operations() {
        for (before, after) in [("", ""), ("(lambda: ", ")()")] {
            let (source, line) = operation.program(&format!("{before}{}{after}", operation.refused));
            let Err(diagnostic) = trace(&source, &context(), &Limits::default()) else {
                panic!("{} is accepted", operation.refused);
            };
            assert_eq!(diagnostic.line, line, "{}: {diagnostic}", operation.refused);
            let kind = diagnostic.kind;
            let known = matches!(kind, Kind::Shape | Kind::Type | Kind::Value | Kind::Index);
            assert!(known, "{}: {diagnostic}", operation.refused);
        }
    }
}

fn context() -> TraceContext {
    measure::context()
}
