//! Answers to what peers ask: one function for nodes and verifiers alike.
//!
//! *Invariant:* reads only; every answer is one bounded page; whatever goes wrong here is told to
//! the peer as "not found" and to the caller as an error.

use std::collections::BTreeMap;
use std::ops::Bound;

use cairn_protocol::limits::{CHUNK_BYTES_MAX, ENTRIES_PAGE_MAX, PENDING_PAGE_MAX, RESPONSE_BYTES_MAX};
use cairn_protocol::{BoundedBytes, BoundedVec, Gossip, Hash32, Request, Response, Wire, encode};

use crate::Store;
use crate::error::Result;

/// Bytes of a page that are left for its frame.
const PAGE_BYTES_MAX: usize = RESPONSE_BYTES_MAX - 1024;

/// As many items, from the first on, as one page holds.
fn page<T: Wire, const N: usize>(items: Vec<T>) -> (BoundedVec<T, N>, bool) {
    let mut page = BoundedVec::default();
    let mut bytes = 0usize;
    for item in items {
        bytes = bytes.saturating_add(encode(&item).len());
        if bytes > PAGE_BYTES_MAX || page.push(item).is_err() {
            return (page, true);
        }
    }
    (page, false)
}

/// The page of `records` after `after`: the answer of whoever knows better than its store which records are pending.
pub fn pending_page(records: &BTreeMap<Hash32, Gossip>, after: Hash32) -> Response {
    let mut following = records.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, gossip)| gossip.clone());
    let found: Vec<Gossip> = following.by_ref().take(PENDING_PAGE_MAX).collect();
    let (records, cut) = page(found);
    Response::Pending { records, more: cut || following.next().is_some() }
}

impl Store {
    /// The answer to `request`.
    pub fn answer(&self, request: &Request) -> Result<Response> {
        Ok(match request {
            Request::Tip { track } => match self.track(*track)? {
                None => Response::NotFound,
                Some(_) => {
                    let (height, entry) = self.tip(*track)?;
                    Response::Tip { height, entry }
                }
            },
            Request::Entries { track, from, max } => {
                let max = usize::from(*max).min(ENTRIES_PAGE_MAX);
                Response::Entries(page(self.entries(*track, *from, max)?).0)
            }
            Request::Commit { track, commit } => match self.commit(*commit)? {
                Some(found) if found.body.track() == *track => Response::Commit(Box::new(found)),
                _ => Response::NotFound,
            },
            Request::Blob { blob, offset, len } => {
                let len = (*len as usize).min(CHUNK_BYTES_MAX);
                match (self.blobs().size(*blob), self.blobs().read_at(*blob, *offset, len)?) {
                    (Some(total), Some(bytes)) => match BoundedBytes::try_from(bytes) {
                        Ok(bytes) => Response::Blob { total, bytes },
                        Err(_) => Response::NotFound,
                    },
                    _ => Response::NotFound,
                }
            }
            Request::Track { track } => {
                self.track(*track)?.map_or(Response::NotFound, |track| Response::Track(Box::new(track)))
            }
            Request::Pending { track, after } => {
                let found = self.gossip_page(*track, *after)?;
                let full = found.len() >= PENDING_PAGE_MAX;
                let (records, cut) = page(found);
                Response::Pending { records, more: full || cut }
            }
        })
    }
}
