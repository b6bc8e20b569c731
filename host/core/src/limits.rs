//! Every number that Weir enforces, with its reason. Configurable ones are defaults here.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Body plus properties of one message (IoT Hub and IoT Edge: 256 KiB).
pub const MAX_MESSAGE_BYTES: usize = 256 * KIB;
/// Encoded properties of one message: they count against the message, so they cannot be larger.
pub const MAX_PROPERTIES_BYTES: usize = 256 * KIB;
/// Properties of one message: finding one walks over all, so their number bounds the work that a
/// packet can cause (IoT Hub names no number; SDKs send fewer than twenty).
pub const MAX_PROPERTIES: usize = 1_000;
/// An MQTT packet: the message plus 16 KiB for topic and header.
pub const MAX_MQTT_PACKET_BYTES: usize = MAX_MESSAGE_BYTES + 16 * KIB;
/// The first packet, before the client is known: nobody's user name needs more.
pub const MAX_CONNECT_BYTES: usize = 64 * KIB;
/// An MQTT topic or filter (IoT Hub allows 1 KiB heads; a property bag can fill a packet, so this
/// holds for filters and for the part of a topic before the bag).
pub const MAX_TOPIC_BYTES: usize = KIB;
/// Levels of a topic filter; nothing that the hub serves has more than eight.
pub const MAX_TOPIC_LEVELS: usize = 64;
/// Filters of one client, on disk and in memory.
pub const MAX_FILTERS_PER_CLIENT: usize = 50;
/// Connected clients (IoT Edge stops at 101; 5,000 are tested).
pub const MAX_CLIENTS: usize = 5_000;
/// Connections that have not said who they are may take a quarter of the places, not all.
pub const MAX_UNKNOWN_CLIENTS: usize = MAX_CLIENTS / 4;
/// … and those of one source (an address, or an IPv6 /64; loopback is one, too) a fifth of these: more
/// than are ever in the middle of a handshake behind one gateway, and too few to shut out the others.
/// Further ones wait.
pub const MAX_UNKNOWN_OF_SOURCE: usize = MAX_UNKNOWN_CLIENTS / 5;
/// Connections that wait for a place, of each head: all clients of a site that come from one address when
/// the hub has started again. One costs a descriptor and about 2 KiB; of more, the newest of the source
/// with the most are closed.
pub const MAX_WAITING_CLIENTS: usize = MAX_CLIENTS;
/// Connections that the system keeps until they are accepted, of each listener; it may allow fewer
/// (`net.core.somaxconn`, 4,096 since Linux 5.4).
pub const LISTEN_BACKLOG: u32 = 4_096;
/// Waiting for a place: as long as the SDKs wait for a CONNACK.
pub const WAITING_LIMIT: Duration = Duration::from_secs(60);
/// Deliveries to one client that it has not acknowledged (IoT Edge: 100).
pub const CLIENT_WINDOW: usize = 100;
/// From CONNACK to the first delivery on a subscription of an earlier connection, unless the client
/// subscribes before: an application sets its handler only after it has connected.
pub const RESTORED_INPUTS: Duration = Duration::from_secs(1);
/// A TLS handshake that takes longer holds a place for nothing (CVE-2020-13849).
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// From the end of the handshake to a whole CONNECT.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A packet that has begun must end.
pub const PACKET_LIMIT: Duration = Duration::from_secs(20);
/// Longest keep-alive granted, IoT Hub's own; with the factor 1.5 a silent client is gone after 30 min.
pub const MAX_KEEP_ALIVE: Duration = Duration::from_secs(1_177);
/// Largest AMQP frame taken: it bounds what a connection holds of a message that is not whole yet, and
/// of frames that wait for a link.
pub const AMQP_FRAME_BYTES: usize = 32 * KIB;
/// A SASL frame, and the first frame of a connection: a token and the longest names (IoT Edge: 64 KiB).
pub const AMQP_OPENING_FRAME_BYTES: usize = 16 * KIB;
/// Largest channel number, and so sessions, of an AMQP connection: the C# SDK has one session for each
/// device, and up to 995 devices on a connection.
pub const AMQP_CHANNEL_MAX: u16 = 1_023;
/// Sessions of an AMQP connection.
pub const AMQP_SESSIONS: usize = AMQP_CHANNEL_MAX as usize + 1;
/// … before someone on it has proven who he is.
pub const AMQP_UNPROVEN_SESSIONS: usize = 4;
/// Largest handle of a link within a session.
pub const AMQP_HANDLE_MAX: u32 = 4_095;
/// Links of an AMQP connection: a device has up to seven.
pub const AMQP_LINKS: usize = 8_192;
/// … before someone on it has proven who he is: two for tokens, and what is tried too early.
pub const AMQP_UNPROVEN_LINKS: usize = 8;
/// Identities that may prove themselves on one AMQP connection.
pub const AMQP_IDENTITIES: usize = 1_024;
/// A message on an AMQP link, before it is looked at (IoT Edge: 1 MiB; a batch may have 600 KiB).
pub const AMQP_MESSAGE_BYTES: usize = MIB;
/// Messages that a client may have sent on a link and the hub not answered, when they are small: as many
/// as fill a slow disk's commits (the SDKs themselves give 1,000).
pub const AMQP_CREDIT: u32 = 1_000;
/// Frames that wait between two parts of an AMQP connection; with more the socket is not read.
pub const AMQP_FRAMES: usize = 256;
/// From the first byte to the first identity that has proven itself, on an AMQP connection.
pub const AMQP_PROOF_LIMIT: Duration = Duration::from_secs(30);
/// An AMQP client that sends nothing for so long is gone (IoT Edge: four minutes).
pub const AMQP_IDLE: Duration = Duration::from_secs(240);
/// How long the other side of a link, session or connection may take to say goodbye, too.
pub const AMQP_FAREWELL: Duration = Duration::from_secs(3);
/// Tokens count as valid this long after their expiry (IoT Edge's clock skew).
pub const TOKEN_SKEW: Duration = Duration::from_secs(300);
/// How long a full queue may withhold acknowledgements before the connection is closed: below the
/// 30 s after which the Node SDK sends a message a second time.
pub const MAX_WITHHELD_ACK: Duration = Duration::from_secs(20);

