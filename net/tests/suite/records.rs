//! Fetched records are what was asked for, or an error that names the liar.

use cairn_net::fetch::{self, FetchError, Tip};
use cairn_protocol::limits::{ARITHMETIC_VERSION, SEGMENTS, WIRE_VERSION};
use cairn_protocol::{
    AuthorSecret, Baseline, BoundedVec, Certificate, CertifiedEntry, Commit, CommitId, DataBlob, Draft, Entry, EntryId,
    EntryKind, Gossip, Hash32, Proposal, Record, Request, Researcher, Response, Run, Signature, Signed, Text, Track,
    TrackId, TrackKind, VerifierSecret,
};

use crate::kit::*;

fn chain(track: TrackId, from: u64, len: u64) -> Vec<CertifiedEntry> {
    let mut previous = EntryId(track.0);
    (1..from + len)
        .map(|height| {
            let entry = Entry { track, height, previous, kind: EntryKind::Accepted { commit: CommitId([1; 32]) } };
            previous = entry.id();
            CertifiedEntry { entry, certificate: Certificate { votes: BoundedVec::new() } }
        })
        .skip(from as usize - 1)
        .collect()
}

fn commit() -> Signed<Commit> {
    let author = AuthorSecret::from_bytes(&[4; 32]);
    let proposal = Proposal {
        track: TRACK,
        author: author.public(),
        commitment: [0; 32].into(),
        roster_height: 0,
        ticketers: BoundedVec::new(),
        stamp: 0,
    };
    let draft = Draft {
        parent: None,
        source: Text::try_from("x = 1\n").unwrap(),
        graph: [1; 32].into(),
        title: Text::default(),
        why: Text::default(),
        idea: None,
        researcher: Researcher { kind: Text::default(), model: Text::default(), program: Hash32::default() },
    };
    let run = Run { metric: 1, test: 2, leaves: vec![Hash32([3; 32]); usize::from(SEGMENTS)].try_into().unwrap() };
    let body = Commit {
        proposal: Signed::by_author(proposal, &author),
        tickets: BoundedVec::new(),
        salt: Hash32([6; 32]),
        draft,
        runs: vec![run].try_into().unwrap(),
        effort: 1,
    };
    Signed::by_author(body, &author)
}

fn track() -> Track {
    Track {
        version: WIRE_VERSION,
        arithmetic: ARITHMETIC_VERSION,
        name: Text::try_from("names").unwrap(),
        title: Text::default(),
        description: Text::default(),
        kind: TrackKind::Train,
        budget: 1,
        memory: 1,
        parameters: 1,
        source_bytes: 100,
        literal_bits: 1,
        seeds: 1,
        segments: SEGMENTS,
        margin: 1,
        converter: Text::default(),
        data: vec![DataBlob { blob: [1; 32].into(), bytes: 1 }].try_into().unwrap(),
        baseline: Baseline { source: Text::default(), graph: [1; 32].into(), metric: 1, test: 1 },
        owner: AuthorSecret::from_bytes(&[4; 32]).public(),
        roster: vec![VerifierSecret::from_bytes(&[5; 32]).public()].try_into().unwrap(),
        continues: None,
    }
}

/// A client of one peer that answers every request with `response`.
async fn asking(response: Response) -> Peer {
    client_of(vec![Box::new(move |_| Some(response.clone()))]).await
}

fn names_the_liar<T: std::fmt::Debug>(got: Result<T, FetchError>) {
    assert!(matches!(got, Err(FetchError::Lied { peer, .. }) if peer == key(1)), "{got:?}");
}

#[tokio::test]
async fn a_tip_is_told_and_an_empty_chain_begins_with_its_track() {
    let entry = EntryId([8; 32]);
    let client = asking(Response::Tip { height: 5, entry }).await;
    assert_eq!(fetch::tip(&client.handle, key(1), TRACK).await.unwrap(), Tip { height: 5, entry });
    let client = asking(Response::Tip { height: 0, entry }).await;
    names_the_liar(fetch::tip(&client.handle, key(1), TRACK).await);
    let client = asking(Response::NotFound).await;
    assert!(matches!(fetch::tip(&client.handle, key(1), TRACK).await, Err(FetchError::NotFound(_))));
}

#[tokio::test]
async fn entries_are_consecutive_linked_and_of_the_track() {
    let page = |entries: Vec<CertifiedEntry>| Response::Entries(entries.try_into().unwrap());
    let client = asking(page(chain(TRACK, 4, 10))).await;
    assert_eq!(fetch::entries(&client.handle, key(1), TRACK, 4).await.unwrap(), chain(TRACK, 4, 10));
    let client = asking(page(Vec::new())).await;
    assert_eq!(fetch::entries(&client.handle, key(1), TRACK, 14).await.unwrap(), []);

    let mut unlinked = chain(TRACK, 4, 10);
    unlinked[5].entry.previous = EntryId([0; 32]);
    let mut skipped = chain(TRACK, 4, 10);
    skipped.remove(5);
    for bad in [unlinked, skipped, chain(TRACK, 5, 10), chain(TrackId([1; 32]), 4, 10)] {
        let client = asking(page(bad)).await;
        names_the_liar(fetch::entries(&client.handle, key(1), TRACK, 4).await);
    }
}

