//! What is refused: the kind, the place, the hint.

use cairn_program::{Kind, Limits, evaluate_text};

use crate::common::{model, refused, rows};

/// Source with `«` before what is blamed, the kind, and a word of the hint.
const CONSTRUCTS: &[(&str, Kind, &str)] = &[
    ("«class A:\n    pass\n", Kind::Unsupported, "functions"),
    ("«try:\n    a = 1\nexcept ValueError:\n    pass\n", Kind::Unsupported, "assert"),
    ("«raise ValueError\n", Kind::Unsupported, "assert"),
    ("«with a:\n    pass\n", Kind::Unsupported, "stop_gradient"),
    ("def f():\n    «global x\n", Kind::Unsupported, "return"),
    ("def f():\n    x = 1\n    def g():\n        «nonlocal x\n", Kind::Unsupported, "return"),
    ("a = 1\n«del a\n", Kind::Unsupported, "freed"),
    ("«match 1:\n    case 1:\n        pass\n", Kind::Unsupported, "elif"),
    ("«type A = int\n", Kind::Unsupported, "leave"),
    ("import «torch\n", Kind::Unsupported, "PyTorch"),
    ("import «numpy as np\n", Kind::Unsupported, "PyTorch"),
    ("import «os\n", Kind::Unsupported, "no files"),
    ("import «random\n", Kind::Unsupported, "uniform"),
    ("«from torch import nn\n", Kind::Unsupported, "PyTorch"),
    ("«from . import a\n", Kind::Unsupported, "`cairn` and `math`"),
    ("from cairn import «*\n", Kind::Unsupported, "name what"),
    ("from cairn import «sofmax\n", Kind::Name, "'softmax'"),
    ("from cairn import «conv2\n", Kind::Name, "'conv2d'"),
    ("from cairn import «randn\n", Kind::Name, "normal(shape)"),
    ("from math import «sqr\n", Kind::Name, "'sqrt'"),
    ("if «__name__ == '__main__':\n    pass\n", Kind::Unsupported, "not run as a script"),
    ("«print(1)\n", Kind::Unsupported, "assert"),
    ("a = «open('f')\n", Kind::Unsupported, "read or write"),
    ("a = «eval('1')\n", Kind::Unsupported, "values are"),
    ("a = «isinstance(1, int)\n", Kind::Unsupported, "values are"),
    ("a = «torch.zeros(3)\n", Kind::Name, "from cairn"),
    ("a = «relu(1)\n", Kind::Name, "from cairn import relu"),
    ("a = «sqrt(2)\n", Kind::Name, "from cairn import sqrt"),
    ("a = «cosh(2)\n", Kind::Name, "math.cosh"),
    ("width = 3\na = «widht\n", Kind::Name, "'width'"),
    (
        "def f(n):\n    total = 0\n    for i in range(n):\n        total += «totl\n    return total\n",
        Kind::Name,
        "'total'",
    ),
    ("«@wrap\ndef f():\n    pass\n", Kind::Unsupported, "wrap"),
    ("async def «f():\n    pass\n", Kind::Unsupported, "plain"),
    ("def f(«**k):\n    pass\n", Kind::Unsupported, "dict"),
    ("def f(a, «a):\n    pass\n", Kind::Syntax, ""),
    ("def f():\n    «yield 1\n", Kind::Unsupported, "list"),
    ("a = «{1, 2}\n", Kind::Unsupported, "dict"),
    ("a = «{x for x in [1]}\n", Kind::Unsupported, "dict"),
    ("a = («b := 1)\n", Kind::Unsupported, "line"),
    ("a = «(i for i in [1])\n", Kind::Unsupported, "["),
    ("a = sum(«(i for i in [1]), 2)\n", Kind::Unsupported, "["),
    ("a = «b'x'\n", Kind::Unsupported, "text"),
    ("a = «1j\n", Kind::Unsupported, "floats"),
    ("a = «~1\n", Kind::Unsupported, "mask"),
    ("a = «1 << 2\n", Kind::Unsupported, "*"),
    ("a = «1 | 2\n", Kind::Unsupported, "or"),
    ("a = dict(«**{})\n", Kind::Unsupported, "out"),
    ("a = {**«{}}\n", Kind::Unsupported, "update"),
    ("a = f'«{1=}'\n", Kind::Unsupported, "out"),
    ("a = f'«{1:.2f}'\n", Kind::Unsupported, "widths"),
    ("a = [1]\n«a.b = 3\n", Kind::Unsupported, "dict"),
    ("a = «99999999999999999999\n", Kind::Overflow, "float"),
    ("a = «1e999\n", Kind::Overflow, ""),
    ("«break\n", Kind::Syntax, ""),
    ("for i in [1]:\n    def f():\n        «continue\n", Kind::Syntax, ""),
    ("«return 1\n", Kind::Syntax, ""),
    ("a = [1, 2]\n«a[0:1] = [3]\n", Kind::Unsupported, ""),
    ("a = dict(x=1, «x=2)\n", Kind::Syntax, ""),
];

