//! Attacks end at the limit that is meant for them, at once, whatever they try.

use std::time::{Duration, Instant};

use cairn_program::{Kind, Limits, evaluate_text, trace};

use crate::common::{model, rows};

/// Longer than any attack may take here: debug builds on busy machines.
const PATIENCE: Duration = Duration::from_secs(20);

fn attacked(name: &str, source: &str, kind: Kind, word: &str) {
    let started = Instant::now();
    let diagnostic = evaluate_text(source, &Limits::default()).expect_err(name);
    assert!(started.elapsed() < PATIENCE, "{name}: {:?}", started.elapsed());
    assert_eq!(diagnostic.kind, kind, "{name}: {diagnostic}");
    assert!(diagnostic.message.contains(word), "{name}: {diagnostic}");
    let _ = diagnostic.render(source, "train.py");
}

#[test]
fn nesting() {
    let deep = |open: &str, close: &str, n: usize| format!("a = {}1{}\n", open.repeat(n), close.repeat(n));
    for (name, source) in [
        ("parentheses", deep("(", ")", 20_000)),
        ("lists", deep("[", "]", 100)),
        ("unary", deep("-", "", 100)),
        ("powers", format!("a = 1{}\n", "**1".repeat(100))),
        ("sum", format!("a = 1{}\n", "+1".repeat(100))),
        ("lambdas", format!("a = {}1\n", "lambda: ".repeat(100))),
        ("lambda defaults", format!("a = {}1\n", "lambda x=".repeat(7_000))),
        ("calls", format!("a = len{}\n", "()".repeat(100))),
        ("attributes", format!("a = len{}\n", ".a".repeat(100))),
        ("conditional", format!("a = {}1\n", "1 if 1 else ".repeat(100))),
        (
            "blocks",
            (0..100).map(|i| format!("{}if 1:\n", " ".repeat(i))).collect::<String>() + &" ".repeat(100) + "pass\n",
        ),
        ("comprehensions", deep("[x for x in ", "]", 100)),
        ("f-strings", format!("a = {}1{}\n", "f'{".repeat(150), "}'".repeat(150))),
        ("targets", format!("{}a{} = 1\n", "[".repeat(100), "]".repeat(100))),
    ] {
        attacked(name, &source, Kind::Limit, "nest");
    }
}

#[test]
fn syntax() {
    attacked("nodes", &format!("a = [{}]\n", "1,".repeat(25_000)), Kind::Limit, "syntax nodes");
    attacked("bytes", &"#".repeat(70_000), Kind::Limit, "bytes");
}

#[test]
fn loops() {
    for (name, source) in [
        ("while", "while True:\n    pass\n".to_owned()),
        ("nested", "for a in range(60000):\n    for b in range(60000):\n        pass\n".to_owned()),
        ("product", "a = [0 for i in range(60000) for j in range(60000) if 0]\n".to_owned()),
        ("a list that grows", "a = [1]\nfor x in a:\n    a.append(x)\n".to_owned()),
        ("empty tests", "a = all(x < 0 or True for x in range(60000) for y in range(100))\n".to_owned()),
        (
            "equality of shared halves",
            "a = (1,)\nb = (1,)\nfor i in range(30):\n    a = (a, a)\n    b = (b, b)\nresult = a == b\n".to_owned(),
        ),
        ("search", "s = 'a' * 1000000\nfor i in range(1000):\n    t = 'b' in s\n".to_owned()),
        ("count", "a = [0] * 60000\nfor i in range(60000):\n    a.count(1)\n".to_owned()),
        ("insert at the front", "a = []\nfor i in range(60000):\n    a.insert(0, i)\n".to_owned()),
        ("sorting", "for i in range(1000):\n    a = sorted(range(60000), key=lambda x: -x)\n".to_owned()),
        ("joining nothing", "for i in range(60000):\n    a = ''.join([''] * 1000)\n".to_owned()),
        ("long keys", "k = 'a' * 1000000\nd = {}\nfor i in range(60000):\n    d[k] = i\n".to_owned()),
        ("walking text", "k = 'a' * 1000000\nfor i in range(60000):\n    n = len(k)\n".to_owned()),
    ] {
        attacked(name, &source, Kind::Fuel, "evaluation steps");
    }
    attacked(
        "text of shared halves",
        "a = [1]\nfor i in range(30):\n    a = [a, a]\nresult = str(a)\n",
        Kind::Memory,
        "bytes",
    );
    attacked("a long range", "for i in range(10 ** 9):\n    pass\n", Kind::Limit, "range");
}

