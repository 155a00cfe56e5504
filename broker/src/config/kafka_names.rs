//! Kafka's broker settings that have no meaning in Flumen.
//!
//! Does: lists their names, types and Kafka 4.1 defaults, so that an operator's file starts and
//! DescribeConfigs knows them. Does not: hold a setting Flumen honours (`declaration` does) or one it
//! must refuse (`refused` looks first).
//! Invariants: sorted by name; no name is also declared (tests).
//! Apart because it is a long list that changes only when the mirrored Kafka version does.

use super::kind::{Kind, ValueType};

/// A Kafka setting that is accepted and does nothing.
pub struct Accepted {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type in Kafka.
    pub value_type: ValueType,
    /// Kafka's default, which DescribeConfigs reports.
    pub default: Option<&'static str>,
}

/// The row of one name.
pub fn find(name: &str) -> Option<&'static Accepted> {
    ACCEPTED.binary_search_by(|row| row.name.cmp(name)).ok().map(|index| &ACCEPTED[index])
}

/// The values of a name that Kafka takes, as far as its type says; `None` where it is not described.
pub fn kind(name: &str) -> Option<Kind> {
    find(name).map(|row| Kind::any(row.value_type))
}

/// Whether Kafka knows the name, or knew it, or leaves it to a plug-in, and Flumen may ignore it.
pub fn is_accepted(name: &str) -> bool {
    find(name).is_some()
        || UNDESCRIBED.contains(&name)
        || PLUGIN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || is_listener_setting(name)
}

/// `listener.name.NAME.SETTING` and `listener.name.NAME.MECHANISM.sasl…`: a setting of one listener.
fn is_listener_setting(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("listener.name.") else { return false };
    let Some((_, setting)) = rest.split_once('.') else { return false };
    let of_mechanism = setting.split_once('.').map(|(_, inner)| inner);
    [Some(setting), of_mechanism].into_iter().flatten().any(is_listener_suffix)
}

fn is_listener_suffix(setting: &str) -> bool {
    const LIMITS: [&str; 4] = [
        "max.connections",
        "max.connections.per.ip",
        "max.connection.creation.rate",
        "connections.max.reauth.ms",
    ];
    let is_security = setting.starts_with("ssl.") || setting.starts_with("sasl.");
    LIMITS.contains(&setting)
        || setting == "principal.builder.class"
        || (is_security && find(setting).is_some())
}

/// Settings of plug-ins that Flumen does not load; what comes after the prefix is theirs.
const PLUGIN_PREFIXES: &[&str] = &["rlmm.config.", "rsm.config."];