#[test]
fn every_refused_construct_is_blamed_at_its_place_with_a_hint() {
    for (marked, kind, hint) in CONSTRUCTS {
        let at = marked.find('«').unwrap();
        let source = marked.replace('«', "");
        let line = source[..at].matches('\n').count() as u32 + 1;
        let column = (at - source[..at].rfind('\n').map_or(0, |at| at + 1)) as u32 + 1;
        let diagnostic = evaluate_text(&source, &Limits::default()).expect_err(&source);
        let place = (diagnostic.line, diagnostic.column);
        assert_eq!((diagnostic.kind, place), (*kind, (line, column)), "{}", diagnostic.render(&source, "t.py"));
        let said = diagnostic.hint.clone().unwrap_or_default();
        assert!(said.contains(hint), "{source}: {said}");
        assert!(!hint.is_empty() || said.is_empty() || *kind != Kind::Unsupported || said.contains(hint));
    }
}

#[test]
fn what_fails_while_it_is_evaluated_is_blamed_at_its_place() {
    for (marked, kind) in [
        ("a = [1, 2]\nb = «a[5]\n", Kind::Index),
        ("a = 1\nb = (2 +\n     «a // 0)\n", Kind::ZeroDivision),
        ("assert «1 > 2, 'no'\n", Kind::Assertion),
        ("a = len(«[1].nothing)\n", Kind::Attribute),
        ("x = f'a{«0.5}'\n", Kind::Unsupported),
        ("a, «b[0] = 1, 2\nb = 3\n", Kind::Name),
    ] {
        let at = marked.find('«').unwrap();
        let source = marked.replace('«', "");
        let line = source[..at].matches('\n').count() as u32 + 1;
        let diagnostic = evaluate_text(&source, &Limits::default()).expect_err(&source);
        assert_eq!((diagnostic.kind, diagnostic.line), (kind, line), "{}", diagnostic.render(&source, "t.py"));
    }
}

#[test]
fn a_diagnostic_shows_the_calls_under_way() {
    let source = "def inner(a):\n    return a[3]\n\ndef outer(a):\n    return inner(a)\n\nresult = outer([1])\n";
    let diagnostic = evaluate_text(source, &Limits::default()).unwrap_err();
    assert_eq!((diagnostic.line, diagnostic.column), (2, 12));
    let stack: Vec<_> = diagnostic.stack.iter().map(|f| (f.function.as_str(), f.line, f.column)).collect();
    assert_eq!(stack, [("outer", 7, 10), ("inner", 5, 12)]);
    let shown = diagnostic.render(source, "train.py");
    assert!(shown.contains(" --> train.py:2:12\n  |     return a[3]\n  |            ^^^^\n"), "{shown}");
    assert!(shown.contains("  in inner, called at train.py:5:12\n  in outer, called at train.py:7:10\n"), "{shown}");
}