#[test]
fn recursion() {
    attacked("a function", "def f(n):\n    return f(n + 1)\nf(0)\n", Kind::Recursion, "calls");
    attacked("through a builtin", "def f(n):\n    return max([n], key=f)\nf(0)\n", Kind::Recursion, "calls");
    attacked("deep values", "a = ()\nfor i in range(1000):\n    a = (a,)\nresult = a < a\n", Kind::Recursion, "nested");
    // Each call as deep as the syntax allows: the stack holds all of it.
    let deep = format!("def f(n):\n    return {}f(n + 1){}\nresult = f(0)\n", "(0, [".repeat(28), "])".repeat(28));
    attacked("deep calls", &deep, Kind::Recursion, "calls");
    let deep = format!(
        "def f(n):\n    return {}f(n + 1){}\nresult = f(0)\n",
        "max([n], key=lambda x: ".repeat(20),
        ")".repeat(20)
    );
    attacked("deep lambdas", &deep, Kind::Recursion, "calls");
}

#[test]
fn memory() {
    for (name, source) in [
        ("text", "a = 'x'\nwhile True:\n    a = a + a\n"),
        ("repetition", "a = [0] * 10000000\n"),
        ("repetition that overflows", "a = 'ab' * 9223372036854775807\n"),
        ("tuples", "a = (1,)\nwhile True:\n    a = a * 2\n"),
        ("lists", "a = [0] * 1000\nb = []\nwhile True:\n    b.append(a[:])\n"),
        ("f-strings", "a = 'x' * 100000\nwhile True:\n    a = f'{a}{a}'\n"),
        ("replacement", "a = 'x' * 10000\nwhile True:\n    a = a.replace('x', 'xxxxxxxxxx')\n"),
        ("joining", "a = 'x' * 100000\nwhile True:\n    a = a.join([a, a, a, a])\n"),
    ] {
        let diagnostic = evaluate_text(source, &Limits::default()).expect_err(name);
        assert!(matches!(diagnostic.kind, Kind::Memory | Kind::Fuel), "{name}: {diagnostic}");
    }
    attacked(
        "scopes",
        "def f(a, b, c, d, e, f, g, h):\n    return 0\nfor i in range(60000):\n    for j in range(60):\n        f(1, 2, 3, 4, 5, 6, 7, 8)\n",
        Kind::Fuel,
        "steps",
    );
    attacked("text", "a = 'x'\nwhile True:\n    a = a + a\n", Kind::Memory, "67108864");
    attacked("huge repetition", "a = 'ab' * 9223372036854775807\n", Kind::Fuel, "");
}

#[test]
fn integers() {
    for source in
        ["a = 9 ** 9 ** 9\n", "a = 10 ** 19\n", "a = 2\nwhile True:\n    a = a * a\n", "a = 3037000500 * 3037000500\n"]
    {
        attacked(source, source, Kind::Overflow, "64 bits");
    }
}

#[test]
fn names() {
    let wide: String = (0..3_000).map(|i| format!("{}{i} = {i}\n", "n".repeat(10))).collect();
    evaluate_text(&wide, &Limits::default()).expect("many names are fine");
    let long = "n".repeat(60_000);
    evaluate_text(&format!("{long} = 1\n"), &Limits::default()).expect("a long name is fine");
    let diagnostic = evaluate_text(&format!("{long} = 1\nb = {}x\n", &long[..4_000]), &Limits::default()).unwrap_err();
    assert_eq!(diagnostic.kind, Kind::Name);
    assert!(evaluate_text(&format!("a = [{}]\n", "nowhere, ".repeat(3_000)), &Limits::default()).is_err());
}

