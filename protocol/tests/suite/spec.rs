//! The specification names what the code holds: limits, hash contexts, domains.

use cairn_protocol::limits::*;

const SPECIFICATION: &str = include_str!("../../../docs/spec/wire.md");
const LIMITS: &str = include_str!("../../src/limits.rs");

macro_rules! values {
    ($($name:ident)*) => { [$((stringify!($name), $name.to_string())),*] };
}

#[test]
fn the_specification_lists_every_limit() {
    let values = values![
        WIRE_VERSION ARITHMETIC_VERSION SEGMENTS SEEDS_MAX ROSTER_MAX TICKETS_MAX SOURCE_BYTES_MAX NAME_BYTES_MAX TITLE_BYTES_MAX TEXT_BYTES_MAX DESCRIPTION_BYTES_MAX LINK_BYTES_MAX SUMMARY_BYTES_MAX REPORTS_MAX TRACK_BLOBS_MAX BLOB_BYTES_MAX VERDICT_ITEMS_MAX TRACK_BYTES_MAX COMMIT_BYTES_MAX GOSSIP_BYTES_MAX ENTRY_BYTES_MAX REQUEST_BYTES_MAX RESPONSE_BYTES_MAX CHUNK_BYTES_MAX ENTRIES_PAGE_MAX PENDING_PAGE_MAX NEIGHBOURS_MAX NEIGHBOUR_ADDRESSES_MAX ADDRESS_BYTES_MAX NEIGHBOURS_BYTES_MAX STAMP_ZERO_BITS OPEN_PROPOSALS_PER_AUTHOR_MAX PROPOSALS_MAX TICKETS_KEPT_MAX QUEUE_MAX PENDING_COMMITS_MAX PROPOSAL_OPEN_MS PROPOSAL_OPERATIONS_PER_MS REVEAL_WAIT_MS RESEND_MS IDEAS_MAX
    ];
    for (name, value) in &values {
        let row = format!("| `{name}` | {value} |");
        assert!(SPECIFICATION.contains(&row), "docs/spec/wire.md lacks {row}");
    }
    let declared: Vec<&str> =
        LIMITS.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect();
    assert_eq!(declared, values.each_ref().map(|(name, _)| *name));
}

#[test]
fn the_specification_lists_every_hash_context_and_domain() {
    let sources = [
        include_str!("../../src/ids.rs"),
        include_str!("../../src/keys.rs"),
        include_str!("../../src/messages.rs"),
        include_str!("../../src/records.rs"),
    ]
    .concat();
    let after = |start: &str| -> Vec<String> {
        sources.split(start).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let (contexts, domains) = (after(" hash(\""), after("b\"cairn 1 sign "));
    let contexts: Vec<String> = contexts.into_iter().chain(after("(hash(\"")).collect();
    assert!(contexts.len() >= 9 && domains.len() == 9, "{contexts:?} {domains:?}");
    for name in contexts.iter().chain(&domains) {
        assert!(SPECIFICATION.contains(&format!("`{name}`")), "docs/spec/wire.md lacks `{name}`");
    }
}
