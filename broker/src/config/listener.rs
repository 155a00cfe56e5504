//! Listeners: the addresses the broker opens and the addresses it tells clients.
//!
//! Does: parses `listeners`, `advertised.listeners` and `listener.security.protocol.map`, matches them.
//! Does not: resolve names or open sockets.
//! Invariants: every `Listener` speaks a protocol Flumen can honour and advertises a host a client
//! can connect to.
//! Apart because the form has rules of its own (KIP-103, and KIP-797's dual stack).

use super::kind::words;

/// The security a listener offers. Only what can be honoured is a variant: a listener that asks for
/// more is refused while loading, never opened without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither encryption nor authentication.
    Plaintext,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address without brackets; empty means every address of the machine.
    pub host: String,
    /// TCP port; 0 lets the system choose one.
    pub port: u16,
}

/// One address the broker listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Name in capitals, such as `PLAINTEXT`.
    pub name: String,
    /// What is spoken there.
    pub protocol: SecurityProtocol,
    /// Host to bind without brackets; empty binds every address.
    pub host: String,
    /// Port to bind; 0 lets the system choose one.
    pub port: u16,
    /// What Metadata answers to a request that came in here. Invariant: never a wildcard address; port
    /// 0 stands for the port the system chose.
    pub advertised: Endpoint,
}

impl Listener {
    /// The texts to try with `bind`, in order; the first that works is taken. An empty host tries the
    /// IPv6 wildcard first, because it serves both families where the machine has IPv6.
    pub fn bind_candidates(&self) -> Vec<String> {
        if self.host.is_empty() {
            vec![format!("[::]:{}", self.port), format!("0.0.0.0:{}", self.port)]
        } else {
            vec![authority(&self.host, self.port)]
        }
    }

