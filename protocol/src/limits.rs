//! Every bound of this crate, each with its reason and with what happens at it.
//!
//! Does: hold numbers.
//! Does not: hold settings; what an operator may change comes in as an argument.
//! Invariants: relations between limits are asserted at compile time, below.
//! Apart because a bound nobody can find is a bound nobody keeps.

/// Largest request by default: Kafka's `socket.request.max.bytes`. No batch on disk is larger than
/// the request it came in.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Bytes of one string, in every encoding: Kafka counts them in 16 bits, and its compact readers
/// hold on to that. Beyond it the request is malformed.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Elements of all arrays of one request, together with its unknown tagged fields where the generic
/// decoder keeps them. Each costs a core some microseconds and, with its answer, up to a KiB; a
/// commit or a fetch of 100,000 partitions fits. Beyond it the request is malformed.
pub const ELEMENTS_MAX: usize = 250_000;

/// Tagged fields in one struct. Kafka defines at most four anywhere; the rest is room for versions
/// to come. Beyond it the request is malformed.
pub const TAGGED_FIELDS_MAX: u32 = 64;

/// Memory the generic decoder may take per byte of body. The leanest honest elements (short topic
/// names with an id) take about 12; a hostile body of empty elements would take 80.
/// Beyond it the request is malformed.
pub const DECODED_BYTES_PER_BODY_BYTE: usize = 16;

/// Memory the generic decoder may take on top, so that small requests with unknown tagged fields
/// (each of which costs a tree node) still pass: about forty of them.
pub const DECODED_BYTES_SLACK: usize = 16 * 1024;

/// Memory that any parsed request may take, not counting its body: elements of the usual 128 bytes,
/// as many as there may be. With an unknown tagged field in each they would take a hundred MiB,
/// which no budget of the broker knows of. Beyond it the request is malformed.
pub const DECODED_BYTES_MAX: usize = 32 << 20;

/// What one struct with unknown tagged fields costs the generic decoder: a leaf of its tree.
pub const TAGGED_FIELDS_FIRST_BYTES: usize = 416;

/// What each further unknown tagged field costs at most: a half-filled leaf's share.
pub const TAGGED_FIELD_FURTHER_BYTES: usize = 96;

/// Memory a parsed Produce request may take per byte of body, not counting the body itself. An
/// honest partition carries at least a batch header (61 bytes) and takes 40.
/// Beyond it the request is malformed.
pub const PRODUCE_BYTES_PER_BODY_BYTE: usize = 2;

/// Memory a parsed Fetch request may take per byte of body. The leanest honest request (version 4,
/// one partition in each of many topics with names of three letters) takes 4.
/// Beyond it the request is malformed.
pub const FETCH_BYTES_PER_BODY_BYTE: usize = 5;

/// Memory a parsed Produce or Fetch request may take on top, so that tiny ones always pass.
pub const HOT_BYTES_SLACK: usize = 4 * 1024;

/// Elements of all arrays of one answer that a client of ours reads. Metadata of a cluster of 300,000
/// partitions with three replicas has three million. Beyond it the answer is malformed.
pub const ANSWER_ELEMENTS_MAX: usize = 4_000_000;

/// Memory the generic decoder may take per byte of an answer. The leanest honest elements (a listed
/// group with a short name) take about 20; a client is alone with its memory, so this is generous.
/// Beyond it the answer is malformed.
pub const ANSWER_BYTES_PER_BODY_BYTE: usize = 40;

/// Memory that any decoded answer may take, not counting its body: [`ANSWER_ELEMENTS_MAX`] elements of
/// the usual 128 bytes. Beyond it the answer is malformed.
pub const ANSWER_DECODED_BYTES_MAX: usize = 512 << 20;

/// Largest answer a client of ours reads, in bytes. A fetch asks for far less, and the metadata of the
/// largest cluster (see [`ANSWER_ELEMENTS_MAX`]) takes a tenth. Beyond it the connection is given up.
pub const ANSWER_BYTES_MAX: usize = 256 << 20;

const _: () = assert!(FRAME_BYTES_MAX <= i32::MAX as usize);
const _: () = assert!(ELEMENTS_MAX * 128 < DECODED_BYTES_MAX);
const _: () = assert!(ANSWER_ELEMENTS_MAX * 128 <= ANSWER_DECODED_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX < ANSWER_BYTES_MAX, "what may be appended can be read");
const _: () = assert!(TAGGED_FIELDS_FIRST_BYTES * 32 < DECODED_BYTES_SLACK);
