//! What is known of the machine's GPUs: which of them keep the arithmetic, by measurement.
//!
//! A verdict belongs to an adapter (with its driver and its version) and to the shaders that it was measured with:
//! another driver or another program is another question.
//!
//! *Invariant:* a device that was demoted stays demoted until it is measured again.

use cairn_protocol::Hash32;
use rusqlite::{OptionalExtension, Row, params};

use crate::error::Result;
use crate::{Store, millis};

/// Whether a device keeps the arithmetic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conformance {
    /// All bits were equal.
    Passed {
        /// Form of the contractions that passed and was fastest.
        form: String,
        /// Operations a second that it reached in products.
        speed: u64,
    },
    /// Some bits were not.
    Failed {
        /// What differed, and how much of it.
        what: String,
    },
}

/// What is known of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Name of adapter, driver and its version.
    pub adapter: String,
    /// Hash of the shaders that it was measured with.
    pub shaders: Hash32,
    /// What was found.
    pub conformance: Conformance,
    /// When, in milliseconds since 1970.
    pub examined_ms: u64,
    /// Since when it is not trusted, and why, if a later audit caught it.
    pub demoted: Option<(u64, String)>,
}

impl Device {
    /// Whether its results count: the form to use.
    pub fn trusted(&self) -> Option<&str> {
        match &self.conformance {
            Conformance::Passed { form, .. } if self.demoted.is_none() => Some(form),
            _ => None,
        }
    }
}

const COLUMNS: &str = "adapter, shaders, form, speed, failed, examined_ms, demoted_ms, why";

fn read(row: &Row<'_>) -> rusqlite::Result<Device> {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let (form, failed): (Option<String>, Option<String>) = (row.get(2)?, row.get(4)?);
    let conformance = match (form, failed) {
        (Some(form), None) => Conformance::Passed { form, speed: number(row.get(3)?) },
        (_, failed) => Conformance::Failed { what: failed.unwrap_or_default() },
    };
    let demoted: Option<i64> = row.get(6)?;
    let why: Option<String> = row.get(7)?;
    Ok(Device {
        adapter: row.get(0)?,
        shaders: Hash32(row.get(1)?),
        conformance,
        examined_ms: number(row.get(5)?),
        demoted: demoted.map(|since| (number(since), why.unwrap_or_default())),
    })
}

impl Store {
    /// What is known of a device with these shaders.
    pub fn device(&self, adapter: &str, shaders: Hash32) -> Result<Option<Device>> {
        if !self.has_devices()? {
            return Ok(None);
        }
        let sql = format!("SELECT {COLUMNS} FROM devices WHERE adapter = ?1 AND shaders = ?2");
        self.conn.query_row(&sql, params![adapter, shaders.0], read).optional().map_err(|e| self.sql(e))
    }

    /// All that is known of devices, the latest first.
    pub fn devices(&self) -> Result<Vec<Device>> {
        if !self.has_devices()? {
            return Ok(Vec::new());
        }
        let rows = || -> rusqlite::Result<Vec<Device>> {
            let sql = format!("SELECT {COLUMNS} FROM devices ORDER BY examined_ms DESC, adapter, shaders");
            self.conn.prepare(&sql)?.query_map([], read)?.collect()
        };
        rows().map_err(|e| self.sql(e))
    }

