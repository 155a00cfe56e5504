//! Settings whose meaning Flumen cannot honour and must not ignore.
//!
//! Does: says why a security setting, a plug-in or a missing feature keeps the broker from starting.
//! Does not: judge listeners (`listener` does) or unknown names (`load` does).
//! Invariants: a setting that narrows what clients may do is never dropped in silence.
//! Apart because each row is a promise about safety and should be read as one list.

use super::kind::parse_boolean;

/// A name, which of its values cannot be honoured, and why.
struct Refusal {
    name: &'static str,
    applies: fn(&str) -> bool,
    reason: &'static str,
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "authorizer.class.name",
        applies: is_set,
        reason: "access control is not there yet, and starting without it would open what this file closes",
    },
    Refusal {
        name: "principal.builder.class",
        applies: is_foreign_principal_builder,
        reason: "Java classes cannot be loaded, and who a client is must not be decided otherwise than asked",
    },
    Refusal {
        name: "security.inter.broker.protocol",
        applies: is_secure_protocol,
        reason: "connections between brokers cannot be secured yet",
    },
    Refusal { name: "create.topic.policy.class.name", applies: is_set, reason: POLICY },
    Refusal { name: "alter.config.policy.class.name", applies: is_set, reason: POLICY },
    Refusal { name: "client.quota.callback.class", applies: is_set, reason: POLICY },
    Refusal {
        name: "config.providers",
        applies: is_set,
        reason: "values are taken as written: replacing ${…} from elsewhere is not supported",
    },
    Refusal {
        name: "remote.log.storage.system.enable",
        applies: is_true,
        reason: "tiered storage is not there yet",
    },
];

const POLICY: &str = "Java classes cannot be loaded, and a policy must not be dropped in silence";

/// Why this value of this option keeps the broker from starting, if it does.
pub fn reason(name: &str, value: &str) -> Option<&'static str> {
    REFUSALS.iter().find(|r| r.name == name && (r.applies)(value)).map(|r| r.reason)
}

fn is_set(value: &str) -> bool {
    !value.is_empty()
}

fn is_true(value: &str) -> bool {
    parse_boolean(value) == Some(true)
}

fn is_secure_protocol(value: &str) -> bool {
    !value.is_empty() && !value.eq_ignore_ascii_case("PLAINTEXT")
}

fn is_foreign_principal_builder(value: &str) -> bool {
    is_set(value) && !value.ends_with(".DefaultKafkaPrincipalBuilder")
}
