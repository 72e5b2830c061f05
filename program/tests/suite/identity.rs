//! The graph is the identity: what does not change what is computed does not change it, everything else does.

use cairn_protocol::GraphId;

use crate::common::{rows, traced};

const BASE: &str = "\
from cairn import param, embedding, relu, adamw, group, dropout

WIDTH = 8
BATCH = 4

def layer(name, x):
    w = param(name, (x.shape[-1], WIDTH))
    return relu(x @ w)

def model(tokens):
    x = embedding(tokens, param(\"wte\", (27, WIDTH), tag=\"embedding\"))
    for i in range(2):
        x = dropout(layer(f\"l{i}\", x), 0.1)
    return x @ param(\"head\", (WIDTH, 27))

def lr(step, steps):
    return 0.01 * (1.0 - step / steps)

def optimizer():
    return [group(\"*\", adamw(lr=lr))]
";

fn id(source: &str) -> GraphId {
    traced(source, &rows()).graph
}

fn changed(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "{from}");
    BASE.replace(from, to)
}

#[test]
fn white_space_comments_and_local_names_change_nothing() {
    let base = id(BASE);
    for same in [
        changed("WIDTH = 8", "# how wide\nWIDTH = 8   # 4..64\n\n"),
        changed("WIDTH", "BREADTH"),
        changed("layer", "dense"),
        changed("tokens", "ids"),
        changed("def lr", "def rate").replace("lr=lr", "lr=rate"),
        changed(
            "    w = param(name, (x.shape[-1], WIDTH))\n    return relu(x @ w)",
            "    return relu(x @ param(name, [8, 4 * 2], init='normal', std=0.02))",
        ),
        changed("0.01 * (1.0 - step / steps)", "(1.0 - step / steps) * 1e-2"),
        changed(
            "for i in range(2):\n        x = dropout(layer(f\"l{i}\", x), 0.1)",
            "x = dropout(layer('l0', x), 0.1)\n    x = dropout(layer('l1', x), 0.1)",
        ),
        changed("tag=\"embedding\"", "tag=\"other\""),
        changed("    w = param", "    unused = x * 2.0\n    w = param"),
    ] {
        assert_eq!(id(&same), base, "{same}");
    }
}

#[test]
fn everything_that_changes_a_number_changes_it() {
    let base = id(BASE);
    let mut seen = vec![base];
    for different in [
        changed("WIDTH = 8", "WIDTH = 9"),
        changed("BATCH = 4", "BATCH = 5"),
        changed("range(2)", "range(3)"),
        changed("f\"l{i}\"", "f\"m{i}\""),
        changed("relu(x @ w)", "x @ w"),
        changed("0.01", "0.011"),
        changed("adamw(lr=lr)", "adamw(lr=lr, weight_decay=0.1)"),
        changed("adamw(lr=lr)", "adamw(lr=lr, betas=(0.9, 0.99))"),
        changed("0.1)", "0.2)"),
        changed("(x.shape[-1], WIDTH))", "(x.shape[-1], WIDTH), std=0.03)"),
        changed("0.1)", "0.1, name=f'd{i}')"),
    ] {
        let id = id(&different);
        assert!(!seen.contains(&id), "{different}");
        seen.push(id);
    }
}

#[test]
fn literals_are_counted_as_documented() {
    let bits = |line: &str| {
        let source = format!("{BASE}{line}\n");
        traced(&source, &rows()).literal_bits - traced(BASE, &rows()).literal_bits
    };
    for (line, expected) in [
        ("A = 1234", 16),
        ("A = 10_000", 20),
        ("A = 3e-3", 16),
        ("A = 'abc'", 24),
        ("A = 'é'", 16),
        ("A = '\\n'", 8),
        ("A = f'ab{1}'", 20),
        ("A = True", 1),
        ("A = [True, None]", 2),
        ("A = [WIDTH, BATCH, WIDTH]", 6),
        ("A = {'k': WIDTH}", 10),
        ("A = B = WIDTH", 0),
        ("# comment 123", 0),
        ("def f():\n    'documentation'\n    return WIDTH", 0),
    ] {
        assert_eq!(bits(line), expected, "{line}");
    }
}
