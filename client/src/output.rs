//! What people and programs see: lines, JSON, colours, progress.
//!
//! *Invariant:* results go to the standard output, everything else to the error stream; with `--json` the standard
//! output holds JSON only. A closed pipe is no error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// Time between lines of progress where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How to talk, as the options and the environment say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    color: bool,
    live: bool,
}

/// A colour or weight.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Bold,
    Dim,
    Good,
    Bad,
    Name,
    Warn,
}

impl Ui {
    pub(crate) fn new(json: bool, quiet: bool, verbose: u8) -> Self {
        let unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let plain = !unset("NO_COLOR") || dumb;
        Self {
            json,
            quiet,
            verbose,
            color: !plain && !json && std::io::stdout().is_terminal(),
            live: !quiet && !json && !dumb && std::io::stderr().is_terminal(),
        }
    }

    /// Whether a person watches a terminal.
    pub(crate) fn live(&self) -> bool {
        self.live
    }

    /// A line of the result; not with `--json`.
    pub(crate) fn result(&self, line: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(std::io::stdout().lock(), "{}", line.as_ref());
        }
    }

    /// A line beside the result; not with `--quiet` or `--json`.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        if !self.json && !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{}", line.as_ref());
        }
    }

    /// A warning; not with `--quiet`.
    pub(crate) fn warn(&self, line: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{} {}", self.paint(Tone::Warn, "warning:"), line.as_ref());
        }
    }

    /// One JSON object on one line; only with `--json`.
    pub(crate) fn object(&self, value: &Value) {
        if self.json {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{value}").and_then(|()| out.flush());
        }
    }

    /// `text` in a tone, where colours are wanted.
    pub(crate) fn paint(&self, tone: Tone, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        if !self.color {
            return text.to_string();
        }
        let code = match tone {
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Name => "36",
            Tone::Warn => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A bar over `total` steps on a terminal, a line now and then elsewhere.
    pub(crate) fn progress(&self, what: &str, total: u64) -> Progress {
        let bar = if self.live {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
            let template = "{prefix} {bar:28.cyan/dim} {pos}/{len} {msg} {per_sec} {eta} left";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(what.to_string());
            bar
        } else {
            ProgressBar::hidden()
        };
        Progress { bar, ui: *self, what: what.to_string(), total, said: Instant::now() }
    }
}

/// Progress of one piece of work.
pub(crate) struct Progress {
    bar: ProgressBar,
    ui: Ui,
    what: String,
    total: u64,
    said: Instant,
}

impl Progress {
    /// `done` of the total, and what else there is to say.
    pub(crate) fn set(&mut self, done: u64, message: impl FnOnce() -> String) {
        if self.ui.live {
            self.bar.set_position(done);
            self.bar.set_message(message());
        } else if self.said.elapsed() >= LOG_EVERY {
            self.said = Instant::now();
            self.ui.note(format!("{} {done}/{} {}", self.what, self.total, message()));
        }
    }

    /// The total, once it is known.
    pub(crate) fn total(&mut self, total: u64) {
        self.total = total;
        self.bar.set_length(total);
    }

    /// A line that stays, above the bar.
    pub(crate) fn line(&self, text: &str) {
        if self.ui.live {
            self.bar.suspend(|| self.ui.note(text));
        } else {
            self.ui.note(text);
        }
    }

    /// Ends it and removes the bar.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