/// Body of a model, the line of the whole source that is blamed, the kind, a word of message or hint.
#[test]
fn misfits_of_tensors_name_their_line() {
    // The body starts at line 7.
    for (body, line, kind, word) in [
        ("h = h @ param('w', (9, 8))", 7, Kind::Shape, "inner lengths 8 and 9"),
        ("h = h.reshape(4, 7)", 7, Kind::Shape, "elements"),
        ("h = h.reshape(5, -1)", 7, Kind::Shape, "divide"),
        ("h = h + zeros(3)", 7, Kind::Shape, "broadcast"),
        ("z = 1\nh = h.transpose(1, 3)", 8, Kind::Shape, "axis 3 is out of range"),
        ("h = softmax(h, dim=5)", 7, Kind::Shape, "axis 5"),
        ("h = h[:, 20]", 7, Kind::Index, "length 16"),
        ("h = h[1, 2, 3, 4]", 7, Kind::Shape, "4 indices"),
        ("h = h[:, 5:5]", 7, Kind::Shape, "empty"),
        ("h = h[:, ::-1]", 7, Kind::Value, "step above 0"),
        ("h = h[0, :, x]", 7, Kind::Value, "side by side"),
        ("h = h[x, x]", 7, Kind::Value, "more than one tensor"),
        ("h = h[h > 0]", 7, Kind::Type, "where"),
        ("h[0] = 1", 7, Kind::Type, "where"),
        ("if h > 0:\n    h = h * 2", 7, Kind::Type, "where"),
        ("for row in h:\n    pass", 7, Kind::Type, "chunk"),
        ("h = h * x", 0, Kind::Shape, "broadcast"),
        ("h = x // x", 7, Kind::Type, "whole numbers"),
        ("h = x % -2", 7, Kind::Type, "whole numbers"),
        ("h = h + 'a'", 7, Kind::Type, "str"),
        ("h = exp(x, 2)", 7, Kind::Type, "at most 1"),
        ("h = softmax(h, dmi=1)", 7, Kind::Type, "'dim'"),
        ("h = attention(h, h, h)", 7, Kind::Shape, "four axes"),
        ("h = param('w', (3, 0))", 7, Kind::Shape, "at least 1"),
        ("h = param('wte', (3, 3))", 7, Kind::Shape, "elsewhere"),
        ("h = param('a/b', (3, 3))", 7, Kind::Value, "letters"),
        ("h = param('w', (3, 3), init='norma')", 7, Kind::Value, "normal"),
        ("h = zeros(1, 1, 1, 1, 1, 1, 1, 1, 1)", 7, Kind::Limit, "axes"),
        ("h = zeros(65536, 65536)", 7, Kind::Limit, "elements"),
        ("h = h.item()", 7, Kind::Attribute, "no values"),
        ("h = h.sofmax(-1)", 7, Kind::Attribute, "'softmax'"),
        ("h = h.index_select(1, x)", 7, Kind::Attribute, "x[:, ids]"),
        ("h = conv2d(h, h)", 7, Kind::Shape, "4 axes"),
        ("h = conv1d(h, zeros(8, 15, 3))", 7, Kind::Shape, "16 channels"),
        ("h = conv1d(h, zeros(4, 16, 9))", 7, Kind::Shape, "does not fit"),
        ("h = conv1d(h, zeros(4, 16, 3), zeros(3))", 7, Kind::Shape, "a bias of shape [3]"),
        ("h = conv1d(h, zeros(4, 16, 3), stride=0)", 7, Kind::Shape, "at least 1"),
        ("h = conv1d(h, zeros(4, 16, 3), stride=(1, 2))", 7, Kind::Shape, "1 of them"),
        ("h = conv1d(h, zeros(4, 16, 3), padding='full')", 7, Kind::Value, "no padding"),
        ("h = conv1d(h, zeros(4, 16, 3), stride=2, padding='same')", 7, Kind::Value, "stride"),
        ("h = conv1d(h, zeros(4, 8, 3), groups=3)", 7, Kind::Shape, "3 groups"),
        ("h = max_pool2d(h[None], 2, stride=1)", 7, Kind::Value, "overlap"),
        ("h = max_pool2d(h[None], (17, 1))", 7, Kind::Shape, "length 16"),
        ("h = gather(h, 3, x)", 7, Kind::Shape, "axis 3"),
        ("h = gather(h, 1, h)", 7, Kind::Type, "I32"),
        ("h = scatter_add(h, 2, to_int(h), h[1:])", 7, Kind::Shape, "equal"),
        ("h = scatter_add(h, 1, to_int(h)[1:], h[1:])", 7, Kind::Shape, "x is [4, 16, 8]"),
        ("h = topk(h, 9)[0]", 7, Kind::Shape, "axis of length 8"),
        ("h = flip(h, 5)", 7, Kind::Shape, "axis 5"),
        ("h = where(h, x, 'a')", 7, Kind::Type, "str"),
        ("h = einsum('btc,cd', h, zeros(8, 8))", 7, Kind::Value, "->"),
        ("h = einsum('btc,cd->btd', h, zeros(9, 8))", 7, Kind::Shape, "'c' has lengths"),
        ("h = einsum('bbc->bc', h)", 7, Kind::Shape, "'b' has lengths [4] and [16]"),
        ("h = einsum('btc->btcc', h)", 7, Kind::Value, "twice in the result"),
        ("h = einsum('bt->b', h)", 7, Kind::Shape, "2 letters"),
        ("h = einsum('btc->btz', h)", 7, Kind::Value, "no operand"),
        ("h = einsum('...c->c', h)", 7, Kind::Value, "letter"),
        ("h = max(h, 0.0)", 7, Kind::Type, "maximum"),
        ("h = math.exp(h)", 7, Kind::Type, "exp"),
        ("h = float(h.sum())", 7, Kind::Type, "no numbers"),
        ("h = h.var(-1)", 7, Kind::Type, "correction"),
        ("h = h.T", 7, Kind::Shape, "mT"),
        ("h = dropout(h, 1.5)", 7, Kind::Value, "below 1"),
        ("h = h * (math.inf - math.inf)", 7, Kind::Value, "not a number"),
        ("a, b = h", 7, Kind::Type, "split"),
        ("h = concat([h, zeros(4, 15, 8)], dim=-1)", 7, Kind::Shape, "equal"),
        ("h = chunk(h, 3, dim=-1)[0]", 7, Kind::Shape, "equal parts"),
    ] {
        let source = model(body);
        let diagnostic = refused(&source, &rows());
        let shown = diagnostic.render(&source, "train.py");
        let line = if line == 0 { diagnostic.line } else { line };
        assert_eq!((diagnostic.kind, diagnostic.line), (kind, line), "{shown}");
        assert!(shown.contains(word), "{word}: {shown}");
        assert_eq!(diagnostic.stack.first().map(|frame| frame.function.as_str()), Some("model"), "{shown}");
    }
}

