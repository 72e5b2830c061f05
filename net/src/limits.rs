//! Every limit of the peer-to-peer layer, with its unit and its reason.
//!
//! Sizes of records and pages stand in [`cairn_protocol::limits`]; these are about connections,
//! rates, queues and patience.
//!
//! *Invariant:* nothing that a peer can make grow is without a limit here or there.

use std::time::Duration;

/// Tracks that one node follows: each costs three topics and their meshes.
pub const TRACKS_MAX: usize = 64;
/// Topics of all tracks, three for each.
pub const TOPICS_MAX: usize = 3 * TRACKS_MAX;
/// Subscriptions that one message of a peer may change; more is no honest peer.
pub const SUBSCRIPTIONS_PER_MESSAGE_MAX: usize = 2 * TOPICS_MAX;
/// Addresses that one node listens on.
pub const LISTEN_MAX: usize = 16;
/// Bootstrap addresses: they are dialled for ever, so they are few.
pub const BOOTSTRAP_MAX: usize = 64;

/// Connections that others opened: a home machine holds them without tuning.
pub const INCOMING_MAX: u32 = 128;
/// Connections that we opened; kept apart, so that strangers cannot fill every place.
pub const OUTGOING_MAX: u32 = 64;
/// Incoming connections that are still shaking hands.
pub const PENDING_INCOMING_MAX: u32 = 64;
/// Outgoing connections that are still shaking hands.
pub const PENDING_OUTGOING_MAX: u32 = 64;
/// Connections with one peer: two sides dial at once, over two transports.
pub const CONNECTIONS_PER_PEER_MAX: u32 = 4;
/// Peers below which more are looked for. Gossip spreads well with far fewer.
pub const PEERS_WANTED: usize = 24;
/// Time after which a connection that no protocol uses is closed. Peers are few and useful, so long.
pub const IDLE: Duration = Duration::from_secs(600);
/// Interval between pings of a connection.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Time in which a ping must be answered.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pings in a row without an answer after which a connection is dead; one may be lost to a machine
/// that is busy training.
pub const PINGS_LOST_MAX: u32 = 2;
/// Silence in milliseconds after which QUIC gives a connection up: a killed peer restarts sooner
/// than a person notices.
pub const QUIC_SILENCE_MS: u32 = 10_000;
/// Interval of QUIC's own keep-alive, a fifth of the silence it prevents.
pub const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Time after which a connected peer that follows none of our tracks counts as a peer all the same.
pub const READY_PATIENCE: Duration = Duration::from_secs(2);
/// Streams that wait for their protocol on one connection.
pub const NEGOTIATING_STREAMS_MAX: usize = 64;

/// Interval of the gossip mesh's upkeep: short, since a lost record is offered again only then.
pub const HEARTBEAT: Duration = Duration::from_millis(700);
/// Delay before the first upkeep; the library's five seconds would be most of a demo's start.
pub const HEARTBEAT_DELAY: Duration = Duration::from_millis(100);
/// Time for which a gossiped record is known as seen. Longer than it can travel (a few heartbeats);
/// short enough that a vote which nobody answered can be sent again.
pub const SEEN: Duration = Duration::from_secs(12);
/// Peers in the mesh of a topic: each forwards to so many.
pub const MESH_WANTED: usize = 6;
/// Peers below which a mesh grows.
pub const MESH_LOW: usize = 4;
/// Peers above which a mesh shrinks.
pub const MESH_HIGH: usize = 12;
/// Peers of a mesh that we dialled ourselves, so that strangers cannot be all of it.
pub const MESH_OUTGOING_MIN: usize = 2;
/// Bytes around a record in a gossip message: topic, framing, control. The library holds its limit
/// against its whole read buffer, where the next messages already lie, so there must be room.
pub const GOSSIP_FRAME_BYTES: usize = 48 * 1024;
/// Messages queued for one slow peer before they are dropped.
pub const GOSSIP_QUEUE_MAX: usize = 512;
/// Gossiped records a second that one peer may hand us for good; the rest is ignored unread.
/// A checked signature costs 0.1 ms, so a flood takes at most a few percent of one thread.
pub const GOSSIP_PER_SECOND: u32 = 200;
/// Gossiped records that one peer may hand us at once, as after a pause.
pub const GOSSIP_BURST: u32 = 1_000;
/// Own records kept until somebody listens to their topic.
pub const OUTBOX_MAX: usize = 64;
/// Time for which an own record waits for a listener; later ones learn it by asking.
pub const OUTBOX_PATIENCE: Duration = Duration::from_secs(20);

