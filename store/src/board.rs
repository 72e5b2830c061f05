//! The leaderboard and the list of results: derived from chain and records, rebuilt at will.
//!
//! *Invariant:* what is rebuilt from nothing equals what grew record by record.

use std::path::Path;

use cairn_protocol::{
    AuthorKey, CertifiedEntry, CommitId, EntryId, EntryKind, Gossip, GraphId, Hash32, Record, ReportStatus, Reports,
    TrackId, decode,
};
use rusqlite::{Transaction, params};

use crate::error::{Error, Result};
use crate::{Store, millis, schema};

/// One accepted entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardRow {
    /// Height of the `Accepted` entry.
    pub height: u64,
    /// The entry.
    pub entry: EntryId,
    /// The commit.
    pub commit: CommitId,
    /// Who is credited.
    pub author: AuthorKey,
    /// Metric, in units of 2⁻²⁴.
    pub metric: i64,
    /// Test metric, in units of 2⁻²⁴.
    pub test: i64,
    /// Old record − new record, in units of 2⁻²⁴.
    pub improvement: i64,
    /// Roster members who signed the entry.
    pub confirmed_by: u32,
}

/// One reported try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRow {
    /// Who reported it.
    pub author: AuthorKey,
    /// Graph of the program it started from.
    pub base: GraphId,
    /// Graph that was run.
    pub graph: GraphId,
    /// What was changed.
    pub summary: String,
    /// Metric, in units of 2⁻²⁴.
    pub metric: i64,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub status: ReportStatus,
    /// Kind of proposer.
    pub proposer: String,
}

fn sql(e: rusqlite::Error) -> Error {
    Error::sql(Path::new("store.sqlite"), e)
}

pub(crate) fn index_entry(tx: &Transaction<'_>, certified: &CertifiedEntry) -> Result<()> {
    let entry = &certified.entry;
    let settled = |commit: &CommitId, accepted: bool| {
        let votes = certified.certificate.votes.len() as i64;
        let text = "INSERT OR REPLACE INTO derived_settled (track, commit_id, height, entry, accepted, votes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        tx.execute(text, params![entry.track.0, commit.0, millis(entry.height), entry.id().0, accepted, votes])
    };
    match &entry.kind {
        EntryKind::Queued { commit, author, claim, .. } => {
            let text = "INSERT OR REPLACE INTO derived_queued (track, commit_id, height, author, metric, test) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            tx.execute(text, params![entry.track.0, commit.0, millis(entry.height), author.0, claim.metric, claim.test])
        }
        EntryKind::Accepted { commit } => settled(commit, true),
        EntryKind::Refused { commit, .. } => settled(commit, false),
        EntryKind::Roster { .. } => Ok(0),
    }
    .map(drop)
    .map_err(sql)
}

fn status_code(status: ReportStatus) -> i64 {
    match status {
        ReportStatus::Done => 0,
        ReportStatus::Stopped => 1,
        ReportStatus::Diverged => 2,
        ReportStatus::Refused => 3,
    }
}

fn status_of(code: i64) -> ReportStatus {
    match code {
        0 => ReportStatus::Done,
        1 => ReportStatus::Stopped,
        2 => ReportStatus::Diverged,
        _ => ReportStatus::Refused,
    }
}

pub(crate) fn index_reports(tx: &Transaction<'_>, batch: Hash32, reports: &Reports) -> Result<()> {
    let text = "INSERT OR REPLACE INTO derived_results
        (track, batch, place, author, base, graph, summary, metric, seed, status, proposer)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let mut insert = tx.prepare_cached(text).map_err(sql)?;
    for (place, result) in (0i64..).zip(reports.results.iter()) {
        insert
            .execute(params![
                reports.track.0,
                batch.0,
                place,
                reports.author.0,
                result.base.0,
                result.graph.0,
                result.summary.as_str(),
                result.metric,
                result.seed.to_be_bytes(),
                status_code(result.status),
                result.proposer.as_str(),
            ])
            .map_err(sql)?;
    }
    Ok(())
}

