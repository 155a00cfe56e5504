//! `flumen cluster`.
//!
//! Does: show the brokers; hand settings of brokers on.
//! Does not: change brokers in any other way.
//! Invariants: counts come from one answer, so that they fit each other.
//! Apart because each kind of thing has its commands in one place.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::configs;
use super::daily::{ClusterArguments, ClusterCommand};
use super::fault::Fault;
use super::listing::{Document, Listing, Outcome};

/// Does what was typed.
///
/// # Errors
/// The first thing that failed.
pub fn run(arguments: &ClusterArguments) -> Result<Outcome, Fault> {
    let cluster = &mut Cluster::reach(&arguments.common)?;
    match &arguments.command {
        ClusterCommand::Describe => describe(cluster),
        ClusterCommand::Configs { command } => configs::run(cluster, command),
    }
}

fn describe(cluster: &mut Cluster) -> Result<Outcome, Fault> {
    let answer = cluster.metadata(None)?;
    let mut leads: BTreeMap<i32, usize> = BTreeMap::new();
    let mut holds: BTreeMap<i32, usize> = BTreeMap::new();
    let mut behind = 0_usize;
    let partitions: Vec<_> = answer.topics.iter().flat_map(|topic| &topic.partitions).collect();
    for partition in &partitions {
        *leads.entry(partition.leader_id.0).or_default() += 1;
        behind += usize::from(partition.isr_nodes.len() < partition.replica_nodes.len());
        for replica in &partition.replica_nodes {
            *holds.entry(replica.0).or_default() += 1;
        }
    }
    let columns = &["broker", "address", "rack", "controller", "leads", "holds"];
    let mut listing = Listing::new(columns);
    for broker in &answer.brokers {
        let id = broker.node_id.0;
        listing.push(vec![
            id.into(),
            format!("{}:{}", &*broker.host, broker.port).into(),
            broker.rack.as_ref().map(|rack| rack.to_string()).into(),
            (id == answer.controller_id.0).into(),
            leads.get(&id).copied().unwrap_or(0).into(),
            holds.get(&id).copied().unwrap_or(0).into(),
        ]);
    }
    let document = Document::default()
        .with("cluster", answer.cluster_id.as_ref().map(|id| id.to_string()))
        .with("topics", answer.topics.len())
        .with("partitions", partitions.len())
        .with("without_leader", leads.get(&-1).copied().unwrap_or(0))
        .with("under_replicated", behind)
        .table("brokers", listing);
    Ok(Outcome::Documents(vec![document]))
}