    /// Where a client of this listener should connect, given the port that was really bound.
    pub fn advertised_for(&self, bound_port: u16) -> (&str, u16) {
        let port = if self.advertised.port == 0 { bound_port } else { self.advertised.port };
        (&self.advertised.host, port)
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The texts that decide the listeners, as the operator wrote them.
pub struct ListenerTexts<'a> {
    /// `listeners`.
    pub listeners: &'a str,
    /// `advertised.listeners`, if given.
    pub advertised: Option<&'a str>,
    /// `listener.security.protocol.map`.
    pub protocol_map: &'a str,
    /// `controller.listener.names`: these are Kafka's quorum listeners and are not opened.
    pub controller_names: &'a str,
    /// Name of this machine, advertised for a listener on every address.
    pub hostname: &'a str,
}

/// What came out of the texts.
#[derive(Debug, PartialEq, Eq)]
pub struct ListenerPlan {
    /// Listeners to open, in the order written; at least one.
    pub listeners: Vec<Listener>,
    /// Names that are not opened because they belong to Kafka's controller quorum.
    pub skipped: Vec<String>,
}

/// Decides which listeners are opened and what each advertises.
///
/// # Errors
/// One sentence: malformed text, unknown or unsupported protocol, the same address twice, an
/// advertised wildcard, an advertised name nobody listens on, or nothing to open.
pub fn plan(texts: &ListenerTexts<'_>) -> Result<ListenerPlan, String> {
    let is_controller =
        |name: &str| words(texts.controller_names).any(|n| n.eq_ignore_ascii_case(name));
    let advertised = parse_named(texts.advertised.unwrap_or(""), "advertised.listeners")?;
    check_advertised(&advertised)?;
    let mut plan = ListenerPlan { listeners: Vec::new(), skipped: Vec::new() };
    for (name, bind) in parse_named(texts.listeners, "listeners")? {
        if is_controller(&name) {
            plan.skipped.push(name);
            continue;
        }
        let protocol = protocol_of(&name, texts.protocol_map)?;
        let advertised = advertised_endpoint(&name, &bind, &advertised, texts.hostname);
        plan.listeners.push(Listener {
            name,
            protocol,
            host: bind.host,
            port: bind.port,
            advertised,
        });
    }
    check_opened(&plan.listeners)?;
    if let Some((name, _)) = advertised.iter().find(|(name, _)| {
        !is_controller(name) && !plan.listeners.iter().any(|listener| listener.name == *name)
    }) {
        return Err(format!("advertised.listeners names {name}, but no such listener is opened"));
    }
    Ok(plan)
}

fn check_opened(listeners: &[Listener]) -> Result<(), String> {
    if listeners.is_empty() {
        return Err("listeners: no listener for clients is left to open".to_owned());
    }
    for (index, listener) in listeners.iter().enumerate() {
        let same = |other: &&Listener| other.host == listener.host && other.port == listener.port;
        if listener.port != 0 && listeners[..index].iter().any(|other| same(&other)) {
            let address = authority(&listener.host, listener.port);
            return Err(format!("listeners: {address} is given twice"));
        }
    }
    Ok(())
}

fn check_advertised(advertised: &[(String, Endpoint)]) -> Result<(), String> {
    match advertised
        .iter()
        .find(|(_, endpoint)| is_wildcard(&endpoint.host) && !endpoint.host.is_empty())
    {
        Some((name, endpoint)) => Err(format!(
            "advertised.listeners: {name} advertises {}, which no client can connect to; \
             give the name or address clients reach this machine by",
            endpoint.host
        )),
        None => Ok(()),
    }
}

/// The advertised endpoint of the same name, preferring the same address family where a name is
/// advertised for both; otherwise the listener's own address; on a wildcard the machine's name.
fn advertised_endpoint(
    name: &str,
    bind: &Endpoint,
    advertised: &[(String, Endpoint)],
    hostname: &str,
) -> Endpoint {
    let is_ipv6 = |host: &str| host.contains(':');
    let mut named = advertised.iter().filter(|(n, _)| n == name).map(|(_, endpoint)| endpoint);
    let mut chosen = named.clone().find(|e| is_ipv6(&e.host) == is_ipv6(&bind.host));
    let mut endpoint = chosen.take().or_else(|| named.next()).unwrap_or(bind).clone();
    if is_wildcard(&endpoint.host) {
        endpoint.host = hostname.to_owned();
    }
    endpoint
}

fn is_wildcard(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::" | "0:0:0:0:0:0:0:0")
}

fn protocol_of(name: &str, map: &str) -> Result<SecurityProtocol, String> {
    let mapped = words(map)
        .filter_map(|entry| entry.split_once(':'))
        .find(|(listener, _)| listener.trim().eq_ignore_ascii_case(name))
        .map(|(_, protocol)| protocol.trim().to_ascii_uppercase());
    match mapped.as_deref() {
        Some("PLAINTEXT") => Ok(SecurityProtocol::Plaintext),
        Some(secure @ ("SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) => Err(format!(
            "listeners: {name} asks for {secure}, which Flumen does not offer yet; it is refused because \
             opening it without the security it asks for would be dangerous"
        )),
        Some(other) => {
            Err(format!("listener.security.protocol.map: {other} is no security protocol"))
        }
        None => Err(format!("listeners: listener.security.protocol.map has no entry for {name}")),
    }
}

/// `NAME://host:port, …` as names in capitals and endpoints.
fn parse_named(text: &str, option: &str) -> Result<Vec<(String, Endpoint)>, String> {
    words(text).map(|entry| parse_entry(entry).ok_or_else(|| malformed(option, entry))).collect()
}

fn malformed(option: &str, entry: &str) -> String {
    format!("Invalid value {entry} for configuration {option}: expected NAME://host:port")
}

fn parse_entry(entry: &str) -> Option<(String, Endpoint)> {
    let (name, address) = entry.split_once("://")?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.';
    if name.is_empty() || !name.bytes().all(is_name) {
        return None;
    }
    Some((name.to_ascii_uppercase(), parse_endpoint(address)?))
}

/// `host:port`, where an IPv6 address stands in brackets and the host may be empty.
pub fn parse_endpoint(address: &str) -> Option<Endpoint> {
    let (host, port) = address.trim().rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':'))?,
        None => host,
    };
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-%._:".contains(&b);
    let port = Some(port).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let host = Some(host).filter(|host| host.bytes().all(is_host))?;
    Some(Endpoint { host: host.to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT";

    fn planned(listeners: &str, advertised: Option<&str>) -> Result<ListenerPlan, String> {
        let controller_names = "CONTROLLER";
        let texts = ListenerTexts {
            listeners,
            advertised,
            protocol_map: MAP,
            controller_names,
            hostname: "box",
        };
        plan(&texts)
    }

    fn advertised(listeners: &str, text: Option<&str>) -> Vec<String> {
        let plan = planned(listeners, text).unwrap();
        plan.listeners.iter().map(|l| authority(&l.advertised.host, l.advertised.port)).collect()
    }

    #[test]
    fn both_loopback_addresses_advertise_themselves() {
        let text = "PLAINTEXT://127.0.0.1:9092,PLAINTEXT://[::1]:9092";
        assert_eq!(advertised(text, None), ["127.0.0.1:9092", "[::1]:9092"]);
        let plan = planned(text, None).unwrap();
        assert_eq!(plan.listeners[1].bind_candidates(), ["[::1]:9092"]);
        assert_eq!(plan.listeners[1].host, "::1");
    }

    #[test]
    fn every_address_advertises_the_name_of_the_machine() {
        assert_eq!(advertised("PLAINTEXT://:9092", None), ["box:9092"]);
        assert_eq!(advertised("PLAINTEXT://0.0.0.0:9092", None), ["box:9092"]);
        let plan = planned("PLAINTEXT://:9092", None).unwrap();
        assert_eq!(plan.listeners[0].bind_candidates(), ["[::]:9092", "0.0.0.0:9092"]);
    }

    #[test]
    fn an_advertised_wildcard_is_refused() {
        let error = planned("PLAINTEXT://:9092", Some("PLAINTEXT://0.0.0.0:9092")).unwrap_err();
        assert!(error.contains("no client can connect"), "{error}");
        assert!(planned("PLAINTEXT://:9092", Some("PLAINTEXT://[::]:9092")).is_err());
    }

    #[test]
    fn what_is_advertised_follows_name_then_family() {
        let two = "plaintext://127.0.0.1:9092,PLAINTEXT://[::1]:9092";
        assert_eq!(advertised(two, Some("PLAINTEXT://k:1")), ["k:1", "k:1"]);
        let both = "PLAINTEXT://10.0.0.1:1,PLAINTEXT://[fd00::1]:2";
        assert_eq!(advertised(two, Some(both)), ["10.0.0.1:1", "[fd00::1]:2"]);
        assert!(planned(two, Some("OTHER://k:1")).is_err());
    }

    #[test]
    fn security_is_refused_not_dropped() {
        for name in ["SSL", "SASL_SSL", "SASL_PLAINTEXT"] {
            let error = planned(&format!("{name}://:9093"), None).unwrap_err();
            assert!(error.contains("dangerous"), "{error}");
        }
        assert!(planned("HOME://:9092", None).unwrap_err().contains("no entry for HOME"));
    }

    #[test]
    fn the_controller_listener_of_kafka_is_not_opened() {
        let plan = planned(
            "PLAINTEXT://:9092,CONTROLLER://:9093",
            Some("PLAINTEXT://h:1,CONTROLLER://h:2"),
        );
        let plan = plan.unwrap();
        assert_eq!(plan.skipped, ["CONTROLLER"]);
        assert_eq!(plan.listeners.len(), 1);
        assert!(planned("CONTROLLER://:9093", None).is_err());
    }

    #[test]
    fn malformed_and_repeated_addresses_are_refused() {
        for text in [
            "PLAINTEXT://h",
            "h:9092",
            "PLAINTEXT://h:99999",
            "PLAINTEXT://[h]:1",
            "P://h:x",
            "://h:1",
        ] {
            assert!(planned(text, None).is_err(), "{text}");
        }
        assert!(planned("PLAINTEXT://a:1,PLAINTEXT://a:1", None).unwrap_err().contains("twice"));
        assert!(planned("PLAINTEXT://a:0,PLAINTEXT://a:0", None).is_ok());
    }

    #[test]
    fn a_port_chosen_by_the_system_is_advertised_once_known() {
        let plan = planned("PLAINTEXT://127.0.0.1:0", None).unwrap();
        assert_eq!(plan.listeners[0].advertised_for(41_000), ("127.0.0.1", 41_000));
    }
}
