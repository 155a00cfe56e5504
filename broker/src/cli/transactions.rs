//! `flumen transactions`.
//!
//! Does: name transactional ids, and show what each is at.
//! Does not: end a transaction.
//! Invariants: a broker that knows nothing of transactions is named as such.
//! Apart because each kind of thing has its commands in one place.

use std::collections::BTreeMap;

use flumen_protocol::messages::{
    DescribeTransactionsRequest, ListTransactionsRequest, StrBytes, TransactionalId,
};

use super::cluster::{Cluster, Coordinated};
use super::daily::{TransactionsArguments, TransactionsCommand};
use super::fault::{Fault, accept};
use super::listing::{Cell, Document, Listing, Outcome};
use super::moment::Timestamp;
use super::world;

/// Does what was typed.
///
/// # Errors
/// The first thing that failed.
pub fn run(arguments: &TransactionsArguments) -> Result<Outcome, Fault> {
    let cluster = &mut Cluster::reach(&arguments.common)?;
    match &arguments.command {
        TransactionsCommand::List => list(cluster),
        TransactionsCommand::Describe { ids } => {
            let documents = ids
                .iter()
                .map(|id| cluster.patiently(|cluster| describe(cluster, id)))
                .collect::<Result<_, _>>()?;
            Ok(Outcome::Documents(documents))
        }
    }
}

fn list(cluster: &mut Cluster) -> Result<Outcome, Fault> {
    let body = ListTransactionsRequest::default();
    let mut rows = BTreeMap::new();
    for (broker, answer) in cluster.ask_all("transactions", &body, |it| it.error_code)? {
        for found in answer.transaction_states {
            let row = vec![
                found.transactional_id.to_string().into(),
                found.producer_id.0.into(),
                found.transaction_state.to_string().into(),
                broker.into(),
            ];
            rows.insert(found.transactional_id.to_string(), row);
        }
    }
    let columns = &["transactional_id", "producer_id", "state", "coordinator"];
    let mut listing = Listing::new(columns);
    rows.into_values().for_each(|row| listing.push(row));
    Ok(Outcome::Listing(listing))
}

fn describe(cluster: &mut Cluster, id: &str) -> Result<Document, Fault> {
    let coordinator = cluster.coordinator(Coordinated::Transactions, id)?;
    let wanted = TransactionalId(StrBytes::from_string(id.to_owned()));
    let body = DescribeTransactionsRequest::default().with_transactional_ids(vec![wanted]);
    let found = cluster.ask(coordinator, &body)?.transaction_states.into_iter().next();
    let found = found.ok_or_else(|| Fault::Absent {
        subject: format!("transactional id {id}"),
        advice: "`flumen transactions list` shows what there is",
    })?;
    accept(|| format!("transactional id {id}"), found.error_code, "")?;
    let started = found.transaction_start_time_ms;
    let age = match started {
        ..0 => Cell::Absent,
        since => Cell::Decimal(world::now_ms().saturating_sub(since).max(0) as f64 / 1000.0),
    };
    let mut partitions = Listing::new(&["topic", "partition"]);
    for topic in found.topics {
        for partition in topic.partitions {
            partitions.push(vec![topic.topic.to_string().into(), partition.into()]);
        }
    }
    let started = (started >= 0).then(|| Timestamp(started).to_string());
    Ok(Document::default()
        .with("transactional_id", id)
        .with("state", found.transaction_state.to_string())
        .with("producer_id", found.producer_id.0)
        .with("producer_epoch", i32::from(found.producer_epoch))
        .with("timeout_ms", found.transaction_timeout_ms)
        .with("started", started)
        .with("open_seconds", age)
        .with("coordinator", coordinator)
        .table("partitions", partitions))
}
