//! Where the leader went: the hint that spares a client a round of metadata (KIP-951).
//!
//! Does: write the tagged fields "current leader" and "node endpoints".
//! Does not: decide when a hint is due.
//! Invariants: sizes in front of tagged fields come from the same code that writes them.
//! Apart because Produce and Fetch answers carry the same two fields under the same shape.

use crate::ids::{LeaderEpoch, NodeId};
use crate::wire::Encoding;
use crate::wire::write::{Sink, Tally, Writer};

/// Where a node can be reached, on the listener the request came in on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The node.
    pub id: NodeId,
    /// Its advertised host.
    pub host: String,
    /// Its advertised port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// Ends a struct, with the current leader under `tag` if there is one to tell.
pub(super) fn end_with_leader<S: Sink>(
    writer: &mut Writer<'_, S>,
    tag: u32,
    leader: Option<(NodeId, LeaderEpoch)>,
) {
    let Some((node, epoch)) = leader else { return writer.end_of_struct() };
    writer.tagged_fields(1);
    writer.tagged_field(tag, LEADER_BYTES);
    writer.i32(node.0);
    writer.i32(epoch.0);
    writer.end_of_struct();
}

/// Node id, epoch, and an empty tag section.
const LEADER_BYTES: usize = 4 + 4 + 1;

/// Ends a response, with the endpoints of the leaders it names under tag 0.
pub(super) fn end_with_endpoints<S: Sink>(writer: &mut Writer<'_, S>, nodes: &[NodeEndpoint]) {
    if nodes.is_empty() {
        return writer.end_of_struct();
    }
    let mut tally = Tally::default();
    write_endpoints(&mut Writer::new(&mut tally, Encoding::Compact), nodes);
    writer.tagged_fields(1);
    writer.tagged_field(0, tally.position());
    write_endpoints(writer, nodes);
}

fn write_endpoints<S: Sink>(writer: &mut Writer<'_, S>, nodes: &[NodeEndpoint]) {
    writer.count(nodes.len());
    for node in nodes {
        writer.i32(node.id.0);
        writer.string(&node.host);
        writer.i32(node.port);
        writer.nullable_string(node.rack.as_deref());
        writer.end_of_struct();
    }
}