    /// Remembers what a measurement found, instead of what was known.
    pub fn put_device(&mut self, device: &Device) -> Result<()> {
        let (form, speed, failed) = match &device.conformance {
            Conformance::Passed { form, speed } => (Some(form), Some(millis(*speed)), None),
            Conformance::Failed { what } => (None, None, Some(what)),
        };
        let (since, why) = device.demoted.as_ref().map(|(since, why)| (millis(*since), why)).unzip();
        let sql = format!("INSERT OR REPLACE INTO devices ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        let examined = millis(device.examined_ms);
        let values = params![device.adapter, device.shaders.0, form, speed, failed, examined, since, why];
        self.conn.execute(&sql, values).map(drop).map_err(|e| self.sql(e))
    }

    /// Trusts a device no more; false if nothing is known of it, or it is demoted already.
    pub fn demote_device(&mut self, adapter: &str, shaders: Hash32, why: &str, now_ms: u64) -> Result<bool> {
        let sql = "UPDATE devices SET demoted_ms = ?3, why = ?4
            WHERE adapter = ?1 AND shaders = ?2 AND demoted_ms IS NULL";
        let values = params![adapter, shaders.0, millis(now_ms), why];
        self.conn.execute(sql, values).map(|rows| rows > 0).map_err(|e| self.sql(e))
    }

    /// Whether there is a table of devices: a reader may meet a file that an older program wrote.
    fn has_devices(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'devices')";
        self.conn.query_row(sql, [], |row| row.get(0)).map_err(|e| self.sql(e))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn device(adapter: &str, shaders: u8, conformance: Conformance, examined_ms: u64) -> Device {
        Device { adapter: adapter.into(), shaders: Hash32([shaders; 32]), conformance, examined_ms, demoted: None }
    }

    fn passed(speed: u64) -> Conformance {
        Conformance::Passed { form: "fma".into(), speed }
    }

    #[test]
    fn a_verdict_belongs_to_adapter_and_shaders_and_a_demotion_lasts_until_the_next_one() {
        let home = tempfile::tempdir().unwrap();
        let mut store = Store::open(home.path()).unwrap();
        let fast = device("A", 1, passed(5 << 40), 10);
        let failed = device("A", 2, Conformance::Failed { what: "exp: 3 of 9 differ".into() }, 30);
        let other = device("B", 1, passed(7), 20);
        for known in [&fast, &failed, &other] {
            store.put_device(known).unwrap();
        }
        assert_eq!(store.devices().unwrap(), [failed.clone(), other.clone(), fast.clone()]);
        assert_eq!(store.device("A", Hash32([1; 32])).unwrap().as_ref(), Some(&fast));
        assert_eq!(store.device("A", Hash32([3; 32])).unwrap(), None);
        assert_eq!((fast.trusted(), failed.trusted()), (Some("fma"), None));

        assert!(store.demote_device("A", fast.shaders, "segment 3", 40).unwrap());
        assert!(!store.demote_device("A", fast.shaders, "again", 50).unwrap(), "the first reason stands");
        assert!(!store.demote_device("C", fast.shaders, "unknown", 50).unwrap());
        drop(store);
        let reader = Store::open_reader(home.path()).unwrap();
        let demoted = reader.device("A", fast.shaders).unwrap().unwrap();
        assert_eq!((demoted.demoted.clone(), demoted.trusted()), (Some((40, "segment 3".into())), None));
        assert_eq!(reader.device("B", other.shaders).unwrap(), Some(other));

        let mut store = Store::open(home.path()).unwrap();
        let again = Device { examined_ms: 60, ..fast };
        store.put_device(&again).unwrap();
        assert_eq!(store.device("A", again.shaders).unwrap().unwrap().trusted(), Some("fma"));
    }

    #[test]
    fn a_home_of_an_older_program_has_no_devices_until_it_is_written() {
        let home = tempfile::tempdir().unwrap();
        drop(Store::open(home.path()).unwrap());
        let file = rusqlite::Connection::open(home.path().join("store.sqlite")).unwrap();
        file.execute_batch("DROP TABLE devices; PRAGMA user_version = 1;").unwrap();
        drop(file);
        let reader = Store::open_reader(home.path()).unwrap();
        assert_eq!(reader.devices().unwrap(), []);
        assert_eq!(reader.device("A", Hash32::default()).unwrap(), None);
        drop(reader);
        let mut store = Store::open(home.path()).unwrap();
        store.put_device(&device("A", 1, passed(1), 1)).unwrap();
        assert_eq!(store.devices().unwrap().len(), 1);
    }
}
