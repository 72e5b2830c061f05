//! The language by example: `check(source, result)`. What CPython says too is in `cpython`.

use crate::common::evaluated;

fn check(source: &str, expected: &str) {
    let source = if source.contains("result") { source.to_owned() } else { format!("result = {source}\n") };
    assert_eq!(evaluated(&source), expected, "{source}");
}

#[test]
fn integers_have_64_bits_and_say_so() {
    check("9223372036854775807 + 1", "OverflowError");
    check("-9223372036854775807 - 1", "-9223372036854775808");
    check("-9223372036854775807 - 2", "OverflowError");
    check("2 ** 62", "4611686018427387904");
    check("2 ** 63", "OverflowError");
    check("(-9223372036854775807 - 1) // -1", "OverflowError");
    check("abs(-9223372036854775807 - 1)", "OverflowError");
    check("-(-9223372036854775807 - 1)", "OverflowError");
    check("1 ** 9223372036854775807", "1");
    check("(-1) ** 9223372036854775807", "-1");
    check("int(1e19)", "OverflowError");
    check("[3] * 0", "[]");
}

#[test]
fn floats_have_no_text() {
    check("f'{0.5}'", "UnsupportedError");
    check("str(1.5)", "UnsupportedError");
    check("str([1, 0.5])", "UnsupportedError");
    check("f'{7:03d}|{-7:04d}|{12}|{\"ab\":4}|'", "'007|-007|12|ab  |'");
    check("f'{7:.2f}'", "UnsupportedError");
    check("f'{[1, None]} {True!r} {\"a\"!r}'", "\"[1, None] True 'a'\"");
}

#[test]
fn what_cpython_would_do_lazily_or_by_identity_is_refused() {
    check("(i for i in range(3))", "UnsupportedError");
    check("1 is 1", "UnsupportedError");
    check("'a' is 'a'", "UnsupportedError");
    check("None is None", "True");
    check("a = []\nresult = a is a", "True");
    check("zip([1], [2])[0]", "TypeError");
    check("{1: 2}.keys()[0]", "TypeError");
    check("len(zip([1], [2]))", "TypeError");
    check("z = zip([1, 2], [3, 4])\nresult = [list(z), list(z)]", "[[(1, 3), (2, 4)], []]");
    check("d = {1: 2}\nv = d.items()\nresult = [list(v), list(v)]", "[[(1, 2)], [(1, 2)]]");
}

#[test]
fn errors_have_the_kinds_of_python() {
    check("[1, 2][2]", "IndexError");
    check("{'a': 1}['b']", "KeyError");
    check("1 // 0", "ZeroDivisionError");
    check("1.0 % 0", "ZeroDivisionError");
    check("0 ** -1", "ZeroDivisionError");
    check("'a' + 1", "TypeError");
    check("[] < 1", "TypeError");
    check("len(3)", "TypeError");
    check("a, b = [1]\nresult = 0", "ValueError");
    check("(1).x", "AttributeError");
    check("assert 1 > 2, 'no'\nresult = 1", "AssertionError");
    check("math.sqrt(-1)", "NameError");
    check("import math\nresult = math.sqrt(-1)", "ValueError");
    check("import math\nresult = math.exp(1000)", "OverflowError");
    check("{[1]: 2}", "TypeError");
    check("def f(): return x\nx = 1\nresult = f()", "1");
    check("def f():\n    y = x\n    x = 1\n    return y\nx = 2\nresult = f()", "NameError");
    check("def f(a): return a\nresult = f()", "TypeError");
    check("def f(a): return a\nresult = f(1, 2)", "TypeError");
    check("def f(a): return a\nresult = f(1, a=2)", "TypeError");
    check("def f(a, /): return a\nresult = f(a=2)", "TypeError");
    check("def f(*, a): return a\nresult = f(2)", "TypeError");
    check("d = {1: 1}\nfor k in d:\n    d[k + 1] = 1\nresult = d", "ValueError");
    check("a = [1]\na.append(a)\nresult = a == a", "RecursionError");
}

#[test]
fn a_module_that_hides_a_builtin_has_it_until_then() {
    check("a = sum([1, 2])\nsum = 5\nresult = [a, sum]", "[3, 5]");
    check("def f():\n    return max(1, 2)\nmax = min\nresult = f()", "1");
}
