//! Homes and runs of the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Operations of a run of the small track.
pub(crate) const BUDGET: i64 = 1_600_000_000;

/// A home that goes with its test.
pub(crate) struct Home(tempfile::TempDir);

/// How a run ended and what it printed.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(arguments).env("CAIRN_HOME", self.path().join("home")).env_remove("NO_COLOR");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs with `--json` to a success; the last line.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "cairn {}: {}{}", arguments.join(" "), ran.out, ran.err);
        ran.last()
    }

    /// Writes a file beside the home.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A track like the shipped `names` on a sixteenth of its data, whose runs take a tenth of a second and whose first
    /// record is worse than what its baseline reaches.
    pub(crate) fn small_track(&self) -> PathBuf {
        self.track_with_record(60_000_000)
    }

    /// As [`Home::small_track`], with another first record, in units of 2^-24 nats.
    pub(crate) fn track_with_record(&self, record: i64) -> PathBuf {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracks/names");
        let mut table: toml::Table = std::fs::read_to_string(shipped.join("track.toml")).unwrap().parse().unwrap();
        table.insert("name".into(), "small".into());
        table.insert("budget".into(), toml::Value::Integer(BUDGET));
        table.insert("margin_units".into(), toml::Value::Integer(100_000));
        let reached = toml::Value::Integer(record);
        let baseline = [("metric_units", reached.clone()), ("test_units", reached)];
        table.insert(
            "baseline".into(),
            toml::Value::Table(baseline.map(|(k, v)| (k.to_string(), v)).into_iter().collect()),
        );
        self.file("small/track.toml", &table.to_string());
        for file in ["train.py", "README.md", "program.md"] {
            let text = std::fs::read_to_string(shipped.join(file)).unwrap();
            self.file(&format!("small/{file}"), &text);
        }
        let names = std::fs::read_to_string(shipped.join("data/names.txt")).unwrap();
        let few: String = names.split_inclusive('\n').step_by(16).collect();
        self.file("small/data/names.txt", &few);
        self.path().join("small")
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The last line of the output as JSON.
    pub(crate) fn last(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_else(|| panic!("no output; {}", self.err));
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Everything of both streams.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// Names of an object's fields, in order.
pub(crate) fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Asserts that an object has all these fields.
pub(crate) fn has(value: &Value, wanted: &[&str]) {
    let fields = fields(value);
    let missing: Vec<&&str> = wanted.iter().filter(|name| !fields.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} missing in {value}");
}
