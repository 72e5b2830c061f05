//! The home directory: `config.toml`, `keys/`, `store.sqlite`, `blobs/`.
//!
//! *Invariant:* nothing is created by a command that only reads.

mod config;
mod keys;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cairn_store::Store;

pub(crate) use config::{Config, suggestion};
pub(crate) use keys::{KeyKind, Keys};

use crate::failure::Failure;

/// A home directory; it may not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// The home that the user names, or the platform's data directory.
    pub(crate) fn locate(named: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(named) = named {
            if named.as_os_str().is_empty() {
                return Err(Failure::usage(
                    "the home directory's name is empty",
                    "set CAIRN_HOME to a directory, or unset it",
                ));
            }
            return Ok(Self { root: std::path::absolute(named)? });
        }
        let platform = directories::ProjectDirs::from("", "", "cairn").ok_or_else(|| {
            Failure::advice("this account has no home directory", "name one with --home DIR or CAIRN_HOME")
        })?;
        Ok(Self { root: platform.data_dir().to_path_buf() })
    }

    /// The home at this path.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where it lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the directory, for its owner only.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        create_private(&self.root)
    }

    /// `config.toml`, or the defaults where there is none.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        Config::load(&self.config_path())
    }

    /// Where the configuration lies.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The keys.
    pub(crate) fn keys(&self) -> Keys {
        Keys::at(self.root.join("keys"))
    }

    /// The store for reading, also while a node or verifier writes.
    pub(crate) fn reader(&self) -> anyhow::Result<Store> {
        match Store::open_reader(&self.root) {
            Err(cairn_store::Error::Missing { path }) => Err(Failure::advice(
                format!("{} has no store yet", path.parent().unwrap_or(&path).display()),
                "run `cairn node` or `cairn verifier` on a track, open one with `cairn track open`, or name another home with --home",
            )),
            other => Ok(other?),
        }
    }

    /// The store for reading, if there is one.
    pub(crate) fn reader_if_any(&self) -> anyhow::Result<Option<Store>> {
        match Store::open_reader(&self.root) {
            Err(cairn_store::Error::Missing { .. }) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// The store for writing; one process at a time.
    pub(crate) fn writer(&self) -> anyhow::Result<Store> {
        self.create()?;
        Ok(Store::open(&self.root)?)
    }

    /// A file with these bytes, named by their hash, for jobs to read.
    pub(crate) fn cached(&self, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let folder = self.root.join("cache");
        let path = folder.join(cairn_protocol::BlobId::of(bytes).to_string());
        if fs::read(&path).is_ok_and(|found| found == bytes) {
            return Ok(path);
        }
        self.create()?;
        create_private(&folder)?;
        write_whole(&path, bytes)?;
        Ok(path)
    }
}

/// Creates a directory that only its owner enters; one that exists stays as it is.
pub(crate) fn create_private(path: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path).with_context(|| format!("cannot create the directory {}", path.display()))
}

/// Writes a file whole or not at all; readable by its owner only.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| {
        let _ = fs::remove_file(&temporary);
        format!("cannot write {}", path.display())
    })
}