/// Messages in one segment of the store.
pub const SEGMENT_MESSAGES: usize = 1_024;
/// Bytes in one segment: large enough to make a commit cheap for each message, small enough to
/// be read back at once.
pub const SEGMENT_BYTES: usize = 256 * KIB;
/// Messages in one commit: bounds the memory that waits and the time a commit takes.
pub const GROUP_MESSAGES: usize = 8_192;
/// Bytes in one commit.
pub const GROUP_BYTES: usize = 4 * MIB;
/// Bytes of received messages that may wait for a commit, all senders together.
pub const INTAKE_BYTES: usize = 24 * MIB;
/// Messages of one sender that may wait for a commit.
pub const INTAKE_MESSAGES: usize = 1_024;
/// Bytes of them; one read more may come on top. A twelfth of the room of all, so that no sender fills it.
pub const INTAKE_SENDER_BYTES: usize = 2 * MIB;
/// Bytes of messages that the store has refused and that wait for room in their queue, all senders
/// together. They have no part in [`INTAKE_BYTES`], which is for those whom the store can serve;
/// enough for 160 senders with a window of 100 KiB. Who finds no room here is disconnected at once.
pub const REFUSED_BYTES: usize = 16 * MIB;
/// Jobs that may wait for the writer; a further sender waits.
pub const WRITER_QUEUE: usize = 1_024;
/// Default size of all queues together, on disk.
pub const STORE_BYTES: u64 = 1024 * 1024 * 1024;
/// Space kept free so that delivered messages can be deleted when the disk is full.
pub const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// Committed segments kept in memory for consumers that keep up.
pub const SEGMENT_CACHE_BYTES: usize = 8 * MIB;
/// Entries of a queue known in memory; the rest is read from disk when their turn comes.
pub const LANE_ENTRIES: usize = 4_096;
/// Entries of one queue that wait for another attempt; while there are so many, no new ones are handed
/// out.
pub const MAX_OWED: usize = 10_000;
/// Modules that a message may come through before it is a loop.
pub const MAX_HOPS: u8 = 32;
/// Explanations kept for accepted messages that are no longer stored.
pub const EXPLANATIONS: usize = 10_000;
/// Longest message id by which an explanation can be asked for (IoT Hub's own limit for ids).
pub const NAMED_ID_BYTES: usize = 128;
/// Dead letters kept; the oldest go first.
pub const DEAD_LETTERS: u64 = 100_000;
/// One part in so many of the store is for them, so that rejected messages never stop the others.
pub const DEAD_LETTER_SHARE: u64 = 4;
/// Deliveries of one message before it is a dead letter.
pub const MAX_ATTEMPTS: u32 = 5;

