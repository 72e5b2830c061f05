//! Tables, and the views that make a leaderboard of them.
//!
//! *Invariant:* a migration that was released never changes; a new one is added at the end.

use rusqlite::Connection;

/// Each brings the schema to the version of its place, counted from 1.
const MIGRATIONS: [&str; 2] = [
    "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
     CREATE TABLE tracks (id BLOB PRIMARY KEY, name TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
     CREATE TABLE records (
         kind TEXT NOT NULL, id BLOB NOT NULL, track BLOB NOT NULL, at_ms INTEGER NOT NULL, bytes BLOB NOT NULL,
         PRIMARY KEY (kind, id)) STRICT;
     CREATE INDEX records_by_track ON records (track, kind, id);
     CREATE TABLE chain (
         track BLOB NOT NULL, height INTEGER NOT NULL, entry BLOB NOT NULL UNIQUE, bytes BLOB NOT NULL,
         PRIMARY KEY (track, height)) STRICT;",
    "CREATE TABLE devices (
         adapter TEXT NOT NULL, shaders BLOB NOT NULL, form TEXT, speed INTEGER, failed TEXT,
         examined_ms INTEGER NOT NULL, demoted_ms INTEGER, why TEXT, PRIMARY KEY (adapter, shaders)) STRICT;",
];

/// Derived tables: dropped and rebuilt from `chain` and `records` at will.
pub(crate) const DERIVED: &str = "
    CREATE TABLE IF NOT EXISTS derived_queued (
        track BLOB NOT NULL, commit_id BLOB NOT NULL, height INTEGER NOT NULL, author BLOB NOT NULL,
        metric INTEGER NOT NULL, test INTEGER NOT NULL, PRIMARY KEY (track, commit_id)) STRICT;
    CREATE TABLE IF NOT EXISTS derived_settled (
        track BLOB NOT NULL, commit_id BLOB NOT NULL, height INTEGER NOT NULL, entry BLOB NOT NULL,
        accepted INTEGER NOT NULL, votes INTEGER NOT NULL, PRIMARY KEY (track, commit_id)) STRICT;
    CREATE TABLE IF NOT EXISTS derived_results (
        track BLOB NOT NULL, batch BLOB NOT NULL, place INTEGER NOT NULL, author BLOB NOT NULL, base BLOB NOT NULL,
        graph BLOB NOT NULL, summary TEXT NOT NULL, metric INTEGER NOT NULL, seed BLOB NOT NULL, status INTEGER NOT NULL,
        proposer TEXT NOT NULL, PRIMARY KEY (batch, place)) STRICT;
    CREATE INDEX IF NOT EXISTS derived_results_by_graph ON derived_results (track, graph);
    CREATE VIEW IF NOT EXISTS leaderboard AS
        SELECT s.track, s.height, s.entry, s.commit_id, q.author, q.metric, q.test, s.votes
        FROM derived_settled s JOIN derived_queued q ON q.track = s.track AND q.commit_id = s.commit_id
        WHERE s.accepted = 1;";

/// Undoes [`DERIVED`].
pub(crate) const DROP_DERIVED: &str = "
    DROP VIEW IF EXISTS leaderboard;
    DROP TABLE IF EXISTS derived_results;
    DROP TABLE IF EXISTS derived_settled;
    DROP TABLE IF EXISTS derived_queued;";

/// Newest schema known to this program.
pub(crate) const VERSION: u32 = MIGRATIONS.len() as u32;

/// The schema of the file.
pub(crate) fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the file to [`VERSION`], each step whole.
pub(crate) fn migrate(conn: &mut Connection, from: u32) -> rusqlite::Result<()> {
    for (sql, version) in MIGRATIONS.iter().zip(1u32..).skip(from as usize) {
        let tx = conn.transaction()?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", version)?;
        tx.commit()?;
    }
    conn.execute_batch(DERIVED)
}