/// Time for one exchange of request and response, from asking to the last byte.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that the network itself may add to an exchange before the asker gives up on it.
pub const REQUEST_GRACE: Duration = Duration::from_secs(2);
/// Own requests in flight to all peers; the next one waits. Each may bring a response of 1 MiB.
pub const ASKING_MAX: usize = 64;
/// Requests of one peer that are being answered; the next one is told that we are busy.
pub const SERVING_PER_PEER_MAX: usize = 16;
/// Requests of all peers that are being answered: 64 MiB of responses at worst.
pub const SERVING_MAX: usize = 64;
/// Streams of requests and responses on one connection.
pub const REQUEST_STREAMS_MAX: usize = 64;

/// Stateless faults (bytes, signatures, stamps that do not hold) after which a peer is banned. An
/// honest peer checks before it forwards and makes none; a few are forgiven to a broken disk.
pub const FAULTS_BEFORE_BAN: u32 = 4;
/// Time after which a peer's faults are forgotten.
pub const FAULT_MEMORY: Duration = Duration::from_secs(600);
/// Length of a ban: long enough to end a flood, short enough to forgive a bug that was fixed.
pub const BAN: Duration = Duration::from_secs(600);
/// Faulty or banned peers remembered; the oldest is forgotten first.
pub const FAULTY_MAX: usize = 1_024;

/// Peers whose addresses are known; those that never answered are forgotten first.
pub const KNOWN_MAX: usize = 256;
/// Addresses kept for one peer.
pub const ADDRESSES_PER_PEER_MAX: usize = 8;
/// First pause before dialling again.
pub const REDIAL_FIRST: Duration = Duration::from_millis(250);
/// Longest pause before dialling a bootstrap address again: it is somebody's only door.
pub const REDIAL_BOOTSTRAP_MAX: Duration = Duration::from_secs(15);
/// Longest pause before dialling another peer again.
pub const REDIAL_MAX: Duration = Duration::from_secs(120);
/// Failures after which a peer that is no bootstrap peer is forgotten.
pub const REDIALS_MAX: u32 = 10;
/// Age at which a connection counts as a success; one that ends sooner counts as a failure.
pub const STABLE: Duration = Duration::from_secs(5);
/// Peers dialled in one go, so that a long list is no storm of packets.
pub const DIALS_AT_ONCE_MAX: usize = 8;
/// Time for looking up the name of a bootstrap peer.
pub const LOOK_UP: Duration = Duration::from_secs(5);
/// Pauses between asking one peer for its neighbours; the last one repeats.
pub const NEIGHBOURS_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];

/// Events that wait for the driver. When they are full, gossip is dropped (it can be asked for
/// later) and requests are answered with "busy"; connections and disconnections are never lost.
pub const EVENTS_MAX: usize = 1_024;
/// Commands that wait for the network; senders then wait.
pub const COMMANDS_MAX: usize = 256;
/// Interval of the upkeep: redialling, bans, what the driver is still to be told.
pub const TICK: Duration = Duration::from_millis(100);
/// Time in which a closing network says goodbye to its peers.
pub const GOODBYE: Duration = Duration::from_millis(500);

/// Chunks of one blob that are asked for at once.
pub const CHUNKS_AT_ONCE: usize = 4;
/// Times that one peer is asked again after it said that it is busy.
pub const BUSY_RETRIES: u32 = 5;
/// First pause after "busy"; it doubles each time.
pub const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Pending records taken from one peer in one go.
pub const PENDING_MAX: usize = 4_096;
/// Bytes of pending records taken from one peer in one go.
pub const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Interval between catching up with one peer and the next, when nothing says that we are behind.
pub const ANTI_ENTROPY: Duration = Duration::from_secs(2);
/// Peers that are caught up with at the same time.
pub const CATCHING_UP_MAX: usize = 4;
/// Bodies of commits that are fetched at the same time.
pub const FETCHING_MAX: usize = 16;
/// Records and bodies from peers that wait for the driver; peers are asked for no more meanwhile.
pub const FOLLOWED_MAX: usize = 256;
/// Own records that wait to be handed to the network.
pub const OWN_RECORDS_MAX: usize = 1_024;
/// Pause before asking again for what nobody had.
pub const FIND_PAUSE: Duration = Duration::from_millis(500);
