//! Blobs come whole, from whoever is left, and from no liar.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_net::fetch::{self, FetchError};
use cairn_protocol::limits::{BLOB_BYTES_MAX, CHUNK_BYTES_MAX};
use cairn_protocol::{BlobId, Request, Response};

use crate::kit::*;

const CHUNKS: usize = 12;

fn data() -> Arc<Vec<u8>> {
    let len = (CHUNKS - 1) * CHUNK_BYTES_MAX + 123;
    Arc::new((0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect())
}

type Answer = Box<dyn FnMut(Request) -> Option<Response> + Send>;

/// Serves `data`, and dies before it would serve more than `chunks` chunks. Counts them in `served`.
fn server(data: Arc<Vec<u8>>, id: BlobId, chunks: usize, served: Arc<AtomicUsize>) -> Answer {
    Box::new(move |request| match request {
        Request::Blob { blob, offset, len } if blob == id => {
            if served.fetch_add(1, Ordering::SeqCst) >= chunks {
                return None;
            }
            let start = (offset as usize).min(data.len());
            let end = (start + len as usize).min(data.len());
            let bytes = data[start..end].to_vec().try_into().unwrap();
            Some(Response::Blob { total: data.len() as u64, bytes })
        }
        _ => Some(Response::NotFound),
    })
}

fn count() -> Arc<AtomicUsize> {
    Arc::default()
}

#[tokio::test]
async fn a_blob_goes_on_from_the_second_peer_when_the_first_dies() {
    let (data, folder) = (data(), tempfile::tempdir().unwrap());
    let (id, into) = (BlobId::of(&data), folder.path().join("blob"));
    let (first, second) = (count(), count());
    let client = client_of(vec![
        server(data.clone(), id, 3, first.clone()),
        server(data.clone(), id, usize::MAX, second.clone()),
    ])
    .await;
    let mut progress = Vec::new();
    let peers = [key(1), key(2)];
    let len = data.len() as u64;
    fetch::blob(&client.handle, &peers, id, len, &into, &mut |have| progress.push(have)).await.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), *data);
    assert!(progress.is_sorted() && progress.last() == Some(&len));
    assert!(first.load(Ordering::SeqCst) > 3, "the first one was asked until it died");
    assert!(second.load(Ordering::SeqCst) <= CHUNKS, "no chunk came twice from the second");
}

#[tokio::test]
async fn a_blob_goes_on_in_a_later_call_from_what_the_file_holds() {
    let (data, folder) = (data(), tempfile::tempdir().unwrap());
    let (id, into) = (BlobId::of(&data), folder.path().join("blob"));
    let (first, second) = (count(), count());
    let client = client_of(vec![
        server(data.clone(), id, 7, first.clone()),
        server(data.clone(), id, usize::MAX, second.clone()),
    ])
    .await;
    let len = data.len() as u64;
    let error = fetch::blob(&client.handle, &[key(1)], id, len, &into, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, FetchError::Ask { peer, .. } if peer == key(1)), "{error}");
    let held = std::fs::metadata(&into).unwrap().len() as usize;
    assert!(held > 0 && held.is_multiple_of(CHUNK_BYTES_MAX));
    fetch::blob(&client.handle, &[key(2)], id, len, &into, &mut |_| {}).await.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), *data);
    assert_eq!(second.load(Ordering::SeqCst), CHUNKS - held / CHUNK_BYTES_MAX, "only what was missing");
    // What is there already costs nothing but its hash.
    fetch::blob(&client.handle, &[], id, len, &into, &mut |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_liar_among_the_sources_is_left_out() {
    let (data, folder) = (data(), tempfile::tempdir().unwrap());
    let (id, into) = (BlobId::of(&data), folder.path().join("blob"));
    let mut wrong = data.to_vec();
    wrong.iter_mut().for_each(|byte| *byte ^= 1);
    let client = client_of(vec![
        server(Arc::new(wrong.clone()), id, usize::MAX, count()),
        server(data.clone(), id, usize::MAX, count()),
        server(Arc::new(wrong[1..].to_vec()), id, usize::MAX, count()),
    ])
    .await;
    let len = data.len() as u64;
    let (liar, honest, short) = (key(1), key(2), key(3));
    fetch::blob(&client.handle, &[short, liar, honest], id, len, &into, &mut |_| {}).await.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), *data);

    for (peers, held) in [(vec![liar], 0), (vec![short], 0), (vec![liar, short], 0), (vec![liar], 3 * CHUNK_BYTES_MAX)]
    {
        std::fs::write(&into, &data[..held]).unwrap();
        let error = fetch::blob(&client.handle, &peers, id, len, &into, &mut |_| {}).await.unwrap_err();
        assert!(matches!(error, FetchError::Lied { .. }), "{peers:?}: {error}");
        assert_eq!(std::fs::metadata(&into).unwrap().len(), 0, "nothing wrong is kept");
        if client.handle.peers().len() < 3 {
            return; // Banned meanwhile, which is as good.
        }
    }
}

#[tokio::test]
async fn a_blob_that_nobody_has_or_that_is_too_large_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (id, into) = (BlobId([5; 32]), folder.path().join("blob"));
    let client = client_of(vec![Box::new(|_| Some(Response::NotFound))]).await;
    let handle = &client.handle;
    let error = fetch::blob(handle, &[key(1)], id, 10, &into, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, FetchError::NotFound(peer) if peer == key(1)));
    let error = fetch::blob(handle, &[], id, 10, &into, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, FetchError::NoPeers));
    let error = fetch::blob(handle, &[key(1)], id, BLOB_BYTES_MAX + 1, &into, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }));
    let nowhere = folder.path().join("no/folder");
    let error = fetch::blob(handle, &[key(1)], id, 10, &nowhere, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, FetchError::File { .. }));
}