/// Messages handed to a module at once: more gains nothing (measured), fewer cost.
pub const BATCH_MESSAGES: usize = 64;
/// Bytes handed to a module at once.
pub const BATCH_BYTES: usize = MIB;
/// Batches a consumer may be ahead of the last commit.
pub const BATCHES_AHEAD: usize = 16;
/// Messages of a queue that a consumer may have, with the batch that is handed to it: more than a
/// client's window. So many may have been seen when the hub was killed.
pub const HANDED_OUT: usize = BATCH_MESSAGES * (BATCHES_AHEAD + 1);
/// How long a consumer that leaves may take to say what it took.
pub const FAREWELL: Duration = Duration::from_secs(1);
/// Messages handed to the upstream at once.
pub const UPSTREAM_BATCH: usize = 256;

/// Changes kept in the history of a section of a twin …
pub const TWIN_VERSIONS: usize = 100;
/// … and bytes of them: the newest change is kept in any case. A client decides how much it reports.
pub const TWIN_HISTORY_BYTES: u64 = 128 * 1024;
/// Twins in memory; those that are not in use leave when there are more …
pub const TWINS_IN_MEMORY: usize = 10_000;
/// … or when together they hold so many bytes, as on disk.
pub const TWIN_MEMORY_BYTES: u64 = 16 * 1024 * 1024;
/// Modules of one hub (IoT Edge: 50 in a deployment).
pub const MODULES: usize = 200;
/// Routes of one hub.
pub const ROUTES: usize = 1_000;
/// Route tables kept to explain older messages.
pub const ROUTE_TABLES: usize = 1_000;
/// Versions kept in a module's history.
pub const MODULE_VERSIONS: u32 = 100;
/// Memory of a module's instance.
pub const MODULE_MEMORY_BYTES: usize = 64 * MIB;
/// Time of one call, up to a batch of 64.
pub const MODULE_CALL: Duration = Duration::from_millis(250);
/// After a time-out, the parts of the batch have one part in so many of a call's time while the message
/// at fault is looked for: good halves need far less, and each bad one costs all of it. Before a message
/// is given up it has the whole time once, alone.
pub const MODULE_SEARCH_SHARE: u32 = 4;
/// The epoch's tick.
pub const EPOCH_TICK: Duration = Duration::from_millis(1);
/// Calls from a module into the hub during one call.
pub const MODULE_HOST_CALLS: u32 = 10_000;
/// Messages out of one call.
pub const MODULE_OUTPUTS: u32 = 1_000;
/// Bytes out of one call.
pub const MODULE_OUTPUT_BYTES: usize = 4 * MIB;
/// Log lines of a module in a second.
pub const MODULE_LOG_LINES: u32 = 100;
/// Longest log line; the rest is cut off.
pub const MODULE_LOG_LINE_BYTES: usize = 4 * KIB;
/// Log lines of a module kept in memory for whoever looks.
pub const MODULE_LOG_KEPT_LINES: usize = 500;
/// Bytes of them.
pub const MODULE_LOG_KEPT_BYTES: usize = 64 * KIB;
/// Key-value state of a module.
pub const MODULE_STATE_BYTES: usize = 4 * MIB;
/// Keys in a module's state.
pub const MODULE_STATE_KEYS: usize = 10_000;
/// Longest key of a module's state.
pub const MODULE_KEY_BYTES: usize = KIB;
/// Reports of a module in one call: who changes what he reports more often than that loses nothing by
/// saying it once.
pub const MODULE_REPORTS: usize = 64;
/// Messages a module may hold.
pub const MODULE_HELD: usize = 10_000;
/// Size of an uploaded component.
pub const ARTIFACT_BYTES: usize = 16 * MIB;
/// Address space of the compiling child.
pub const COMPILE_MEMORY_BYTES: u64 = 1024 * 1024 * 1024;
/// Processor time of the compiling child.
pub const COMPILE_SECONDS: u64 = 30;
/// A version that is younger than this many batches …
pub const PROBATION_BATCHES: u32 = 100;
/// … and this long is on probation: a fault brings the old one back.
pub const PROBATION: Duration = Duration::from_secs(30);
/// Faults in a minute that open a module's circuit.
pub const CIRCUIT_FAULTS: u32 = 10;

