//! Writes `CONFIG.md` from the declarations.
//!
//! Does: one page with every honoured option, every topic config and how names are treated.
//! Does not: hold any fact of its own about an option.
//! Invariants: the file in the repository equals `render()` (test); `FLUMEN_REGENERATE=1` rewrites it.
//! Apart because only the test and readers need it.

use super::declaration;
use super::declared::Declaration;
use super::kafka_names::ACCEPTED;
use super::topic_names::{TOPIC_CONFIGS, TopicConfig};

/// The whole page.
pub fn render() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str(RUNNING);
    page.push_str(
        "| Name | Default | Values | Unit | Running | Meaning |\n|---|---|---|---|---|---|\n",
    );
    declaration::all().for_each(|row| page.push_str(&option_row(row)));
    page.push_str(
        "\n## Topic configs\n\nSet with CreateTopics, AlterConfigs and IncrementalAlterConfigs; ",
    );
    page.push_str(
        "they take effect at once. Unset ones are inherited from the broker option named.\n\n",
    );
    page.push_str("| Name | Default | Values | Inherits from | Meaning |\n|---|---|---|---|---|\n");
    TOPIC_CONFIGS.iter().for_each(|config| page.push_str(&topic_row(config)));
    page.push_str(
        "\n## Kafka settings without effect\n\nAccepted, listed once in the log at start:\n\n",
    );
    let names: Vec<String> = ACCEPTED.iter().map(|row| format!("`{}`", row.name)).collect();
    page.push_str(&names.join(", "));
    page.push_str(".\n");
    page
}

const INTRODUCTION: &str = "\
# Configuration

Written from `src/config/declaration.rs` and `src/config/topic_names.rs`; do not edit. A test fails if it is
stale, and `FLUMEN_REGENERATE=1 cargo test -p flumen-broker reference` writes it anew.

`flumen serve --config FILE --override KEY=VALUE` reads a file in the form of Kafka's `server.properties`.
Names are Kafka's wherever Kafka has the setting; those that start with `flumen.` are our own. Settings Kafka
has and Flumen does not need are accepted and listed once in the log; names nobody knows stop the start.
So does what cannot be honoured but must not be ignored: listeners other than PLAINTEXT, an authorizer,
policies and other Java classes, tiered storage, several data folders.
";

const RUNNING: &str = "
## Broker options

Those marked *yes* under *Running* also change while the broker runs, with AlterConfigs and IncrementalAlterConfigs
(`kafka-configs --entity-type brokers`), for one broker or for all of them; they are kept in the cluster's log and go
before what the file says, a broker's own before all brokers'. The others take effect at the next start.

";

fn option_row(declaration: &Declaration) -> String {
    format!(
        "| `{}` | {} | {} | {} | {} | {} |\n",
        declaration.name,
        code(declaration.default.unwrap_or("")),
        cell(&declaration.kind.range()),
        declaration.unit(),
        if declaration.restart_needed() { "" } else { "yes" },
        cell(declaration.meaning)
    )
}

fn topic_row(config: &TopicConfig) -> String {
    let inherits: Vec<String> = config.inherits.iter().map(|from| code(from.name)).collect();
    format!(
        "| `{}` | {} | {} | {} | {} |\n",
        config.name,
        code(config.default),
        cell(&config.kind.range()),
        inherits.join(", "),
        cell(config.meaning)
    )
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", cell(text)) }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the page is a file of the repository")]
    fn the_page_in_the_repository_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/CONFIG.md");
        if std::env::var_os("FLUMEN_REGENERATE").is_some() {
            std::fs::write(path, render()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == render(), "CONFIG.md is stale: run with FLUMEN_REGENERATE=1");
    }
}
