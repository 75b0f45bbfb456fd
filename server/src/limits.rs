//! Every bound with its reason.

/// The sizes that decide on which path a learner is brought level and how often a snapshot is taken. They are given to a
/// node rather than read here, so that whoever wants to see every path does not need gigabytes: a server takes the
/// default, the simulation draws them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// [`HISTORY_BYTES_MAX`].
    pub history_bytes_max: usize,
    /// [`LOG_READ_BYTES`].
    pub log_read_bytes: usize,
    /// [`SNAPSHOT_PIECE_BYTES`].
    pub snapshot_piece_bytes: usize,
    /// [`SNAPSHOT_WAIT_LOG_BYTES_MAX`].
    pub snapshot_wait_log_bytes_max: u64,
    /// [`HELD_BYTES_MAX`].
    pub held_bytes_max: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            history_bytes_max: HISTORY_BYTES_MAX,
            log_read_bytes: LOG_READ_BYTES,
            snapshot_piece_bytes: SNAPSHOT_PIECE_BYTES,
            snapshot_wait_log_bytes_max: SNAPSHOT_WAIT_LOG_BYTES_MAX,
            held_bytes_max: HELD_BYTES_MAX,
        }
    }
}

/// Bytes of one piece of a snapshot. Cutting a piece is the longest that a snapshot holds up a write.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 << 10;

/// Pieces of a snapshot that may be on their way to the disk: a slow disk slows the snapshot, not the memory.
pub const SNAPSHOT_PIECES_IN_FLIGHT_MAX: u64 = 8;

/// Bytes of log after which a snapshot that is due does not wait any longer, however large it is: what a start has to
/// replay, some seconds' worth.
pub const SNAPSHOT_WAIT_LOG_BYTES_MAX: u64 = 1 << 30;

/// Requests of one connection that may be unanswered before we stop reading from it. Far above what a client has
/// in flight, so that only a flood meets it.
pub const REQUESTS_PER_CONNECTION_MAX: usize = 4_096;

/// Requests of all connections that may be in work before those that have some are no longer read, where
/// `globalOutstandingLimit` says nothing. What they hold stays below what the queues to the loop and the disk are made for.
pub const REQUESTS_IN_WORK_MAX: u32 = 65_536;

/// Bytes of answers and events that may wait for one client. A client that does not read is disconnected here.
pub const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// Names in one page of children, at most. With names of usual length a page stays below what every client takes.
pub const CHILDREN_PAGE_MAX: usize = 10_000;

/// Nodes that one request may delete where `deleteRecursiveMax` says nothing: everybody waits while they are judged, and
/// again while they are deleted.
pub const DELETE_RECURSIVE_MAX: u32 = 10_000;

/// Sessions whose end is remembered, so that nothing that is still under way for one of them is taken for a local session's
/// of another server. Far more than end while a message is under way.
pub const ENDED_SESSIONS_MAX: usize = 16_384;

/// Bytes of answers after which a turn carries out what it has so far. A short request can ask for a large node, and a
/// turn holds thousands of requests.
pub const TURN_REPLY_BYTES_MAX: usize = 4 << 20;

/// Bytes that are read from a socket at once.
pub const READ_CHUNK_BYTES: usize = 64 << 10;

/// Identities that one connection may prove: `auth` in a loop must not grow memory.
pub const IDENTITIES_PER_CONNECTION_MAX: usize = 64;

/// Milliseconds that the handshake of TLS may take.
pub const TLS_HANDSHAKE_MS: u64 = 5_000;

/// Handshakes of TLS that may be under way at once; one that comes when there are more is refused.
pub const TLS_HANDSHAKES_MAX: usize = 1_024;

/// Milliseconds after which a handshake looks again whether the files with keys have changed.
pub const TLS_LOOK_AGAIN_MS: u64 = 1_000;

/// Bytes of a file with keys or certificates. The list of all that browsers trust has a quarter of it.
pub const TLS_FILE_BYTES_MAX: u64 = 1 << 20;

/// Milliseconds that a connection may take to finish its handshake, as in Apache.
pub const HANDSHAKE_MS: i64 = 10_000;

/// Events that may wait for the node's loop. Connections wait when it is full.
pub const EVENT_QUEUE_MAX: usize = 16_384;

/// Events that are stepped before their effects are carried out: one write to each socket for all of them.
pub const EVENTS_PER_TURN_MAX: usize = 4_096;

/// Orders that may wait for the disk beyond what connections can have in flight.
pub const DISK_QUEUE_MAX: usize = 65_536;

/// Milliseconds between the pings of a leader to learners that leave it after [`LEADER_SILENCE_MS`].
pub const QUICK_PING_MS: i64 = 50;

/// Milliseconds of silence after which a learner leaves a leader that pings every [`QUICK_PING_MS`], unless
/// `leaderSilenceMs` says otherwise. Five pings: a machine that is too busy to send one of them in that time serves
/// nobody well either.
pub const LEADER_SILENCE_MS: u32 = 250;

/// Bytes of messages that may wait to be sent on one quorum link. A learner that lets more pile up is left behind; it
/// comes back and is brought level from the log.
pub const PEER_QUEUE_BYTES_MAX: usize = 64 << 20;

/// A quorum link has room for more of the log or of a snapshot when fewer bytes than this wait.
pub const PEER_ROOM_BYTES: usize = 1 << 20;

/// Bytes of the log that are read at once to bring a learner level.
pub const LOG_READ_BYTES: usize = 1 << 20;