const REST: &str =
    "from cairn import param, embedding, relu, adamw, group, phase, optimiser, dropout, is_training, normal\n";
const MODEL: &str = "def model(x):\n    return embedding(x, param('w', (27, 8))) @ param('head', (8, 27))\n";

#[test]
fn a_program_that_lacks_something_is_told_what() {
    for (source, kind, word) in [
        ("BATCH = 4\n".to_owned(), Kind::Program, "def model"),
        (MODEL.to_owned(), Kind::Program, "BATCH = 32"),
        (format!("BATCH = 0\n{MODEL}"), Kind::Program, "0 rows"),
        (format!("BATCH = 4.5\n{MODEL}"), Kind::Type, "int is needed"),
        (format!("BATCH = 4\nCONTEXT = 8\n{MODEL}"), Kind::Program, "16 positions"),
        ("BATCH = 4\nmodel = 3\n".to_owned(), Kind::Program, "must be a function"),
        ("BATCH = 4\ndef model(x):\n    return 3\n".to_owned(), Kind::Program, "not a tensor"),
        ("BATCH = 4\ndef model(x):\n    return embedding(x, param('w', (27, 8)))\n".to_owned(), Kind::Shape, "[4, 16, 27]"),
        ("BATCH = 4\ndef model(x):\n    return embedding(x, embedding.w)\n".to_owned(), Kind::Attribute, "'w'"),
        (format!("BATCH = 4\nEMA = 1.0\n{MODEL}"), Kind::Value, "below 1"),
        (format!("BATCH = 4\nEMA = 'slow'\n{MODEL}"), Kind::Program, "a decay"),
        (format!("BATCH = 4\n{MODEL}def EMA(step, steps):\n    return 1.5\n"), Kind::Value, "EMA gives 1.5"),
        (format!("BATCH = 4\n{MODEL}augment = 3\n"), Kind::Program, "must be a function"),
        (format!("BATCH = 4\n{MODEL}def augment(x):\n    return x[:, 1:]\n"), Kind::Shape, "ids of shape [4, 15]"),
        (format!("BATCH = 4\n{MODEL}def augment(x):\n    return x * 1.5\n"), Kind::Shape, "floats of shape"),
        (format!("BATCH = 4\n{MODEL}def augment(x):\n    return 7\n"), Kind::Program, "not a tensor"),
        (format!("BATCH = 4\n{MODEL}def loss(x, y):\n    return 1.0\n"), Kind::Program, "cross_entropy"),
        (format!("BATCH = 4\n{MODEL}def loss(x, y):\n    return model(x)\n"), Kind::Shape, "mean()"),
        (format!("BATCH = 4\n{MODEL}def optimizer():\n    return 3\n"), Kind::Type, "iterable"),
        (format!("BATCH = 4\n{MODEL}def optimizer():\n    return [adamw()]\n"), Kind::Program, "group("),
        (format!("BATCH = 4\n{MODEL}def optimizer():\n    return [group('w', adamw())]\n"), Kind::Program, "'head'"),
        (format!("BATCH = 4\n{MODEL}def optimizer():\n    return [group('*', relu)]\n"), Kind::Type, "optimiser"),
        (format!("{MODEL}PHASES = []\n"), Kind::Program, "1 to"),
        (format!("{MODEL}PHASES = [3]\n"), Kind::Program, "phase("),
        (format!("{MODEL}PHASES = [phase(batch=4, share=0)]\n"), Kind::Value, "above 0"),
        (format!("BATCH = 4\n{MODEL}w = param('w', (3, 3))\n"), Kind::Program, "inside of model"),
        (format!("BATCH = 4\n{MODEL}lr = lambda step: 1.0\n"), Kind::Type, "positional"),
        (format!("BATCH = 4\n{MODEL}def lr(step, steps):\n    return 'a'\n"), Kind::Type, "number"),
        (format!("BATCH = 4\n{MODEL}def lr(step, steps):\n    return 1 / (step - 20)\n"), Kind::ZeroDivision, "zero"),
        (format!("BATCH = 4\n{MODEL}def lr(step, steps):\n    return 1e300 * 1e300\n"), Kind::Value, "step 0"),
        (format!("BATCH = 4\n{MODEL}SEEN = []\ndef lr(step, steps):\n    SEEN.append(1)\n    return 1.0\n"), Kind::Value, "outside of itself"),
        ("BATCH = 4\nKEPT = {}\ndef model(x):\n    h = KEPT.setdefault('h', embedding(x, param('w', (27, 27))))\n    return h * 1.0\n".to_owned(), Kind::Value, "earlier trace"),
        ("BATCH = 4\ndef model(x):\n    n = 27 if is_training() else 26\n    return embedding(x, param(f'w{n}', (27, 27)))\n".to_owned(), Kind::Program, "never trained"),
        ("BATCH = 4\ndef model(x):\n    return embedding(x, param('w', (27, 27))) + normal((27,))\n".to_owned(), Kind::Program, "is_training()"),
        (format!("BATCH = 4\n{MODEL}def grad_transform(grads):\n    return 3\n"), Kind::Program, "dict"),
        (format!("BATCH = 4\n{MODEL}def grad_transform(grads):\n    return {{}}\n"), Kind::Program, "'w'"),
    ] {
        let source = format!("{REST}{source}");
        let diagnostic = refused(&source, &rows());
        let shown = diagnostic.render(&source, "train.py");
        assert_eq!(diagnostic.kind, kind, "{shown}");
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn what_the_track_does_not_allow_names_the_dearest_lines() {
    let source = format!("{REST}BATCH = 4\n{MODEL}");
    let limits = [
        ("operations", {
            let mut c = rows();
            c.budget = 20_000_000;
            c
        }),
        ("memory", {
            let mut c = rows();
            c.memory = 10_000;
            c
        }),
        ("parameters", {
            let mut c = rows();
            c.parameters = 100;
            c
        }),
    ];
    for (what, context) in limits {
        let diagnostic = refused(&source, &context);
        let shown = diagnostic.render(&source, "train.py");
        assert_eq!((diagnostic.kind, diagnostic.line), (Kind::Budget, 4), "{what}: {shown}");
        assert!(shown.contains("the dearest lines, by") && shown.contains("line 4 ("), "{what}: {shown}");
    }
    let mut context = rows();
    context.literal_bits = 50;
    let diagnostic = refused(&source, &context);
    assert!(diagnostic.kind == Kind::Budget && diagnostic.message.contains("bits"), "{diagnostic}");
}