#[test]
fn graphs() {
    let limits = Limits::default();
    for (body, kind, word) in [
        ("for i in range(60000):\n    h = h + 1.5", Kind::Limit, "nodes"),
        ("for i in range(60000):\n    h = h + param(f'b{i}', 8)", Kind::Limit, "parameters"),
        ("for i in range(60000):\n    h = concat([h, h], dim=0)", Kind::Limit, "elements"),
        ("for i in range(11000):\n    h = softmax(h)", Kind::Limit, "nodes"),
        ("for i in range(9000):\n    h = softmax(h)", Kind::Budget, "evaluations alone"),
        ("while is_training():\n    h = h * 1.0", Kind::Limit, "nodes"),
    ] {
        let source = model(body);
        let started = Instant::now();
        let diagnostic = trace(&source, &rows(), &limits).expect_err(body);
        assert!(started.elapsed() < PATIENCE, "{body}");
        assert!(diagnostic.kind == kind && diagnostic.message.contains(word), "{body}: {diagnostic}");
    }
}

#[test]
fn tables() {
    let with = |schedule: &str| {
        model("")
            + schedule
            + "\nfrom cairn import adamw, group, sgd\ndef optimizer():\n    return [group('*', sgd(lr=lr))]\n"
    };
    for (schedule, kind, word) in [
        (
            "def lr(step, steps):\n    for i in range(step):\n        pass\n    return 1.0\n",
            Kind::Fuel,
            "256 evaluation steps at step",
        ),
        ("def lr(step, steps):\n    while True:\n        pass\n", Kind::Fuel, "at step 0"),
        (
            "def lr(step, steps):
    return lr(step, steps)
",
            Kind::Fuel,
            "at step 0",
        ),
        ("def lr(step, steps):\n    return float(len('x' * 9999999999))\n", Kind::Fuel, "at step 0"),
    ] {
        let source = with(schedule);
        let diagnostic = trace(&source, &rows(), &Limits::default()).expect_err(schedule);
        assert!(diagnostic.kind == kind && diagnostic.message.contains(word), "{schedule}: {diagnostic}");
    }
    let many: String = (0..70).map(|i| format!("group('x{i}', sgd(lr=lambda s, n: 1.0)), ")).collect();
    let weights: String = (0..70).map(|i| format!("h = h + param('x{i}', (8,))\n")).collect();
    let source = model(&weights)
        + &format!("from cairn import group, sgd\ndef optimizer():\n    return [{many}group('*', sgd())]\n");
    let diagnostic = trace(&source, &rows(), &Limits::default()).unwrap_err();
    assert!(diagnostic.kind == Kind::Limit && diagnostic.message.contains("64 schedules"), "{diagnostic}");
    let tight = Limits { tables_fuel: 1_000, ..Limits::default() };
    let source = with("def lr(step, steps):\n    return 1.0 * step\n");
    let diagnostic = trace(&source, &rows(), &tight).unwrap_err();
    assert!(diagnostic.kind == Kind::Fuel && diagnostic.message.contains("together"), "{diagnostic}");
}

#[test]
fn limits_are_exact() {
    let source = "a = [i * i for i in range(100)]\nresult = sum(a)\n";
    let enough = |fuel, memory| evaluate_text(source, &Limits { fuel, memory, ..Limits::default() });
    let smallest = |fits: &dyn Fn(u64) -> bool| {
        let (mut low, mut high) = (0u64, 1 << 20);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if fits(middle) { high = middle } else { low = middle }
        }
        high
    };
    let fuel = smallest(&|fuel| enough(fuel, 1 << 26).is_ok());
    let memory = smallest(&|memory| enough(1 << 20, memory).is_ok());
    for _ in 0..3 {
        assert!(enough(fuel, memory).is_ok());
        assert_eq!(enough(fuel - 1, memory).unwrap_err().kind, Kind::Fuel);
        assert_eq!(enough(fuel, memory - 1).unwrap_err().kind, Kind::Memory);
    }
}