/// First wait before an upstream is tried again.
pub const UPSTREAM_BACKOFF: Duration = Duration::from_secs(1);
/// Longest wait before an upstream is tried again.
pub const UPSTREAM_BACKOFF_CAP: Duration = Duration::from_secs(300);

/// Body of an API request; artifacts have [`ARTIFACT_BYTES`].
pub const API_BODY_BYTES: usize = MIB;
/// Nesting of JSON in a request.
pub const JSON_DEPTH: usize = 64;
/// Items in a page of a list.
pub const PAGE_ITEMS: usize = 1_000;
/// Open connections to the API: people, scripts and a scraper; each costs some 100 KiB at most.
pub const API_CONNECTIONS: usize = 256;
/// Head of a request to the API.
pub const API_HEAD_BYTES: usize = 32 * KIB;
/// Headers of a request to the API.
pub const API_HEADERS: usize = 100;
/// From the first byte to the end of a request's head.
pub const API_HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A body of which nothing comes for so long is given up, and so is an answer that nobody reads.
pub const API_SILENCE: Duration = Duration::from_secs(10);
/// A whole request.
pub const API_REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// A direct method called by a service path: 300 s for the connection and 300 s for the answer (IoT Hub's
/// limits), and the call itself ends before.
pub const SERVICE_METHOD_LIMIT: Duration = Duration::from_secs(610);
/// Identities in one bulk change of a service path (IoT Hub's limit).
pub const BULK_IDENTITIES: usize = 100;
/// Length of a query of a service client.
pub const QUERY_BYTES: usize = 8 * KIB;
/// Twins in a page of a query's answer, each of up to 72 KiB; who asks for more gets the rest in the next.
pub const QUERY_ITEMS: usize = 100;
/// Configurations that a hub keeps (IoT Hub's limit).
pub const CONFIGURATIONS: usize = 100;
/// A whole upload of a component, its compilation included.
pub const API_UPLOAD_LIMIT: Duration = Duration::from_secs(300);
/// Components that are taken in at once: each is held in memory whole.
pub const API_UPLOADS: usize = 2;
/// Requests of one token in a second.
pub const API_REQUESTS_PER_SECOND: u32 = 50;
/// Requests of one token at once after a pause: a script that sets up a hub is not slowed down.
pub const API_REQUEST_BURST: u32 = 200;
/// Items in a page of messages: they have bodies.
pub const PAGE_MESSAGES: usize = 100;
/// Bytes of a message's body in a list.
pub const PAGE_BODY_BYTES: usize = 4 * KIB;
/// Tokens of the control plane.
pub const TOKENS: usize = 1_000;
/// Answers kept for repeated requests.
pub const IDEMPOTENCY_KEYS: usize = 10_000;
/// Operations kept.
pub const OPERATIONS: usize = 200;