impl Store {
    /// The leaderboard of a track, oldest entry first.
    pub fn leaderboard(&self, track: TrackId) -> Result<Vec<BoardRow>> {
        let Some(known) = self.track(track)? else {
            return Ok(Vec::new());
        };
        let read = || -> rusqlite::Result<Vec<BoardRow>> {
            let text = "SELECT height, entry, commit_id, author, metric, test, votes,
                LAG(metric, 1, ?2) OVER (ORDER BY height) - metric FROM leaderboard WHERE track = ?1 ORDER BY height";
            let mut select = self.conn.prepare_cached(text)?;
            let rows = select.query_map(params![track.0, known.baseline.metric], |row| {
                Ok(BoardRow {
                    height: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
                    entry: EntryId(row.get(1)?),
                    commit: CommitId(row.get(2)?),
                    author: AuthorKey(row.get(3)?),
                    metric: row.get(4)?,
                    test: row.get(5)?,
                    confirmed_by: row.get(6)?,
                    improvement: row.get(7)?,
                })
            })?;
            rows.collect()
        };
        read().map_err(|e| self.sql(e))
    }

    /// Reported tries of a track, newest first, at most `max`.
    pub fn results(&self, track: TrackId, max: usize) -> Result<Vec<ResultRow>> {
        let read = || -> rusqlite::Result<Vec<ResultRow>> {
            let text = "SELECT d.author, d.base, d.graph, d.summary, d.metric, d.seed, d.status, d.proposer
                FROM derived_results d JOIN records r ON r.kind = 'reports' AND r.id = d.batch
                WHERE d.track = ?1 ORDER BY r.at_ms DESC, d.batch, d.place DESC LIMIT ?2";
            let mut select = self.conn.prepare_cached(text)?;
            let rows = select.query_map(params![track.0, millis(max as u64)], |row| {
                Ok(ResultRow {
                    author: AuthorKey(row.get(0)?),
                    base: GraphId(row.get(1)?),
                    graph: GraphId(row.get(2)?),
                    summary: row.get(3)?,
                    metric: row.get(4)?,
                    seed: u64::from_be_bytes(row.get(5)?),
                    status: status_of(row.get(6)?),
                    proposer: row.get(7)?,
                })
            })?;
            rows.collect()
        };
        read().map_err(|e| self.sql(e))
    }

    /// Number of reported tries of a track.
    pub fn results_count(&self, track: TrackId) -> Result<u64> {
        let text = "SELECT COUNT(*) FROM derived_results WHERE track = ?1";
        let count: i64 = self.conn.query_row(text, [track.0], |row| row.get(0)).map_err(|e| self.sql(e))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Drops what is derived and derives it again from chain and records.
    pub fn rebuild(&mut self) -> Result<()> {
        let file = self.file.clone();
        self.transact(|tx| {
            let corrupt = |what: String| Error::Corrupt { path: file.clone(), what };
            tx.execute_batch(schema::DROP_DERIVED).map_err(sql)?;
            tx.execute_batch(schema::DERIVED).map_err(sql)?;
            let mut chain = tx.prepare("SELECT bytes FROM chain ORDER BY track, height").map_err(sql)?;
            let mut rows = chain.query([]).map_err(sql)?;
            while let Some(row) = rows.next().map_err(sql)? {
                let bytes: Vec<u8> = row.get(0).map_err(sql)?;
                let certified: CertifiedEntry = decode(&bytes).map_err(|e| corrupt(format!("entry: {e}")))?;
                index_entry(tx, &certified)?;
            }
            let mut reports = tx.prepare("SELECT bytes FROM records WHERE kind = 'reports'").map_err(sql)?;
            let mut rows = reports.query([]).map_err(sql)?;
            while let Some(row) = rows.next().map_err(sql)? {
                let bytes: Vec<u8> = row.get(0).map_err(sql)?;
                let gossip: Gossip = decode(&bytes).map_err(|e| corrupt(format!("reports: {e}")))?;
                if let Gossip::Reports(batch) = &gossip {
                    index_reports(tx, gossip.id(), &batch.body)?;
                }
            }
            Ok(())
        })
    }
}
