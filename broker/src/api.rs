//! What each request means: one file per API, two functions each.
//!
//! Does: `open` validates a request and says what to ask whom; `close` makes the answer.
//! Does not: see sockets, partitions or other cores; a [`step::Step`] says what should happen.
//! Invariants: every request gets exactly one answer (acks=0: none); only
//! [`refusals`] turns our refusals into Kafka's codes.
//! Apart because this is where Kafka's behaviour lives, and nothing else should.

pub mod configured;
pub mod each_group;
pub mod fetch_session;
pub mod grouped;
pub mod refusals;
pub mod step;
pub mod table;
pub mod throttled;
pub mod topics;
pub mod transacted;

pub mod k00_produce;
pub mod k01_fetch;
pub mod k02_list_offsets;
pub mod k03_metadata;
pub mod k08_offset_commit;
pub mod k09_offset_fetch;
pub mod k10_find_coordinator;
pub mod k11_join_group;
pub mod k12_heartbeat;
pub mod k13_leave_group;
pub mod k14_sync_group;
pub mod k15_describe_groups;
pub mod k16_list_groups;
pub mod k18_api_versions;
pub mod k19_create_topics;
pub mod k20_delete_topics;
pub mod k21_delete_records;
pub mod k22_init_producer_id;
pub mod k23_offset_for_leader_epoch;
pub mod k24_add_partitions_to_txn;
pub mod k25_add_offsets_to_txn;
pub mod k26_end_txn;
pub mod k27_write_txn_markers;
pub mod k28_txn_offset_commit;
pub mod k32_describe_configs;
pub mod k33_alter_configs;
pub mod k35_describe_log_dirs;
pub mod k37_create_partitions;
pub mod k42_delete_groups;
pub mod k43_elect_leaders;
pub mod k44_incremental_alter_configs;
pub mod k45_alter_partition_reassignments;
pub mod k46_list_partition_reassignments;
pub mod k47_offset_delete;
pub mod k48_describe_client_quotas;
pub mod k49_alter_client_quotas;
pub mod k50_describe_user_scram_credentials;
pub mod k55_describe_quorum;
pub mod k57_update_features;
pub mod k60_describe_cluster;
pub mod k61_describe_producers;
pub mod k65_describe_transactions;
pub mod k66_list_transactions;
pub mod k68_consumer_group_heartbeat;
pub mod k69_consumer_group_describe;
pub mod k74_list_config_resources;
pub mod k75_describe_topic_partitions;

#[cfg(test)]
mod tests;