/// Bytes of the latest transactions that a member of an ensemble keeps in memory to bring learners level with.
pub const HISTORY_BYTES_MAX: usize = 16 << 20;

/// The longest configuration text in a notification, bytes, and the longest notification, as in Apache.
pub const NOTIFICATION_BYTES_MAX: usize = 512 << 10;

/// Bytes of a notification beside the members, at most.
pub const NOTIFICATION_HEAD_BYTES: usize = 64;

/// Milliseconds in which a quorum must call a server that believes it is elected. Apache's followers call after 200 ms,
/// again after 100 ms, and so on; ours at once. Whoever waits longer has most likely decided too early, and in that time
/// keeps its vote from those who decided otherwise.
pub const DISCOVERY_MS: i64 = 1_500;

/// Servers that are no members and may talk on the election port at a time, where the ensemble can be changed. They are
/// about to be asked in, or have been asked to leave.
pub const ELECTION_GUESTS_MAX: usize = 16;

/// Milliseconds after which a server that is no member is forgotten when its election connection has ended: by then it
/// has called again, if it wants anything.
pub const ELECTION_GUEST_IDLE_MS: u64 = 10_000;

/// Handshakes that may wait for a leader. Those that come when there are more are refused and try another server.
pub const PARKED_HANDSHAKES_MAX: usize = 4_096;

/// Bytes of transactions that are logged and not applied while a server is brought level, before it gives up its clients
/// and applies them as they come.
pub const HELD_BYTES_MAX: usize = 32 << 20;

/// Milliseconds that an election waits for a better vote once a quorum agrees and somebody who can be reached does not.
/// Several times a way there and back between busy servers of one site; it is paid once by the whole fail-over. Ending
/// early costs another round at worst: discovery and synchronization give safety, not the election.
pub const ELECTION_WINDOW_MS: i64 = 15;

/// Milliseconds after which a vote that nothing came of is said again. Apache's servers wait for 200 ms of silence
/// before they decide, and a question that came sooner than that would make them wait anew.
pub const ELECTION_RESEND_MS: i64 = 250;

/// The wait between two repetitions doubles up to this many milliseconds, as in Apache.
pub const ELECTION_RESEND_MAX_MS: i64 = 60_000;

/// The same for an observer. Its questions cost a voter one answer and make nobody wait, and nobody else tells it that
/// there is a leader again.
pub const OBSERVER_RESEND_MAX_MS: i64 = 2_000;

/// An observer that has lost its leader waits a random time up to this many milliseconds before it asks: many observers
/// must not all ask in the moment in which the voters elect. Apache's default of `observer.election.DelayMs`.
pub const OBSERVER_ELECTION_DELAY_MS: i64 = 200;

/// Milliseconds in which the same question of the same peer is answered once. Two servers whose configurations differ
/// can each find that the other must be answered; without a bound they would do so as fast as the network carries it.
pub const ELECTION_ANSWER_MS: i64 = 10;
/// Identities that may come with a forwarded request. Apache has no bound; ours keeps far above any use of it.
pub const PEER_IDENTITIES_MAX: usize = 1_024;

/// Bytes of the address in an initial message of the election port, as in Apache.
pub const ELECTION_ADDRESS_BYTES_MAX: usize = 2_048;

/// Batches of messages from other servers that may wait for the node's loop. Each is what one read brought, so this
/// bounds memory, and a full queue holds the sockets up instead of losing anything.
pub const PEER_INPUTS_MAX: usize = 256;

/// Quorum links that others may have open to us at once. Far above the size of any ensemble, so that only a flood meets
/// it.
pub const PEER_LINKS_MAX: usize = 512;

/// Quorum links to us that have not said who they are. Beyond it new ones are closed: a stranger that connects and keeps
/// silent must not take the place of a learner.
pub const PEER_SILENT_LINKS_MAX: usize = 64;

/// Milliseconds that opening a quorum link may take, all addresses together; `initLimit` if that is less.
pub const PEER_CONNECT_MS: i64 = 1_000;

/// Milliseconds that the last messages of a quorum link may take to leave before it is closed all the same.
pub const PEER_FAREWELL_MS: i64 = 1_000;

/// Pieces of a leader's snapshot, each of at most [`READ_CHUNK_BYTES`], between the socket and the thread that loads it.
pub const PEER_SNAPSHOT_CHUNKS_MAX: usize = 8;

/// Election connections that have not said who they are.
pub const ELECTION_HANDSHAKES_MAX: usize = 64;

/// Milliseconds that an election connection may take to come about, and to say who it is, as in Apache (`cnxTimeout`).
pub const ELECTION_CONNECT_MS: u64 = 5_000;

/// Milliseconds before the second attempt to reach a peer's election port; each further pause is twice as long.
pub const ELECTION_RETRY_MIN_MS: u64 = 20;

/// Milliseconds between attempts to reach a peer's election port, at most.
pub const ELECTION_RETRY_MAX_MS: u64 = 1_000;

/// Milliseconds that a server with a larger number has to dial back before we ask it again. Asked too early it would
/// drop the connection that it is just making.
pub const ELECTION_DIAL_BACK_MS: u64 = 250;

/// Bytes that the payloads of the log are cut from, as long as they fit. A chunk lives until the last of its payloads is
/// written.
pub const PAYLOADS_CHUNK_BYTES: usize = 64 << 10;

/// Milliseconds for which a peer's machine may not take a vote that was sent to it, before the connection is made anew
/// (Linux).
pub const ELECTION_UNTAKEN_MS: u64 = 3_000;
