//! The homes of a demo's processes, and their removal.
//!
//! *Invariant:* a temporary folder is removed when its demo ends; one whose demo was killed is removed by the next demo.
//! A folder that the user named is never removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::failure::Failure;
use crate::home::{Home, create_private};

/// Beginning of the temporary folders' names.
const PREFIX: &str = "cairn-demo-";
/// Held as long as the demo lives.
const LOCK: &str = "lock";

/// A folder with one home for each process.
#[derive(Debug)]
pub(super) struct Homes {
    root: PathBuf,
    kept: bool,
    _lock: File,
}

impl Homes {
    /// A temporary folder, or the one that the user wants to keep.
    pub(super) fn create(keep: Option<&Path>) -> anyhow::Result<Self> {
        let root = match keep {
            Some(keep) => std::path::absolute(keep)?,
            None => {
                let parent = std::env::temp_dir();
                sweep(&parent);
                let mut random = [0; 8];
                getrandom::fill(&mut random).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
                parent.join(format!("{PREFIX}{:016x}", u64::from_be_bytes(random)))
            }
        };
        if fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Failure::usage(
                format!("{} is not empty", root.display()),
                "name a new folder with --keep; a demo never writes into another one's",
            ));
        }
        create_private(&root)?;
        let lock = File::create(root.join(LOCK)).with_context(|| format!("cannot write into {}", root.display()))?;
        lock.try_lock().with_context(|| format!("cannot lock {}", root.display()))?;
        Ok(Self { root, kept: keep.is_some(), _lock: lock })
    }

    /// The home of one process.
    pub(super) fn of(&self, process: &str) -> Home {
        Home::at(self.root.join(process.replace(' ', "-")))
    }

    /// Whether the folder stays.
    pub(super) fn kept(&self) -> bool {
        self.kept
    }
}

impl Drop for Homes {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed by the next demo.
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// Removes the folders of demos that were killed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let dead = || File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if ours && dead() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Copies the store of `from`, without its keys, so that its entries can be looked at later.
pub(super) fn copy_store(from: &Home, to: &Home) -> anyhow::Result<()> {
    if fs::metadata(to.root()).is_ok() {
        fs::remove_dir_all(to.root()).with_context(|| format!("cannot replace {}", to.root().display()))?;
    }
    create_private(to.root())?;
    for entry in fs::read_dir(from.root())? {
        let entry = entry?;
        let name = entry.file_name();
        let wanted = name.to_string_lossy();
        if wanted == "blobs" {
            copy_folder(&entry.path(), &to.root().join(name))?;
        } else if wanted.starts_with("store.sqlite") {
            fs::copy(entry.path(), to.root().join(name))?;
        }
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    create_private(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_kept_one_stays() {
        let homes = Homes::create(None).unwrap();
        let root = homes.root.clone();
        assert!(root.is_dir());
        drop(homes);
        assert!(!root.exists());
        let parent = tempfile::tempdir().unwrap();
        let keep = parent.path().join("kept");
        let homes = Homes::create(Some(&keep)).unwrap();
        assert!(Homes::create(Some(&keep)).is_err(), "a second demo in the same folder");
        drop(homes);
        assert!(keep.is_dir());
    }

    #[test]
    fn only_folders_of_dead_demos_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let (dead, alive, other) =
            (parent.path().join("cairn-demo-1"), parent.path().join("cairn-demo-2"), parent.path().join("other"));
        for folder in [&dead, &alive, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join(LOCK), "").unwrap();
        }
        let held = File::open(alive.join(LOCK)).unwrap();
        held.try_lock().unwrap();
        sweep(parent.path());
        assert_eq!((dead.exists(), alive.exists(), other.exists()), (false, true, true));
    }

    #[test]
    fn keys_are_not_copied() {
        let parent = tempfile::tempdir().unwrap();
        let (from, to) = (Home::at(parent.path().join("a")), Home::at(parent.path().join("b")));
        from.keys().author().unwrap();
        let blob = from.writer().unwrap().blobs().put(b"data").unwrap();
        copy_store(&from, &to).unwrap();
        copy_store(&from, &to).unwrap();
        assert!(!to.root().join("keys").exists());
        assert_eq!(to.reader().unwrap().blobs().get(blob).unwrap().unwrap(), b"data");
    }
}
