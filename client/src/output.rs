//! What people and programs see: lines, JSON, colours, progress.
//!
//! *Invariant:* results go to the standard output, everything else to the error stream; with `--json` the standard
//! output holds JSON only. A closed pipe is no error.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
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
            color: !plain && !json && std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
            live: !quiet && !json && !dumb && std::io::stderr().is_terminal(),
        }
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

    /// Lines that stay, above one status line for each name.
    pub(crate) fn stage(&self) -> Stage {
        let target = if self.live { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        Stage { bars: MultiProgress::with_draw_target(target), statuses: BTreeMap::new(), ui: *self }
    }

    /// A bar over `total` steps on a terminal, a line now and then elsewhere.
    pub(crate) fn progress(&self, what: &str, total: u64) -> Progress {
        let bar = if self.live {
            let bar = ProgressBar::with_draw_target(Some(total.max(1)), ProgressDrawTarget::stderr_with_hz(8));
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

/// What goes on, live: lines scroll away above, one status line for each name stays below.
pub(crate) struct Stage {
    bars: MultiProgress,
    statuses: BTreeMap<String, ProgressBar>,
    ui: Ui,
}

impl Stage {
    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        if self.ui.live {
            self.bars.suspend(|| self.ui.note(text));
        } else {
            self.ui.note(text);
        }
    }

    /// The status of `name`; only on a terminal.
    pub(crate) fn status(&mut self, name: &str, text: &str) {
        if !self.ui.live {
            return;
        }
        let bars = &self.bars;
        let bar = self.statuses.entry(name.to_string()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner:.cyan} {prefix:12} {wide_msg:.dim}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(name.to_string());
            bar.enable_steady_tick(Duration::from_millis(125));
            bar
        });
        bar.set_message(text.to_string());
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.statuses.values().for_each(ProgressBar::finish_and_clear);
        // A terminal that is gone needs no clearing.
        let _ = self.bars.clear();
    }
}