/// Names that are accepted but never described: Kafka's internal ones, those Kafka 4.0 removed, and
/// those only a plug-in reads.
pub const UNDESCRIBED: &[&str] = &[
    "allow.everyone.if.no.acl.found",
    "auto.include.jmx.reporter",
    "broker.id.generation.enable",
    "config.providers",
    "control.plane.listener.name",
    "controller.performance.always.log.threshold.ms",
    "controller.performance.sample.period.ms",
    "delegation.token.master.key",
    "eligible.leader.replicas.enable",
    "group.consumer.regex.refresh.interval.ms",
    "group.coordinator.new.enable",
    "group.share.enable",
    "group.share.persister.class.name",
    "inter.broker.protocol.version",
    "internal.metadata.delete.delay.millis",
    "internal.metadata.log.segment.bytes",
    "internal.metadata.max.batch.size.in.bytes",
    "internal.metadata.max.fetch.size.in.bytes",
    "log.initial.task.delay.ms",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "offsets.commit.required.acks",
    "password.encoder.cipher.algorithm",
    "password.encoder.iterations",
    "password.encoder.key.length",
    "password.encoder.keyfactory.algorithm",
    "password.encoder.old.secret",
    "password.encoder.secret",
    "producer.id.expiration.check.interval.ms",
    "remote.log.manager.task.retry.backoff.max.ms",
    "remote.log.manager.task.retry.backoff.ms",
    "remote.log.manager.task.retry.jitter",
    "reserved.broker.max.id",
    "server.max.startup.time.ms",
    "share.coordinator.cold.partition.snapshot.interval.ms",
    "share.coordinator.state.topic.prune.interval.ms",
    "super.users",
    "unclean.leader.election.interval.ms",
    "unstable.api.versions.enable",
    "unstable.feature.versions.enable",
    "zookeeper.clientCnxnSocket",
    "zookeeper.connect",
    "zookeeper.connection.timeout.ms",
    "zookeeper.max.in.flight.requests",
    "zookeeper.metadata.migration.enable",
    "zookeeper.metadata.migration.min.batch.size",
    "zookeeper.session.timeout.ms",
    "zookeeper.set.acl",
    "zookeeper.ssl.cipher.suites",
    "zookeeper.ssl.client.enable",
    "zookeeper.ssl.crl.enable",
    "zookeeper.ssl.enabled.protocols",
    "zookeeper.ssl.endpoint.identification.algorithm",
    "zookeeper.ssl.keystore.location",
    "zookeeper.ssl.keystore.password",
    "zookeeper.ssl.keystore.type",
    "zookeeper.ssl.ocsp.enable",
    "zookeeper.ssl.protocol",
    "zookeeper.ssl.truststore.location",
    "zookeeper.ssl.truststore.password",
    "zookeeper.ssl.truststore.type",
];

const fn accepted(
    name: &'static str,
    value_type: ValueType,
    default: Option<&'static str>,
) -> Accepted {
    Accepted { name, value_type, default }
}