#[tokio::test]
async fn a_commit_comes_from_the_first_peer_that_has_the_right_one() {
    let (right, mut other, mut unsigned) = (commit(), commit(), commit());
    other.body.effort = 2;
    unsigned.signature = Signature([0; 64]);
    let id = right.id();
    let answer = |response: Response| -> Box<dyn FnMut(Request) -> Option<Response> + Send> {
        Box::new(move |_| Some(response.clone()))
    };
    let client = client_of(vec![
        answer(Response::NotFound),
        answer(Response::Commit(Box::new(other))),
        answer(Response::Commit(Box::new(unsigned))),
        answer(Response::Commit(Box::new(right.clone()))),
    ])
    .await;
    let peers = [1, 2, 3, 4].map(key);
    assert_eq!(fetch::commit(&client.handle, &peers, TRACK, id).await.unwrap(), right);
    for liar in [2, 3] {
        let got = fetch::commit(&client.handle, &[key(liar)], TRACK, id).await;
        assert!(matches!(got, Err(FetchError::Lied { peer, .. }) if peer == key(liar)), "{got:?}");
    }
    let got = fetch::commit(&client.handle, &[key(4)], TrackId([1; 32]), id).await;
    assert!(matches!(got, Err(FetchError::Lied { .. })), "{got:?}");
    assert!(matches!(fetch::commit(&client.handle, &[], TRACK, id).await, Err(FetchError::NoPeers)));
}

#[tokio::test]
async fn a_track_has_its_id_and_fields_that_agree() {
    let client = asking(Response::Track(Box::new(track()))).await;
    assert_eq!(fetch::track(&client.handle, &[key(1)], track().id()).await.unwrap(), track());
    names_the_liar(fetch::track(&client.handle, &[key(1)], TRACK).await);
    let broken = Track { margin: 0, ..track() };
    let client = asking(Response::Track(Box::new(broken.clone()))).await;
    names_the_liar(fetch::track(&client.handle, &[key(1)], broken.id()).await);
}

/// The records in the order in which they are paged.
fn sorted(mut records: Vec<Gossip>) -> Vec<Gossip> {
    records.sort_by_key(Gossip::id);
    records
}

fn pages(records: Vec<Gossip>, page: usize) -> Box<dyn FnMut(Request) -> Option<Response> + Send> {
    Box::new(move |request| {
        let Request::Pending { after, .. } = request else { return Some(Response::NotFound) };
        let rest: Vec<Gossip> = records.iter().filter(|gossip| gossip.id() > after).cloned().collect();
        let more = rest.len() > page;
        let records = rest.into_iter().take(page).collect::<Vec<_>>().try_into().unwrap();
        Some(Response::Pending { records, more })
    })
}

#[tokio::test]
async fn pending_records_come_page_by_page_and_checked() {
    let records = sorted((0..50).map(idea).collect());
    let client = client_of(vec![pages(records.clone(), 7)]).await;
    assert_eq!(fetch::pending(&client.handle, key(1), TRACK).await.unwrap(), records);
    names_the_liar(fetch::pending(&client.handle, key(1), TrackId([1; 32])).await);

    let client = client_of(vec![pages(sorted(vec![idea(1), forged(2), idea(3)]), 7)]).await;
    names_the_liar(fetch::pending(&client.handle, key(1), TRACK).await);
    let mut disordered = sorted((0..5).map(idea).collect());
    disordered.reverse();
    let client = client_of(vec![pages(disordered, 7)]).await;
    names_the_liar(fetch::pending(&client.handle, key(1), TRACK).await);
    // Promises more for ever, and has nothing.
    let client = asking(Response::Pending { records: BoundedVec::new(), more: true }).await;
    assert_eq!(fetch::pending(&client.handle, key(1), TRACK).await.unwrap(), []);
    // Repeats one page for ever.
    let again = Response::Pending { records: vec![idea(1)].try_into().unwrap(), more: true };
    let client = asking(again).await;
    names_the_liar(fetch::pending(&client.handle, key(1), TRACK).await);
}

#[tokio::test]
async fn a_busy_peer_is_asked_again() {
    let mut turns = 0;
    let client = client_of(vec![Box::new(move |_| {
        turns += 1;
        Some(if turns < 3 { Response::Busy } else { Response::Tip { height: 1, entry: EntryId([1; 32]) } })
    })])
    .await;
    assert_eq!(fetch::tip(&client.handle, key(1), TRACK).await.unwrap().height, 1);
    let client = asking(Response::Busy).await;
    assert!(matches!(fetch::tip(&client.handle, key(1), TRACK).await, Err(FetchError::Busy(_))));
}

#[tokio::test]
async fn an_answer_to_another_question_names_the_liar() {
    let client = asking(Response::Pending { records: BoundedVec::new(), more: false }).await;
    names_the_liar(fetch::tip(&client.handle, key(1), TRACK).await);
    names_the_liar(fetch::entries(&client.handle, key(1), TRACK, 1).await);
    names_the_liar(fetch::commit(&client.handle, &[key(1)], TRACK, CommitId([1; 32])).await);
}
