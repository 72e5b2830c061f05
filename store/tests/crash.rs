//! A real writer is killed with SIGKILL again and again; the store opens each time and is whole.
//!
//! Run as `crash writer HOME` this program writes in a loop and prints each number it was told is
//! stored; run otherwise it is the test.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use cairn_protocol::limits::{ARITHMETIC_VERSION, SEGMENTS, WIRE_VERSION};
use cairn_protocol::{
    AuthorSecret, Baseline, BlobId, BoundedVec, Certificate, CertifiedEntry, Claim, CommitId, Entry, EntryKind,
    GraphId, ProposalId, Record, SeatSignature, Text, Track, TrackId, TrackKind, VerifierSecret, Vote,
};
use cairn_store::Store;

type Outcome = Result<(), Box<dyn Error>>;
const ROUNDS: u64 = 12;

fn verifier() -> VerifierSecret {
    VerifierSecret::from_bytes(&[7; 32])
}

fn track() -> Track {
    let mut roster = BoundedVec::default();
    assert!(roster.push(verifier().public()).is_ok());
    Track {
        version: WIRE_VERSION,
        arithmetic: ARITHMETIC_VERSION,
        name: Text::truncated("crash"),
        title: Text::truncated("crash"),
        description: Text::truncated("crash"),
        kind: TrackKind::Train,
        budget: 1,
        memory: 1,
        parameters: 1,
        source_bytes: 1,
        literal_bits: 1,
        seeds: 1,
        segments: SEGMENTS,
        margin: 1,
        converter: Text::truncated("bytes"),
        data: BoundedVec::default(),
        baseline: Baseline { source: Text::truncated("x"), graph: GraphId([0; 32]), metric: 1 << 40, test: 1 << 40 },
        owner: AuthorSecret::from_bytes(&[1; 32]).public(),
        roster,
        continues: None,
    }
}

fn certify(entry: Entry) -> CertifiedEntry {
    let mut votes = BoundedVec::default();
    assert!(votes.push(SeatSignature { seat: 0, signature: Vote::sign(&entry, &verifier()).signature }).is_ok());
    CertifiedEntry { entry, certificate: Certificate { votes } }
}

fn bytes_of(number: u64) -> Vec<u8> {
    number.to_be_bytes().iter().cycle().take(1000 + (number % 5000) as usize).copied().collect()
}

/// Writes a blob, a key and the two entries of an accepted commit for every number, for ever.
fn write(home: &Path) -> Outcome {
    let mut store = Store::open(home)?;
    let id = store.put_track(&track())?;
    let mut chain = store.chain(id)?;
    let mut out = std::io::stdout().lock();
    for number in chain.height() / 2.. {
        store.blobs().put(&bytes_of(number))?;
        let commit = CommitId(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let claim = Claim { metric: (1 << 39) - 10 * number as i64, test: 0 };
        let queued = certify(chain.next(EntryKind::Queued {
            commit,
            proposal: ProposalId(commit.0),
            author: AuthorSecret::from_bytes(&[1; 32]).public(),
            claim,
        }));
        chain.apply(&queued)?;
        let accepted = certify(chain.next(EntryKind::Accepted { commit }));
        chain.apply(&accepted)?;
        store.append(&[queued, accepted])?;
        store.put("last", &number.to_be_bytes())?;
        writeln!(out, "{number}")?;
        out.flush()?;
    }
    Ok(())
}

/// What was acknowledged is there, and all that is there is whole.
fn examine(home: &Path, id: TrackId, acknowledged: Option<u64>) -> Result<u64, Box<dyn Error>> {
    let mut store = Store::open(home)?;
    store.check()?;
    let height = store.tip(id)?.0;
    assert!(height.is_multiple_of(2), "a transaction of two entries was torn: height {height}");
    let numbers = height / 2;
    assert!(
        acknowledged.is_none_or(|last| numbers > last),
        "number {acknowledged:?} was acknowledged, {numbers} are stored"
    );
    for number in 0..numbers {
        let blob = BlobId(*blake3::hash(&bytes_of(number)).as_bytes());
        assert_eq!(store.blobs().get(blob)?.as_deref(), Some(bytes_of(number).as_slice()), "blob of number {number}");
    }
    assert_eq!(std::fs::read_dir(home.join("blobs/tmp"))?.count(), 0, "half-written files are left");
    let grown = store.leaderboard(id)?;
    assert_eq!(grown.len() as u64, numbers);
    store.rebuild()?;
    assert_eq!(store.leaderboard(id)?, grown, "rebuilt differs from incremental");
    Ok(numbers)
}

fn kill_again_and_again() -> Outcome {
    let home = tempfile::tempdir()?;
    let id = track().id();
    let mut stored = 0;
    for round in 0..ROUNDS {
        let mut child =
            Command::new(std::env::current_exe()?).arg("writer").arg(home.path()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let mut last = None;
        // The writer goes on while this loop ends, so it dies at an arbitrary instruction.
        let patience = round * 7 % 11;
        for line in lines.by_ref().take(patience as usize) {
            last = Some(line?.parse::<u64>()?);
        }
        for spin in 0..round * 40_000 {
            std::hint::black_box(spin);
        }
        child.kill()?;
        child.wait()?;
        for line in lines {
            last = line?.parse().ok().or(last);
        }
        let now = examine(home.path(), id, last)?;
        assert!(now >= stored, "{stored} numbers were stored, now {now}");
        stored = now;
    }
    assert!(stored > ROUNDS, "the writer hardly wrote: {stored} numbers in {ROUNDS} rounds");
    println!("crash: {ROUNDS} kills, {stored} numbers, whole every time");
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    match (arguments.get(1).map(String::as_str), arguments.get(2)) {
        (Some("writer"), Some(home)) => write(Path::new(home)),
        _ => kill_again_and_again(),
    }
}