/// The public settings of Kafka 4.1 that are not declared, sorted by name.
pub const ACCEPTED: &[Accepted] = &[
    accepted("add.partitions.to.txn.retry.backoff.max.ms", ValueType::Int, Some("100")),
    accepted("add.partitions.to.txn.retry.backoff.ms", ValueType::Int, Some("20")),
    accepted("alter.config.policy.class.name", ValueType::Class, None),
    accepted("alter.log.dirs.replication.quota.window.num", ValueType::Int, Some("11")),
    accepted("alter.log.dirs.replication.quota.window.size.seconds", ValueType::Int, Some("1")),
    accepted("authorizer.class.name", ValueType::String, Some("")),
    accepted("auto.leader.rebalance.enable", ValueType::Boolean, Some("true")),
    accepted("background.threads", ValueType::Int, Some("10")),
    accepted("broker.heartbeat.interval.ms", ValueType::Int, Some("2000")),
    accepted("broker.session.timeout.ms", ValueType::Int, Some("9000")),
    accepted("client.quota.callback.class", ValueType::Class, None),
    accepted("compression.gzip.level", ValueType::Int, Some("-1")),
    accepted("compression.lz4.level", ValueType::Int, Some("9")),
    accepted("compression.zstd.level", ValueType::Int, Some("3")),
    accepted("connection.failed.authentication.delay.ms", ValueType::Int, Some("100")),
    accepted("connections.max.reauth.ms", ValueType::Long, Some("0")),
    accepted("controlled.shutdown.enable", ValueType::Boolean, Some("true")),
    accepted("controller.quorum.append.linger.ms", ValueType::Int, Some("25")),
    accepted("controller.quorum.bootstrap.servers", ValueType::List, Some("")),
    accepted("controller.quorum.election.backoff.max.ms", ValueType::Int, Some("1000")),
    accepted("controller.quorum.election.timeout.ms", ValueType::Int, Some("1000")),
    accepted("controller.quorum.fetch.timeout.ms", ValueType::Int, Some("2000")),
    accepted("controller.quorum.request.timeout.ms", ValueType::Int, Some("2000")),
    accepted("controller.quorum.retry.backoff.ms", ValueType::Int, Some("20")),
    accepted("controller.quorum.voters", ValueType::List, Some("")),
    accepted("controller.socket.timeout.ms", ValueType::Int, Some("30000")),
    accepted("create.topic.policy.class.name", ValueType::Class, None),
    accepted("delegation.token.expiry.check.interval.ms", ValueType::Long, Some("3600000")),
    accepted("delegation.token.expiry.time.ms", ValueType::Long, Some("86400000")),
    accepted("delegation.token.max.lifetime.ms", ValueType::Long, Some("604800000")),
    accepted("delegation.token.secret.key", ValueType::Password, None),
    accepted("delete.records.purgatory.purge.interval.requests", ValueType::Int, Some("1")),
    accepted("early.start.listeners", ValueType::String, None),
    accepted("fetch.purgatory.purge.interval.requests", ValueType::Int, Some("1000")),
    accepted("group.coordinator.append.linger.ms", ValueType::Int, Some("5")),
    accepted("group.coordinator.threads", ValueType::Int, Some("4")),
    accepted("group.share.assignors", ValueType::List, Some("simple")),
    accepted("group.share.delivery.count.limit", ValueType::Int, Some("5")),
    accepted("group.share.heartbeat.interval.ms", ValueType::Int, Some("5000")),
    accepted("group.share.max.heartbeat.interval.ms", ValueType::Int, Some("15000")),
    accepted("group.share.max.record.lock.duration.ms", ValueType::Int, Some("60000")),
    accepted("group.share.max.session.timeout.ms", ValueType::Int, Some("60000")),
    accepted("group.share.max.share.sessions", ValueType::Int, Some("2000")),
    accepted("group.share.max.size", ValueType::Int, Some("200")),
    accepted("group.share.min.heartbeat.interval.ms", ValueType::Int, Some("5000")),
    accepted("group.share.min.record.lock.duration.ms", ValueType::Int, Some("15000")),
    accepted("group.share.min.session.timeout.ms", ValueType::Int, Some("45000")),
    accepted("group.share.partition.max.record.locks", ValueType::Int, Some("2000")),
    accepted("group.share.record.lock.duration.ms", ValueType::Int, Some("30000")),
    accepted("group.share.session.timeout.ms", ValueType::Int, Some("45000")),
    accepted("group.streams.heartbeat.interval.ms", ValueType::Int, Some("5000")),
    accepted("group.streams.max.heartbeat.interval.ms", ValueType::Int, Some("15000")),
    accepted("group.streams.max.session.timeout.ms", ValueType::Int, Some("60000")),
    accepted("group.streams.max.size", ValueType::Int, Some("2147483647")),
    accepted("group.streams.max.standby.replicas", ValueType::Int, Some("2")),
    accepted("group.streams.min.heartbeat.interval.ms", ValueType::Int, Some("5000")),
    accepted("group.streams.min.session.timeout.ms", ValueType::Int, Some("45000")),
    accepted("group.streams.num.standby.replicas", ValueType::Int, Some("0")),
    accepted("group.streams.session.timeout.ms", ValueType::Int, Some("45000")),
    accepted("initial.broker.registration.timeout.ms", ValueType::Int, Some("60000")),
    accepted("inter.broker.listener.name", ValueType::String, None),
    accepted("kafka.metrics.polling.interval.secs", ValueType::Int, Some("10")),
    accepted("kafka.metrics.reporters", ValueType::List, Some("")),
    accepted("leader.imbalance.check.interval.seconds", ValueType::Long, Some("300")),
    accepted("log.cleaner.io.buffer.load.factor", ValueType::Double, Some("0.9")),
    accepted("log.cleaner.io.buffer.size", ValueType::Int, Some("524288")),
    accepted("log.cleaner.threads", ValueType::Int, Some("1")),
    accepted("log.dir.failure.timeout.ms", ValueType::Long, Some("30000")),
    accepted("log.flush.offset.checkpoint.interval.ms", ValueType::Int, Some("60000")),
    accepted("log.flush.scheduler.interval.ms", ValueType::Long, Some("9223372036854775807")),
    accepted("log.flush.start.offset.checkpoint.interval.ms", ValueType::Int, Some("60000")),
    accepted("log.index.interval.bytes", ValueType::Int, Some("4096")),
    accepted("log.index.size.max.bytes", ValueType::Int, Some("10485760")),
    accepted("log.local.retention.bytes", ValueType::Long, Some("-2")),
    accepted("log.local.retention.ms", ValueType::Long, Some("-2")),
    accepted("log.preallocate", ValueType::Boolean, Some("false")),
    accepted("log.roll.jitter.hours", ValueType::Int, Some("0")),
    accepted("log.roll.jitter.ms", ValueType::Long, None),
    accepted("log.segment.delete.delay.ms", ValueType::Long, Some("60000")),
    accepted("metadata.log.dir", ValueType::String, None),
    accepted("metadata.log.max.record.bytes.between.snapshots", ValueType::Long, Some("20971520")),
    accepted("metadata.log.max.snapshot.interval.ms", ValueType::Long, Some("3600000")),
    accepted("metadata.log.segment.bytes", ValueType::Int, Some("1073741824")),
    accepted("metadata.log.segment.ms", ValueType::Long, Some("604800000")),
    accepted("metadata.max.idle.interval.ms", ValueType::Int, Some("500")),
    accepted("metadata.max.retention.bytes", ValueType::Long, Some("104857600")),
    accepted("metadata.max.retention.ms", ValueType::Long, Some("604800000")),
    accepted(
        "metric.reporters",
        ValueType::List,
        Some("org.apache.kafka.common.metrics.JmxReporter"),
    ),
    accepted("metrics.num.samples", ValueType::Int, Some("2")),
    accepted("metrics.recording.level", ValueType::String, Some("INFO")),
    accepted("metrics.sample.window.ms", ValueType::Long, Some("30000")),
    accepted("num.io.threads", ValueType::Int, Some("8")),
    accepted("num.network.threads", ValueType::Int, Some("3")),
    accepted("num.recovery.threads.per.data.dir", ValueType::Int, Some("2")),
    accepted("num.replica.alter.log.dirs.threads", ValueType::Int, None),
    accepted("num.replica.fetchers", ValueType::Int, Some("1")),
    accepted("offsets.load.buffer.size", ValueType::Int, Some("5242880")),
    accepted("offsets.topic.compression.codec", ValueType::Int, Some("0")),
    accepted(
        "principal.builder.class",
        ValueType::Class,
        Some("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder"),
    ),
    accepted("producer.purgatory.purge.interval.requests", ValueType::Int, Some("1000")),
    accepted("queued.max.request.bytes", ValueType::Long, Some("-1")),
    accepted("remote.fetch.max.wait.ms", ValueType::Int, Some("500")),
    accepted("remote.list.offsets.request.timeout.ms", ValueType::Long, Some("30000")),
    accepted("remote.log.index.file.cache.total.size.bytes", ValueType::Long, Some("1073741824")),
    accepted("remote.log.manager.copier.thread.pool.size", ValueType::Int, Some("10")),
    accepted(
        "remote.log.manager.copy.max.bytes.per.second",
        ValueType::Long,
        Some("9223372036854775807"),
    ),
    accepted("remote.log.manager.copy.quota.window.num", ValueType::Int, Some("11")),
    accepted("remote.log.manager.copy.quota.window.size.seconds", ValueType::Int, Some("1")),
    accepted("remote.log.manager.expiration.thread.pool.size", ValueType::Int, Some("10")),
    accepted(
        "remote.log.manager.fetch.max.bytes.per.second",
        ValueType::Long,
        Some("9223372036854775807"),
    ),
    accepted("remote.log.manager.fetch.quota.window.num", ValueType::Int, Some("11")),
    accepted("remote.log.manager.fetch.quota.window.size.seconds", ValueType::Int, Some("1")),
    accepted("remote.log.manager.task.interval.ms", ValueType::Long, Some("30000")),
    accepted("remote.log.manager.thread.pool.size", ValueType::Int, Some("2")),
    accepted("remote.log.metadata.custom.metadata.max.bytes", ValueType::Int, Some("128")),
    accepted(
        "remote.log.metadata.manager.class.name",
        ValueType::String,
        Some(
            "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        ),
    ),
    accepted("remote.log.metadata.manager.class.path", ValueType::String, None),
    accepted("remote.log.metadata.manager.impl.prefix", ValueType::String, Some("rlmm.config.")),
    accepted("remote.log.metadata.manager.listener.name", ValueType::String, None),
    accepted("remote.log.reader.max.pending.tasks", ValueType::Int, Some("100")),
    accepted("remote.log.reader.threads", ValueType::Int, Some("10")),
    accepted("remote.log.storage.manager.class.name", ValueType::String, None),
    accepted("remote.log.storage.manager.class.path", ValueType::String, None),
    accepted("remote.log.storage.manager.impl.prefix", ValueType::String, Some("rsm.config.")),
    accepted("remote.log.storage.system.enable", ValueType::Boolean, Some("false")),
    accepted("replica.fetch.backoff.ms", ValueType::Int, Some("1000")),
    accepted("replica.fetch.max.bytes", ValueType::Int, Some("1048576")),
    accepted("replica.fetch.min.bytes", ValueType::Int, Some("1")),
    accepted("replica.fetch.response.max.bytes", ValueType::Int, Some("10485760")),
    accepted("replica.fetch.wait.max.ms", ValueType::Int, Some("500")),
    accepted("replica.high.watermark.checkpoint.interval.ms", ValueType::Long, Some("5000")),
    accepted("replica.lag.time.max.ms", ValueType::Long, Some("30000")),
    accepted("replica.selector.class", ValueType::String, None),
    accepted("replica.socket.receive.buffer.bytes", ValueType::Int, Some("65536")),
    accepted("replica.socket.timeout.ms", ValueType::Int, Some("30000")),
    accepted("replication.quota.window.num", ValueType::Int, Some("11")),
    accepted("replication.quota.window.size.seconds", ValueType::Int, Some("1")),
    accepted("sasl.client.callback.handler.class", ValueType::Class, None),
    accepted("sasl.enabled.mechanisms", ValueType::List, Some("GSSAPI")),
    accepted("sasl.jaas.config", ValueType::Password, None),
    accepted("sasl.kerberos.kinit.cmd", ValueType::String, Some("/usr/bin/kinit")),
    accepted("sasl.kerberos.min.time.before.relogin", ValueType::Long, Some("60000")),
    accepted("sasl.kerberos.principal.to.local.rules", ValueType::List, Some("DEFAULT")),
    accepted("sasl.kerberos.service.name", ValueType::String, None),
    accepted("sasl.kerberos.ticket.renew.jitter", ValueType::Double, Some("0.05")),
    accepted("sasl.kerberos.ticket.renew.window.factor", ValueType::Double, Some("0.8")),
    accepted("sasl.login.callback.handler.class", ValueType::Class, None),
    accepted("sasl.login.class", ValueType::Class, None),
    accepted("sasl.login.connect.timeout.ms", ValueType::Int, None),
    accepted("sasl.login.read.timeout.ms", ValueType::Int, None),
    accepted("sasl.login.refresh.buffer.seconds", ValueType::Short, Some("300")),
    accepted("sasl.login.refresh.min.period.seconds", ValueType::Short, Some("60")),
    accepted("sasl.login.refresh.window.factor", ValueType::Double, Some("0.8")),
    accepted("sasl.login.refresh.window.jitter", ValueType::Double, Some("0.05")),
    accepted("sasl.login.retry.backoff.max.ms", ValueType::Long, Some("10000")),
    accepted("sasl.login.retry.backoff.ms", ValueType::Long, Some("100")),
    accepted("sasl.mechanism.controller.protocol", ValueType::String, Some("GSSAPI")),
    accepted("sasl.mechanism.inter.broker.protocol", ValueType::String, Some("GSSAPI")),
    accepted("sasl.oauthbearer.assertion.algorithm", ValueType::String, Some("RS256")),
    accepted("sasl.oauthbearer.assertion.claim.aud", ValueType::String, None),
    accepted("sasl.oauthbearer.assertion.claim.exp.seconds", ValueType::Int, Some("300")),
    accepted("sasl.oauthbearer.assertion.claim.iss", ValueType::String, None),
    accepted("sasl.oauthbearer.assertion.claim.jti.include", ValueType::Boolean, Some("false")),
    accepted("sasl.oauthbearer.assertion.claim.nbf.seconds", ValueType::Int, Some("60")),
    accepted("sasl.oauthbearer.assertion.claim.sub", ValueType::String, None),
    accepted("sasl.oauthbearer.assertion.file", ValueType::String, None),
    accepted("sasl.oauthbearer.assertion.private.key.file", ValueType::String, None),
    accepted("sasl.oauthbearer.assertion.private.key.passphrase", ValueType::Password, None),
    accepted("sasl.oauthbearer.assertion.template.file", ValueType::String, None),
    accepted("sasl.oauthbearer.client.credentials.client.id", ValueType::String, None),
    accepted("sasl.oauthbearer.client.credentials.client.secret", ValueType::Password, None),
    accepted("sasl.oauthbearer.clock.skew.seconds", ValueType::Int, Some("30")),
    accepted("sasl.oauthbearer.expected.audience", ValueType::List, None),
    accepted("sasl.oauthbearer.expected.issuer", ValueType::String, None),
    accepted("sasl.oauthbearer.jwks.endpoint.refresh.ms", ValueType::Long, Some("3600000")),
    accepted("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", ValueType::Long, Some("10000")),
    accepted("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", ValueType::Long, Some("100")),
    accepted("sasl.oauthbearer.jwks.endpoint.url", ValueType::String, None),
    accepted(
        "sasl.oauthbearer.jwt.retriever.class",
        ValueType::Class,
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
    ),
    accepted(
        "sasl.oauthbearer.jwt.validator.class",
        ValueType::Class,
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
    ),
    accepted("sasl.oauthbearer.scope", ValueType::String, None),
    accepted("sasl.oauthbearer.scope.claim.name", ValueType::String, Some("scope")),
    accepted("sasl.oauthbearer.sub.claim.name", ValueType::String, Some("sub")),
    accepted("sasl.oauthbearer.token.endpoint.url", ValueType::String, None),
    accepted("sasl.server.callback.handler.class", ValueType::Class, None),
    accepted("sasl.server.max.receive.size", ValueType::Int, Some("524288")),
    accepted("security.inter.broker.protocol", ValueType::String, Some("PLAINTEXT")),
    accepted("security.providers", ValueType::String, None),
    accepted("share.coordinator.append.linger.ms", ValueType::Int, Some("5")),
    accepted("share.coordinator.load.buffer.size", ValueType::Int, Some("5242880")),
    accepted("share.coordinator.snapshot.update.records.per.snapshot", ValueType::Int, Some("500")),
    accepted("share.coordinator.state.topic.compression.codec", ValueType::Int, Some("0")),
    accepted("share.coordinator.state.topic.min.isr", ValueType::Short, Some("2")),
    accepted("share.coordinator.state.topic.num.partitions", ValueType::Int, Some("50")),
    accepted("share.coordinator.state.topic.replication.factor", ValueType::Short, Some("3")),
    accepted("share.coordinator.state.topic.segment.bytes", ValueType::Int, Some("104857600")),
    accepted("share.coordinator.threads", ValueType::Int, Some("1")),
    accepted("share.coordinator.write.timeout.ms", ValueType::Int, Some("5000")),
    accepted("share.fetch.purgatory.purge.interval.requests", ValueType::Int, Some("1000")),
    accepted("socket.connection.setup.timeout.max.ms", ValueType::Long, Some("30000")),
    accepted("socket.connection.setup.timeout.ms", ValueType::Long, Some("10000")),
    accepted("ssl.allow.dn.changes", ValueType::Boolean, Some("false")),
    accepted("ssl.allow.san.changes", ValueType::Boolean, Some("false")),
    accepted("ssl.cipher.suites", ValueType::List, Some("")),
    accepted("ssl.client.auth", ValueType::String, Some("none")),
    accepted("ssl.enabled.protocols", ValueType::List, Some("TLSv1.2,TLSv1.3")),
    accepted("ssl.endpoint.identification.algorithm", ValueType::String, Some("https")),
    accepted("ssl.engine.factory.class", ValueType::Class, None),
    accepted("ssl.key.password", ValueType::Password, None),
    accepted("ssl.keymanager.algorithm", ValueType::String, Some("SunX509")),
    accepted("ssl.keystore.certificate.chain", ValueType::Password, None),
    accepted("ssl.keystore.key", ValueType::Password, None),
    accepted("ssl.keystore.location", ValueType::String, None),
    accepted("ssl.keystore.password", ValueType::Password, None),
    accepted("ssl.keystore.type", ValueType::String, Some("JKS")),
    accepted("ssl.principal.mapping.rules", ValueType::String, Some("DEFAULT")),
    accepted("ssl.protocol", ValueType::String, Some("TLSv1.3")),
    accepted("ssl.provider", ValueType::String, None),
    accepted("ssl.secure.random.implementation", ValueType::String, None),
    accepted("ssl.trustmanager.algorithm", ValueType::String, Some("PKIX")),
    accepted("ssl.truststore.certificates", ValueType::Password, None),
    accepted("ssl.truststore.location", ValueType::String, None),
    accepted("ssl.truststore.password", ValueType::Password, None),
    accepted("ssl.truststore.type", ValueType::String, Some("JKS")),
    accepted("telemetry.max.bytes", ValueType::Int, Some("1048576")),
    accepted(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        ValueType::Int,
        Some("10000"),
    ),
    accepted("transaction.partition.verification.enable", ValueType::Boolean, Some("true")),
    accepted("transaction.state.log.load.buffer.size", ValueType::Int, Some("5242880")),
    accepted("transaction.state.log.min.isr", ValueType::Int, Some("2")),
    accepted("transaction.two.phase.commit.enable", ValueType::Boolean, Some("false")),
    accepted("unclean.leader.election.enable", ValueType::Boolean, Some("false")),
];

#[cfg(test)]
mod tests {
    use super::super::declaration;
    use super::*;

    #[test]
    fn the_list_is_sorted_and_none_is_declared() {
        assert!(ACCEPTED.is_sorted_by(|a, b| a.name < b.name));
        assert!(UNDESCRIBED.is_sorted_by(|a, b| a < b));
        for name in ACCEPTED.iter().map(|row| row.name).chain(UNDESCRIBED.iter().copied()) {
            assert!(declaration::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn settings_of_one_listener_are_known_by_their_ending() {
        assert!(is_accepted("listener.name.internal.ssl.keystore.location"));
        assert!(is_accepted("listener.name.client.scram-sha-256.sasl.jaas.config"));
        assert!(is_accepted("listener.name.client.max.connections"));
        assert!(!is_accepted("listener.name.client.ssl.keystore.place"));
        assert!(!is_accepted("listener.name.client"));
    }

    #[test]
    fn known_kafka_names_are_accepted_and_others_not() {
        for name in ["num.io.threads", "zookeeper.connect", "super.users", "rsm.config.bucket"] {
            assert!(is_accepted(name), "{name}");
        }
        for name in ["ssl.keystore.place", "sasl.foo", "num.io.thread"] {
            assert!(!is_accepted(name), "{name}");
        }
    }
}
