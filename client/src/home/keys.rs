//! The three secret keys of a home, each in a file that only its owner reads.
//!
//! *Invariant:* a key is written whole or not at all, never overwritten, and never read from a file that others can read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cairn_protocol::{AuthorSecret, Hash32, PeerSecret, VerifierSecret};

use crate::failure::Failure;

/// Which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Address in the network.
    Peer,
    /// Credit goes to it.
    Author,
    /// Seat in a roster.
    Verifier,
}

impl KeyKind {
    pub(crate) const ALL: [KeyKind; 3] = [KeyKind::Peer, KeyKind::Author, KeyKind::Verifier];

    pub(crate) fn name(self) -> &'static str {
        match self {
            KeyKind::Peer => "peer",
            KeyKind::Author => "author",
            KeyKind::Verifier => "verifier",
        }
    }
}

/// The folder of keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    folder: PathBuf,
}

/// Held as long as this process signs as the verifier of the home.
#[derive(Debug)]
pub(crate) struct VerifierLock {
    _file: File,
}

impl Keys {
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, kind: KeyKind) -> PathBuf {
        self.folder.join(kind.name())
    }

    /// Whether the key exists.
    pub(crate) fn has(&self, kind: KeyKind) -> bool {
        self.path(kind).is_file()
    }

    /// The peer's key, made on first use.
    pub(crate) fn peer(&self) -> anyhow::Result<PeerSecret> {
        Ok(PeerSecret::from_bytes(&self.read_or_make(KeyKind::Peer)?))
    }

    /// The author's key, made on first use.
    pub(crate) fn author(&self) -> anyhow::Result<AuthorSecret> {
        Ok(AuthorSecret::from_bytes(&self.read_or_make(KeyKind::Author)?))
    }

    /// The verifier's key, made on first use.
    pub(crate) fn verifier(&self) -> anyhow::Result<VerifierSecret> {
        Ok(VerifierSecret::from_bytes(&self.read_or_make(KeyKind::Verifier)?))
    }

    /// Makes sure that no other process signs with this home's verifier key.
    pub(crate) fn lock_verifier(&self) -> anyhow::Result<VerifierLock> {
        super::create_private(&self.folder)?;
        let path = self.folder.join("verifier.lock");
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(VerifierLock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(Failure::advice(
                format!("another process signs with the verifier key of {}", self.folder.display()),
                "stop it first: two processes with one key would contradict each other",
            )),
            Err(fs::TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    fn read_or_make(&self, kind: KeyKind) -> anyhow::Result<[u8; 32]> {
        let path = self.path(kind);
        if let Some(found) = read(&path)? {
            return Ok(found);
        }
        super::create_private(&self.folder)?;
        // Of two processes that start at once, the second finds the key of the first.
        let lock_path = self.folder.join("lock");
        let lock = open_lock(&lock_path)?;
        lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
        if let Some(found) = read(&path)? {
            return Ok(found);
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|e| anyhow::anyhow!("the operating system gives no randomness for a key: {e}"))?;
        super::write_whole(&path, format!("{}\n", Hash32(secret)).as_bytes())?;
        Ok(secret)
    }
}

fn open_lock(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Option<[u8; 32]>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read the key {}", path.display())),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).with_context(|| path.display().to_string())?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Failure::advice(
                format!("others can read the key {} (mode {mode:03o})", path.display()),
                format!("chmod 600 {}; if somebody may have read it, use a new key", path.display()),
            ));
        }
    }
    let key: Hash32 = text.trim().parse().map_err(|_| {
        Failure::advice(
            format!("{} is not a key: 64 hexadecimal digits are needed", path.display()),
            "restore a copy, or move the file away and a new key is made",
        )
    })?;
    Ok(Some(key.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::at(folder.path().join("keys"));
        let first = keys.author().unwrap().public();
        assert_eq!(keys.author().unwrap().public(), first);
        assert_ne!(keys.peer().unwrap().public().0, first.0);
        assert!(!keys.has(KeyKind::Verifier));
    }

    #[test]
    fn a_verifier_key_signs_in_one_process_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::at(folder.path().join("keys"));
        let held = keys.lock_verifier().unwrap();
        assert!(keys.lock_verifier().is_err());
        drop(held);
        assert!(keys.lock_verifier().is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::at(folder.path().join("keys"));
        keys.peer().unwrap();
        let path = keys.path(KeyKind::Peer);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let message = keys.peer().unwrap_err().to_string();
        assert!(message.contains("mode 644"), "{message}");
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::at(folder.path().to_path_buf());
        super::super::write_whole(&keys.path(KeyKind::Author), b"not a key").unwrap();
        assert!(keys.author().unwrap_err().to_string().contains("not a key"));
        assert_eq!(fs::read(keys.path(KeyKind::Author)).unwrap(), b"not a key");
    }
}
