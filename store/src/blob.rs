//! Files named by the BLAKE3 hash of what they hold.
//!
//! *Invariant:* a file under its final name is whole and on the disk: it is written to a temporary
//! name, synced, renamed, and its folder synced. What is read is hashed before it is believed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_protocol::BlobId;
use cairn_protocol::limits::BLOB_BYTES_MAX;

use crate::error::{Error, Result};

/// Bytes moved at a time.
const COPY_BYTES: usize = 64 * 1024;
/// Distinguishes the temporary names of one process.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A folder of blobs. Cheap to clone; safe to use from several threads.
#[derive(Clone, Debug)]
pub struct Blobs {
    root: PathBuf,
}

impl Blobs {
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Creates the folder and removes what a killed process left half written.
    pub(crate) fn create(root: PathBuf) -> Result<Self> {
        let blobs = Self { root };
        let temporary = blobs.temporary();
        fs::create_dir_all(&temporary).map_err(|e| Error::io(&temporary, e))?;
        for file in fs::read_dir(&temporary).map_err(|e| Error::io(&temporary, e))? {
            let path = file.map_err(|e| Error::io(&temporary, e))?.path();
            fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
        Ok(blobs)
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where the blob lies, if it is here.
    pub fn path(&self, id: BlobId) -> PathBuf {
        let name = id.to_string();
        self.root.join(name.get(..2).unwrap_or_default()).join(name)
    }

    /// Whether the blob is here.
    pub fn has(&self, id: BlobId) -> bool {
        self.path(id).is_file()
    }

    /// Size in bytes, if the blob is here.
    pub fn size(&self, id: BlobId) -> Option<u64> {
        fs::metadata(self.path(id)).ok().map(|meta| meta.len())
    }

    /// Stores `bytes`.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobId> {
        self.put_from(&mut &bytes[..], None)
    }

    /// Stores all that `source` gives; refuses it if it hashes to something else than `expected`.
    pub fn put_from(&self, source: &mut dyn Read, expected: Option<BlobId>) -> Result<BlobId> {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let path = self.temporary().join(format!("{}-{number}", std::process::id()));
        let outcome = self.write(&path, source, expected);
        if outcome.is_err() {
            // The next start would remove it as well.
            let _ = fs::remove_file(&path);
        }
        outcome
    }

    fn write(&self, temporary: &Path, source: &mut dyn Read, expected: Option<BlobId>) -> Result<BlobId> {
        let io = |e| Error::io(temporary, e);
        let mut file = File::create_new(temporary).map_err(io)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; COPY_BYTES];
        let mut total = 0u64;
        loop {
            let got = match source.read(&mut buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(io)?,
            };
            let Some(chunk) = buffer.get(..got).filter(|chunk| !chunk.is_empty()) else {
                break;
            };
            total = total.saturating_add(got as u64);
            if total > BLOB_BYTES_MAX {
                return Err(Error::Refused(format!("a blob of more than {BLOB_BYTES_MAX} bytes")));
            }
            hasher.update(chunk);
            file.write_all(chunk).map_err(io)?;
        }
        let id = BlobId(*hasher.finalize().as_bytes());
        if let Some(expected) = expected.filter(|expected| *expected != id) {
            return Err(Error::Refused(format!("blob {expected} was announced, its bytes hash to {id}")));
        }
        file.sync_all().map_err(io)?;
        let target = self.path(id);
        let folder = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        fs::rename(temporary, &target).map_err(|e| Error::io(&target, e))?;
        sync_folder(folder)?;
        sync_folder(&self.root)?;
        Ok(id)
    }

    /// The whole blob, if it is here.
    ///
    /// # Errors
    /// `Corrupt` if the file no longer hashes to its name.
    pub fn get(&self, id: BlobId) -> Result<Option<Vec<u8>>> {
        let path = self.path(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path, e)),
        };
        let found = BlobId(*blake3::hash(&bytes).as_bytes());
        if found == id { Ok(Some(bytes)) } else { Err(Error::Corrupt { path, what: format!("it hashes to {found}") }) }
    }

    /// Up to `len` bytes from `offset`, if the blob is here. The reader checks the whole.
    pub fn read_at(&self, id: BlobId, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
        let path = self.path(id);
        let io = |e| Error::io(&path, e);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        let mut bytes = Vec::new();
        file.take(len as u64).read_to_end(&mut bytes).map_err(io)?;
        Ok(Some(bytes))
    }
}

/// Makes a rename in `folder` survive a power cut; a no-op where folders cannot be synced.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        let opened = File::open(folder).map_err(|e| Error::io(folder, e))?;
        opened.sync_all().map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}
