//! How commands end: exit codes, and failures that say what, where and what to do.

use std::process::ExitCode;

use cairn_program::job;
use serde_json::{Value, json};

use crate::output::{Tone, Ui};

/// Exit codes; documented in `--help` and `docs/guide/commands.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Something went wrong.
    Error = 1,
    /// Wrong usage, or the program is refused.
    Usage = 2,
    /// A replay refuted the entry.
    Refuted = 3,
    /// A demo ended without an accepted entry.
    NoEntry = 4,
    /// A run left the finite range of numbers.
    Diverged = 5,
    /// Interrupted.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// A failure with its own exit code or advice; any other error ends with [`Code::Error`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What is wrong, and what to do.
    #[error("{what}")]
    Advice {
        /// What and where.
        what: String,
        /// What to do.
        hint: String,
        /// Exit code.
        code: Code,
    },
    /// The program is refused.
    #[error("{}: {}", refusal.kind, refusal.message)]
    Refused {
        /// The diagnostic.
        refusal: Box<job::Refusal>,
        /// Name of the program's file.
        file: String,
    },
    /// A run left the finite range of numbers.
    #[error("the run diverged at step {step}: `{tensor}` left the finite range")]
    Diverged {
        /// Steps done.
        step: u64,
        /// `loss`, or the name of the parameter or state.
        tensor: String,
    },
    /// Ctrl-C or a termination signal.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// An error that says what to do.
    pub(crate) fn advice(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        Self::Advice { what: what.into(), hint: hint.into(), code: Code::Error }.into()
    }

    /// An error in what the user asked for.
    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        Self::Advice { what: what.into(), hint: hint.into(), code: Code::Usage }.into()
    }
}

/// What to do about a run that diverged.
const DIVERGED_HINT: &str = "try a lower learning rate, a warm-up, or a smaller initialisation";

/// The diagnostic as JSON, with the names that are fixed for it.
fn refusal_json(refusal: &job::Refusal) -> Value {
    json!({
        "kind": refusal.kind.as_str(),
        "message": refusal.message.as_str(),
        "hint": if refusal.hint.is_empty() { Value::Null } else { json!(refusal.hint.as_str()) },
        "line": refusal.line,
        "column": refusal.column,
    })
}

/// Tells a failure and gives its exit code.
pub(crate) fn tell(ui: &Ui, error: &anyhow::Error) -> ExitCode {
    let label = ui.paint(Tone::Bad, "error:");
    match error.downcast_ref::<Failure>() {
        Some(Failure::Refused { refusal, file }) => {
            ui.object(&refusal_json(refusal));
            // The job that wrote the diagnostic does not know the file's name.
            eprint!("{}", refusal.rendered.as_str().replacen("--> train.py:", &format!("--> {file}:"), 1));
            Code::Usage.into()
        }
        Some(Failure::Advice { hint, code, .. }) => {
            ui.object(&json!({ "error": format!("{error:#}"), "hint": hint }));
            eprintln!("{label} {error:#}\n  {} {hint}", ui.paint(Tone::Name, "hint:"));
            (*code).into()
        }
        Some(Failure::Diverged { step, tensor }) => {
            let found = json!({ "error": format!("{error:#}"), "hint": DIVERGED_HINT, "step": step, "tensor": tensor });
            ui.object(&found);
            eprintln!("{label} {error:#}\n  {} {DIVERGED_HINT}", ui.paint(Tone::Name, "hint:"));
            Code::Diverged.into()
        }
        Some(Failure::Interrupted) => {
            ui.object(&json!({ "error": "interrupted", "hint": Value::Null }));
            eprintln!("interrupted");
            Code::Interrupted.into()
        }
        None => {
            ui.object(&json!({ "error": format!("{error:#}"), "hint": Value::Null }));
            eprintln!("{label} {error:#}");
            Code::Error.into()
        }
    }
}

/// Tells what is wrong with the command line, or gives the help that was asked for.
pub(crate) fn tell_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args().any(|argument| argument == "--json") {
        let text = error.to_string();
        let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        println!("{}", json!({ "error": what, "hint": "see --help" }));
    }
    // A closed pipe is no error.
    let _ = error.print();
    if error.use_stderr() { Code::Usage.into() } else { ExitCode::SUCCESS }
}
