//! The manual: its tables are those of the code, its programs trace.

use std::path::{Path, PathBuf};

use cairn_program::{Kind, manual};

use crate::examples::trained;

/// Told by `cargo xtask manual`: write the tables instead of comparing.
const WRITE: &str = "CAIRN_WRITE_MANUAL";
const BEGIN: &str = "<!-- Operations: written by `cargo xtask manual` from program/src/manual. -->\n";
const END: &str = "<!-- End of operations. -->\n";

fn guide(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide").join(name)
}

#[test]
fn the_manual_has_the_operations_of_the_code() {
    let path = guide("train-py.md");
    let committed = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = committed.split_once(BEGIN).expect("the manual marks where its operations begin");
    let (held, after) = rest.split_once(END).expect("the manual marks where its operations end");
    let now = format!("\n{}", manual());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{now}{END}{after}")).unwrap();
        return;
    }
    for (line, (held, now)) in held.lines().zip(now.lines()).enumerate() {
        assert_eq!(held, now, "line {line} of the operations; `cargo xtask manual` writes them");
    }
    assert_eq!(held.len(), now.len(), "`cargo xtask manual` writes the operations");
}

/// Blocks of a page in this language, with the lines that they begin at.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for (number, line) in (1..).zip(page.lines()) {
        match &mut open {
            None if line == format!("```{language}") => open = Some((number, String::new())),
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some((_, text)) => *text += &format!("{line}\n"),
            None => {}
        }
    }
    blocks
}

/// What a block that is a part of a program leaves out: each definition that it lacks, of the smallest kind.
fn completed(block: &str) -> String {
    let mut whole = String::new();
    for (marker, text) in [
        ("BATCH", "BATCH = 4\n"),
        ("CONTEXT", "CONTEXT = 16\n"),
        ("def lr(", "def lr(step, steps):\n    return 0.01\n"),
        (
            "def model(",
            "def model(x):\n    return cairn.embedding(x, cairn.param(\"table\", (256, 64))) @ cairn.param(\"head\", (64, 256))\n",
        ),
    ] {
        if !block.contains(marker) {
            whole += text;
        }
    }
    format!("import cairn\n{whole}{block}")
}

#[test]
fn programs_of_the_guides_train() {
    for page in ["train-py.md", "train-py-prompt.md"] {
        let text_of_page = std::fs::read_to_string(guide(page)).unwrap();
        let blocks = blocks(&text_of_page, "python");
        assert!(blocks.len() > 2, "{page} has only {} programs", blocks.len());
        for (line, block) in blocks {
            println!("{page}:{line}");
            let (losses, _) = trained(&completed(&block), "shakespeare-small", 17);
            assert!(losses.len() >= 16 && losses.iter().all(|loss| (0.0..12.0).contains(loss)), "{losses:?}");
        }
    }
}

#[test]
fn every_kind_of_refusal_is_in_the_manual() {
    let page = std::fs::read_to_string(guide("train-py.md")).unwrap();
    for kind in Kind::ALL {
        assert!(page.contains(&format!("`{}`", kind.name())), "{}", kind.name());
    }
}
