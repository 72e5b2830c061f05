//! `config.toml`: what is remembered between commands.
//!
//! *Invariant:* an unknown key is an error that names the nearest known one; an edit keeps the owner's comments.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::failure::Failure;

/// What `config.toml` may say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Ids of joined tracks; the first is the one that commands mean by default.
    pub(crate) joined: Vec<String>,
    /// Peers to connect to.
    pub(crate) peers: Vec<String>,
    /// Addresses to listen on.
    pub(crate) listen: Vec<String>,
    /// Processor threads to use.
    pub(crate) threads: Option<u16>,
    /// GPU to use: `auto`, `off`, or a part of its name.
    pub(crate) gpu: Option<String>,
}

/// Keys of the file.
const KEYS: [&str; 5] = ["joined", "peers", "listen", "threads", "gpu"];

impl Config {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        let fix =
            |what: String| Failure::advice(what, "correct the file; every key is described in docs/guide/commands.md");
        let table: toml::Table = text.parse().map_err(|e| fix(format!("{}: {e}", path.display())))?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Failure::advice(format!("{}: unknown key `{key}`", path.display()), suggestion(key, &KEYS)));
        }
        toml::from_str(text).map_err(|e| fix(format!("{}: {e}", path.display())))
    }

    /// Writes the list `key` of the file, and leaves everything else in it alone.
    pub(crate) fn store_list(path: &Path, key: &str, values: &[String]) -> anyhow::Result<()> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot read {}", path.display()));
            }
            other => other.unwrap_or_default(),
        };
        let mut document: toml_edit::DocumentMut = text.parse().with_context(|| path.display().to_string())?;
        let list: toml_edit::Array = values.iter().collect();
        document[key] = toml_edit::value(list);
        super::write_whole(path, document.to_string().as_bytes())
    }
}

/// What to do about an unknown key: the nearest known one, or all of them.
pub(crate) fn suggestion(key: &str, known: &[&str]) -> String {
    let near = known.iter().map(|known| (strsim::jaro_winkler(key, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((likeness, near)) if likeness > 0.7 => format!("did you mean `{near}`?"),
        _ => format!("known keys: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = Config::parse("thread = 2", Path::new("config.toml")).unwrap_err();
        let Some(Failure::Advice { what, hint, .. }) = error.downcast_ref() else { panic!("{error:?}") };
        assert_eq!(what, "config.toml: unknown key `thread`");
        assert_eq!(hint, "did you mean `threads`?");
        assert_eq!(suggestion("zzz", &["a", "b"]), "known keys: a, b");
    }

    #[test]
    fn an_edit_keeps_comments_and_other_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "# mine\nthreads = 3 # enough\n").unwrap();
        Config::store_list(&path, "joined", &["ab".into()]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("# mine") && text.contains("# enough"), "{text}");
        let config = Config::load(&path).unwrap();
        assert_eq!((config.joined, config.threads), (vec!["ab".to_string()], Some(3)));
    }
}
