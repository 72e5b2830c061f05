//! A home's memory: records and chains in SQLite, blobs in files named by their hash.
//!
//! Start at [`Store`]. The leaderboard is derived from the chain and can be rebuilt at any time.
//!
//! *Invariant:* one process writes. Killing it at any instruction loses at most the call in flight;
//! what a call stored before it returned is on the disk.

mod blob;
mod board;
mod devices;
mod error;
mod schema;
mod serve;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_protocol::limits::{ENTRIES_PAGE_MAX, PENDING_PAGE_MAX};
use cairn_protocol::{
    CertifiedEntry, ChainState, Commit, CommitId, EntryId, Gossip, Hash32, Record, Signed, Track, TrackId, Wire,
    decode, encode,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

pub use blob::Blobs;
pub use board::{BoardRow, ResultRow};
pub use devices::{Conformance, Device};
pub use error::{Error, Result};
pub use serve::pending_page;

/// How long a reader waits for the writer's transaction, in milliseconds.
const BUSY_MS: u64 = 5_000;

/// The store of one home directory.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    file: PathBuf,
    blobs: Blobs,
    /// Held as long as this process is the writer.
    _lock: Option<File>,
}

impl Store {
    /// Opens the store of `home` for writing, creating what is missing.
    ///
    /// # Errors
    /// `Locked` if another process writes here; `Newer`, `Corrupt`, `Full` as they say.
    pub fn open(home: &Path) -> Result<Self> {
        fs::create_dir_all(home).map_err(|e| Error::io(home, e))?;
        let lock_path = home.join("store.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| Error::io(&lock_path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: home.to_path_buf() });
            }
            Err(fs::TryLockError::Error(e)) => return Err(Error::io(&lock_path, e)),
        }
        let blobs = Blobs::create(home.join("blobs"))?;
        let file = home.join("store.sqlite");
        let mut conn = Connection::open(&file).map_err(|e| Error::sql(&file, e))?;
        let prepared = prepare(&mut conn).map_err(|e| Error::sql(&file, e))?;
        if prepared > schema::VERSION {
            return Err(Error::Newer { path: file, found: prepared, known: schema::VERSION });
        }
        schema::migrate(&mut conn, prepared).map_err(|e| Error::sql(&file, e))?;
        Ok(Self { conn, file, blobs, _lock: Some(lock) })
    }

    /// Opens the store of `home` for reading, also while another process writes.
    pub fn open_reader(home: &Path) -> Result<Self> {
        let file = home.join("store.sqlite");
        if !file.is_file() {
            return Err(Error::Missing { path: file });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<(Connection, u32)> {
            let conn = Connection::open_with_flags(&file, flags)?;
            conn.busy_timeout(Duration::from_millis(BUSY_MS))?;
            let version = schema::version(&conn)?;
            Ok((conn, version))
        };
        let (conn, found) = open().map_err(|e| Error::sql(&file, e))?;
        if found > schema::VERSION {
            return Err(Error::Newer { path: file, found, known: schema::VERSION });
        }
        Ok(Self { conn, file, blobs: Blobs::at(home.join("blobs")), _lock: None })
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    fn sql(&self, e: rusqlite::Error) -> Error {
        Error::sql(&self.file, e)
    }

    fn read<T: Wire>(&self, what: &str, bytes: &[u8]) -> Result<T> {
        decode(bytes).map_err(|e| Error::Corrupt { path: self.file.clone(), what: format!("{what}: {e}") })
    }

    /// Whole write or none: runs `write` in one transaction.
    fn transact<T>(&mut self, write: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>) -> Result<T> {
        let file = self.file.clone();
        let tx = self.conn.transaction().map_err(|e| Error::sql(&file, e))?;
        let value = write(&tx)?;
        tx.commit().map_err(|e| Error::sql(&file, e))?;
        Ok(value)
    }

    /// Remembers `value` under `key`.
    pub fn put(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let sql = "INSERT INTO kv (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.conn.execute(sql, params![key, value]).map(drop).map_err(|e| self.sql(e))
    }

    /// What was remembered under `key`.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT value FROM kv WHERE key = ?1";
        self.conn.query_row(sql, [key], |row| row.get(0)).optional().map_err(|e| self.sql(e))
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &str) -> Result<()> {
        self.conn.execute("DELETE FROM kv WHERE key = ?1", [key]).map(drop).map_err(|e| self.sql(e))
    }

    /// Stores a track.
    pub fn put_track(&mut self, track: &Track) -> Result<TrackId> {
        let id = track.id();
        let sql = "INSERT OR IGNORE INTO tracks (id, name, bytes) VALUES (?1, ?2, ?3)";
        self.conn.execute(sql, params![id.0, track.name.as_str(), encode(track)]).map_err(|e| self.sql(e))?;
        Ok(id)
    }

    /// A track, if it is known here.
    pub fn track(&self, id: TrackId) -> Result<Option<Track>> {
        let sql = "SELECT bytes FROM tracks WHERE id = ?1";
        let bytes: Option<Vec<u8>> =
            self.conn.query_row(sql, [id.0], |row| row.get(0)).optional().map_err(|e| self.sql(e))?;
        bytes.map(|bytes| self.read("track", &bytes)).transpose()
    }

    /// All tracks known here, by name and id.
    pub fn tracks(&self) -> Result<Vec<Track>> {
        let rows = self.blobs_of("SELECT bytes FROM tracks ORDER BY name, id", [])?;
        rows.iter().map(|bytes| self.read("track", bytes)).collect()
    }

    fn blobs_of(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Vec<u8>>> {
        let rows = || -> rusqlite::Result<Vec<Vec<u8>>> {
            self.conn.prepare_cached(sql)?.query_map(parameters, |row| row.get(0))?.collect()
        };
        rows().map_err(|e| self.sql(e))
    }

    /// Stores a commit's body; false if it was here.
    pub fn put_commit(&mut self, commit: &Signed<Commit>, now_ms: u64) -> Result<bool> {
        let sql = "INSERT OR IGNORE INTO records (kind, id, track, at_ms, bytes) VALUES ('commit', ?1, ?2, ?3, ?4)";
        let values = params![commit.id().0, commit.body.track().0, millis(now_ms), encode(commit)];
        self.conn.execute(sql, values).map(|rows| rows > 0).map_err(|e| self.sql(e))
    }

    /// A commit's body, if it is here.
    pub fn commit(&self, id: CommitId) -> Result<Option<Signed<Commit>>> {
        let sql = "SELECT bytes FROM records WHERE kind = 'commit' AND id = ?1";
        let bytes: Option<Vec<u8>> =
            self.conn.query_row(sql, [id.0], |row| row.get(0)).optional().map_err(|e| self.sql(e))?;
        bytes.map(|bytes| self.read("commit", &bytes)).transpose()
    }

    /// Ids of the commits whose bodies are here.
    pub fn commits(&self, track: TrackId) -> Result<Vec<CommitId>> {
        let rows =
            self.blobs_of("SELECT id FROM records WHERE kind = 'commit' AND track = ?1 ORDER BY at_ms, id", [track.0])?;
        Ok(rows.iter().filter_map(|id| id.as_slice().try_into().ok().map(CommitId)).collect())
    }

    /// Stores a gossiped record that was checked; false if it was here.
    pub fn put_gossip(&mut self, gossip: &Gossip, now_ms: u64) -> Result<bool> {
        let id = gossip.id();
        self.transact(|tx| {
            let sql = "INSERT OR IGNORE INTO records (kind, id, track, at_ms, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
            let values = params![gossip.kind(), id.0, gossip.track().0, millis(now_ms), encode(gossip)];
            let new = tx.execute(sql, values).map_err(|e| Error::sql(Path::new("store.sqlite"), e))? > 0;
            if let (true, Gossip::Reports(reports)) = (new, gossip) {
                board::index_reports(tx, id, &reports.body)?;
            }
            Ok(new)
        })
    }

    /// Gossiped records of `kind` ([`Gossip::kind`]), oldest first, at most `max`.
    pub fn gossip(&self, track: TrackId, kind: &str, max: usize) -> Result<Vec<Gossip>> {
        let sql = "SELECT bytes FROM records WHERE track = ?1 AND kind = ?2 ORDER BY at_ms, id LIMIT ?3";
        let rows = self.blobs_of(sql, params![track.0, kind, i64::try_from(max).unwrap_or(i64::MAX)])?;
        rows.iter().map(|bytes| self.read(kind, bytes)).collect()
    }

    /// A page of gossiped records in ascending order of id, after `after`.
    pub fn gossip_page(&self, track: TrackId, after: Hash32) -> Result<Vec<Gossip>> {
        let sql = "SELECT bytes FROM records WHERE track = ?1 AND kind != 'commit' AND id > ?2 ORDER BY id LIMIT ?3";
        let rows = self.blobs_of(sql, params![track.0, after.0, PENDING_PAGE_MAX as i64])?;
        rows.iter().map(|bytes| self.read("record", bytes)).collect()
    }

    /// Forgets a gossiped record.
    pub fn remove_gossip(&mut self, gossip: &Gossip) -> Result<()> {
        self.remove_all(std::slice::from_ref(gossip))
    }

    /// Forgets gossiped records: all or none.
    pub fn remove_all(&mut self, records: &[Gossip]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let file = self.file.clone();
        self.transact(|tx| {
            for gossip in records {
                let (kind, id) = (gossip.kind(), gossip.id());
                tx.execute("DELETE FROM derived_results WHERE batch = ?1", [id.0]).map_err(|e| Error::sql(&file, e))?;
                tx.execute("DELETE FROM records WHERE kind = ?1 AND id = ?2", params![kind, id.0])
                    .map_err(|e| Error::sql(&file, e))?;
            }
            Ok(())
        })
    }

    /// Height and last entry of a track's chain; 0 and the track's id when it is empty.
    pub fn tip(&self, track: TrackId) -> Result<(u64, EntryId)> {
        tip(&self.conn, track).map_err(|e| self.sql(e))
    }

    /// Appends entries that the caller checked: all or none. Each must link to the one before it.
    pub fn append(&mut self, entries: &[CertifiedEntry]) -> Result<()> {
        let file = self.file.clone();
        self.transact(|tx| {
            for certified in entries {
                let entry = &certified.entry;
                let (height, last) = tip(tx, entry.track).map_err(|e| Error::sql(&file, e))?;
                if entry.height != height.saturating_add(1) || entry.previous != last {
                    return Err(Error::Refused(format!(
                        "entry at height {} does not follow height {height}",
                        entry.height
                    )));
                }
                let sql = "INSERT INTO chain (track, height, entry, bytes) VALUES (?1, ?2, ?3, ?4)";
                tx.execute(sql, params![entry.track.0, millis(entry.height), entry.id().0, encode(certified)])
                    .map_err(|e| Error::sql(&file, e))?;
                board::index_entry(tx, certified)?;
            }
            Ok(())
        })
    }

    /// A page of entries from `from` on.
    pub fn entries(&self, track: TrackId, from: u64, max: usize) -> Result<Vec<CertifiedEntry>> {
        let sql = "SELECT bytes FROM chain WHERE track = ?1 AND height >= ?2 ORDER BY height LIMIT ?3";
        let max = max.min(ENTRIES_PAGE_MAX) as i64;
        let rows = self.blobs_of(sql, params![track.0, millis(from), max])?;
        rows.iter().map(|bytes| self.read("entry", bytes)).collect()
    }

    /// The chain of `track`, checked entry by entry.
    ///
    /// # Errors
    /// `Refused` if the track is unknown here, `Corrupt` if an entry does not follow.
    pub fn chain(&self, track: TrackId) -> Result<ChainState> {
        let known = self.track(track)?.ok_or_else(|| Error::Refused(format!("track {track} is not known here")))?;
        let mut chain = ChainState::new(known);
        loop {
            let page = self.entries(track, chain.height().saturating_add(1), ENTRIES_PAGE_MAX)?;
            if page.is_empty() {
                return Ok(chain);
            }
            for certified in &page {
                chain.apply(certified).map_err(|e| Error::Corrupt { path: self.file.clone(), what: e.to_string() })?;
            }
        }
    }

    /// Checks the file and every blob and record that can be checked by itself.
    pub fn check(&self) -> Result<()> {
        let found: String =
            self.conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(|e| self.sql(e))?;
        if found != "ok" {
            return Err(Error::Corrupt { path: self.file.clone(), what: found });
        }
        for track in self.tracks()? {
            self.chain(track.id())?;
        }
        Ok(())
    }
}

/// A number that SQLite can hold.
fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn prepare(conn: &mut Connection) -> rusqlite::Result<u32> {
    conn.busy_timeout(Duration::from_millis(BUSY_MS))?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    schema::version(conn)
}

fn tip(conn: &Connection, track: TrackId) -> rusqlite::Result<(u64, EntryId)> {
    let sql = "SELECT height, entry FROM chain WHERE track = ?1 ORDER BY height DESC LIMIT 1";
    let found: Option<(i64, [u8; 32])> =
        conn.query_row(sql, [track.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(found.map_or((0, EntryId(track.0)), |(height, entry)| (u64::try_from(height).unwrap_or(0), EntryId(entry))))
}