/// Characters of a direct method's name (IoT Edge).
pub const METHOD_NAME_CHARACTERS: usize = 100;
/// Payload of a direct method, in either direction (IoT Hub and IoT Edge: 128 KiB).
pub const METHOD_PAYLOAD_BYTES: usize = 128 * KIB;
/// How long a call waits for its answer unless it says otherwise (IoT Edge).
pub const METHOD_RESPONSE: Duration = Duration::from_secs(30);
/// Least time that a call may give its target (IoT Edge).
pub const METHOD_RESPONSE_MIN: Duration = Duration::from_secs(5);
/// Most time for the target to connect, and again for its answer (IoT Edge).
pub const METHOD_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Calls to one target that wait at once; a further one is refused. They are not queued: a client that
/// answers at all answers in milliseconds, so more means that it does not.
pub const METHOD_CALLS_PER_TARGET: usize = 100;
/// Calls of one module that wait at once, so that none takes the room of all.
pub const METHOD_CALLS_PER_CALLER: usize = 100;
/// Bytes of the payloads of all calls that wait: enough for 128 of the largest.
pub const METHOD_BYTES: usize = 16 * MIB;

/// Commands that wait for one device or module (IoT Hub: 50).
pub const COMMANDS: usize = 50;
/// A command: body and properties (IoT Hub: 64 KiB).
pub const COMMAND_BYTES: usize = 64 * KIB;
/// How long a command waits unless it says otherwise (IoT Hub's default).
pub const COMMAND_TTL: Duration = Duration::from_secs(3_600);
/// Longest time that a command may wait (IoT Hub).
pub const COMMAND_TTL_MAX: Duration = Duration::from_secs(2 * 24 * 3_600);
/// How often a command is handed out before it is a dead letter (IoT Hub's default).
pub const COMMAND_DELIVERIES: u32 = 10;
/// How long an HTTP client may hold a command without a word (IoT Hub's default).
pub const COMMAND_LOCK: Duration = Duration::from_secs(60);
/// Bytes of feedback about commands that wait for somebody to read them; the oldest go first.
pub const FEEDBACK_BYTES: u64 = 1024 * 1024;
/// Events kept for those who look on: minutes of a busy hub, some 3 MiB at most.
pub const EVENTS: usize = 10_000;
/// Streams of events at once; each holds a connection.
pub const EVENT_STREAMS: usize = 64;
/// Between two signs of life on a stream of events: well below the patience of proxies.
pub const EVENT_HEARTBEAT: Duration = Duration::from_secs(15);
/// Connections to the HTTPS listener whose clients have proven who they are: service scripts, method
/// calls, devices that send by HTTP.
pub const HTTPS_CONNECTIONS: usize = 1_024;
/// WebSockets: as many as there may be clients, and those who have not said who they are.
pub const WEBSOCKETS: usize = MAX_CLIENTS + MAX_UNKNOWN_CLIENTS;
/// Payload of one frame. It is handed on as it comes, so this bounds no memory, only nonsense.
pub const WEBSOCKET_FRAME_BYTES: u64 = MIB as u64;
/// Payload of one message in several frames; SDKs send a packet, or a handful, in each.
pub const WEBSOCKET_MESSAGE_BYTES: u64 = 4 * WEBSOCKET_FRAME_BYTES;
/// Body of a batch of telemetry by HTTP: IoT Hub's 256 KiB in base64, with property names around it.
pub const HTTP_BATCH_BYTES: usize = MIB;
/// Messages in such a batch (IoT Hub).
pub const HTTP_BATCH_MESSAGES: usize = 500;
/// Body of a direct method call: the payload, white space and the other fields.
pub const METHOD_BODY_BYTES: usize = METHOD_PAYLOAD_BYTES + 16 * KIB;

/// Requests at once on the workload socket of one module (IoT Edge); a further connection is closed.
pub const WORKLOAD_REQUESTS: usize = 10;
/// Connections at once to the workload API over TCP, of all modules together.
pub const WORKLOAD_CONNECTIONS: usize = 64;
/// Body of a request to the workload API: a text to encrypt, in base64.
pub const WORKLOAD_BODY_BYTES: usize = 256 * KIB;
/// Days before the end of a certificate at which the log says so; from the first on, health does, too. The
/// hub renews its own server certificate earlier.
pub const CERTIFICATE_WARNING_DAYS: [u64; 3] = [30, 7, 1];
