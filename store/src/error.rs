//! What can go wrong with a home directory, and what its owner can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// A store operation failed. Nothing was half done: a write happened whole or not at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space is left.
    #[error("{path}: the disk is full; free some space and start again (nothing was half written)")]
    Full {
        /// What was written.
        path: PathBuf,
    },
    /// What is stored is not what was written.
    #[error("{path} is damaged: {what}; move it away and synchronise again, or restore a copy")]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Another process writes here.
    #[error("{path} is in use by another cairn process; stop it, or choose another home with CAIRN_HOME")]
    Locked {
        /// The home or its database.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error("{path} has schema {found}, this program knows {known}; use a newer cairn")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// The caller wants to store what does not fit what is stored.
    #[error("refused: {0}")]
    Refused(String),
    /// The home has no store yet.
    #[error("{path} has no store yet; join a track first")]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Any other failure of the database.
    #[error("{path}: {source}")]
    Sql {
        /// The database.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }

    pub(crate) fn sql(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase};
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(DiskFull) => Self::Full { path },
            Some(DatabaseCorrupt | NotADatabase) => Self::Corrupt { path, what: source.to_string() },
            Some(DatabaseBusy | DatabaseLocked) => Self::Locked { path },
            _ => Self::Sql { path, source },
        }
    }
}

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;
