//! Strategies that make any value of every record and message.

use cairn_protocol::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// A type of which any value can be made.
pub(crate) trait Arb: Sized + std::fmt::Debug + 'static {
    fn arb() -> BoxedStrategy<Self>;
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Arb for $type {
            fn arb() -> BoxedStrategy<Self> {
                prop_oneof![4 => any::<$type>(), 1 => Just(<$type>::MIN), 1 => Just(<$type>::MAX)].boxed()
            }
        }
    )*};
}
numbers!(u8 u16 u32 u64 i64);

impl Arb for bool {
    fn arb() -> BoxedStrategy<Self> {
        any::<bool>().boxed()
    }
}

macro_rules! wrappers {
    ($($type:ident)*) => {$(
        impl Arb for $type {
            fn arb() -> BoxedStrategy<Self> {
                any::<[u8; 32]>().prop_map($type).boxed()
            }
        }
    )*};
}
wrappers!(Hash32 TrackId ProposalId CommitId EntryId GraphId BlobId IdeaId Commitment);
wrappers!(AuthorKey VerifierKey PeerKey);

impl Arb for Signature {
    fn arb() -> BoxedStrategy<Self> {
        (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(r, s)| Signature([r, s].concat().try_into().unwrap())).boxed()
    }
}

impl<T: Arb> Arb for Option<T> {
    fn arb() -> BoxedStrategy<Self> {
        proptest::option::of(T::arb()).boxed()
    }
}

impl<T: Arb> Arb for Box<T> {
    fn arb() -> BoxedStrategy<Self> {
        T::arb().prop_map(Box::new).boxed()
    }
}

impl<T: Arb, const N: usize> Arb for BoundedVec<T, N> {
    fn arb() -> BoxedStrategy<Self> {
        vec(T::arb(), 0..=N.min(3)).prop_map(|items| items.try_into().unwrap()).boxed()
    }
}

impl<const N: usize> Arb for BoundedBytes<N> {
    fn arb() -> BoxedStrategy<Self> {
        vec(any::<u8>(), 0..=N.min(50)).prop_map(|bytes| bytes.try_into().unwrap()).boxed()
    }
}

impl<const N: usize> Arb for Text<N> {
    fn arb() -> BoxedStrategy<Self> {
        vec(any::<char>(), 0..=N.min(12)).prop_map(|chars| Text::truncated(&String::from_iter(chars))).boxed()
    }
}

/// Strategies of all fields, paired up: tuples themselves end at twelve.
macro_rules! strategies {
    () => { Just(()) };
    ($field:ident $($rest:ident)*) => { (Arb::arb(), strategies!($($rest)*)) };
}
macro_rules! pattern {
    () => { () };
    ($field:ident $($rest:ident)*) => { ($field, pattern!($($rest)*)) };
}
macro_rules! records {
    ($($type:ident { $($field:ident)* })*) => {$(
        impl Arb for $type {
            fn arb() -> BoxedStrategy<Self> {
                strategies!($($field)*).prop_map(|pattern!($($field)*)| $type { $($field),* }).boxed()
            }
        }
    )*};
}
records! {
    DataBlob { blob bytes }
    Baseline { source graph metric test }
    Track {
        version arithmetic name title description kind budget memory parameters source_bytes literal_bits seeds
        segments margin converter data baseline owner roster continues
    }
    Continues { track tip }
    Idea { track author title text source }
    Report { base graph summary metric seed status proposer }
    Reports { track author batch results }
    Proposal { track author commitment roster_height ticketers stamp }
    Ticket { track proposal ticketer }
    Researcher { kind model program }
    Draft { parent source graph title why idea researcher }
    Run { metric test leaves }
    Commit { proposal tickets salt draft runs effort }
    Claim { metric test }
    CommitHeader { track author commit proposal signature }
    Judged { item finding }
    Verdict { track commit verifier findings }
    Entry { track height previous kind }
    Vote { track height entry verifier signature }
    SeatSignature { seat signature }
    Certificate { votes }
    CertifiedEntry { entry certificate }
    Candidate { entry sequencer signature }
    AskNeighbours { max }
    Neighbour { peer addresses }
    Neighbours { peers }
}

impl<T: Arb> Arb for Signed<T> {
    fn arb() -> BoxedStrategy<Self> {
        (T::arb(), Signature::arb()).prop_map(|(body, signature)| Signed { body, signature }).boxed()
    }
}

/// One variant after another: `Name`, `Name(field…)` or `Name { field… }`.
macro_rules! choices {
    ($($type:ident { $($variants:tt)* })*) => {$(
        impl Arb for $type {
            fn arb() -> BoxedStrategy<Self> {
                let all: Vec<BoxedStrategy<$type>> = choices!([] $type $($variants)*);
                proptest::strategy::Union::new(all).boxed()
            }
        }
    )*};
    ([$($made:expr,)*] $type:ident) => { vec![$($made),*] };
    ([$($made:expr,)*] $type:ident $name:ident ($field:ident) $($rest:tt)*) => {
        choices!([$($made,)* Arb::arb().prop_map(|$field| $type::$name($field)).boxed(),] $type $($rest)*)
    };
    ([$($made:expr,)*] $type:ident $name:ident { $($field:ident)* } $($rest:tt)*) => {
        choices!([
            $($made,)*
            strategies!($($field)*).prop_map(|pattern!($($field)*)| $type::$name { $($field),* }).boxed(),
        ] $type $($rest)*)
    };
    ([$($made:expr,)*] $type:ident $name:ident $($rest:tt)*) => {
        choices!([$($made,)* Just($type::$name).boxed(),] $type $($rest)*)
    };
}
choices! {
    TrackKind { Train }
    ReportStatus { Done Stopped Diverged Refused }
    Item { Segment { seed segment } Evaluation { seed } }
    Finding { Good { proof } Bad { found } Cannot }
    Refusal { NotARecord TestWorse Refuted(item) Skipped(item) }
    EntryKind {
        Queued { commit proposal author claim } Accepted { commit } Refused { commit why } Roster { seat verifier }
    }
    Gossip {
        Idea(x) Reports(x) Proposal(x) Ticket(x) Commit(x) Verdict(x) Candidate(x) Vote(x) Entry(x)
    }
    Request {
        Tip { track } Entries { track from max } Commit { track commit } Blob { blob offset len } Track { track }
        Pending { track after }
    }
    Response {
        Tip { height entry } Entries(x) Commit(x) Blob { total bytes } Track(x) Pending { records more } NotFound Busy
    }
}
