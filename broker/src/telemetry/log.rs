//! The log: lines on standard error.
//!
//! Does: installs the one subscriber of the process, as text or JSON, filtered as asked.
//! Does not: decide what is logged.
//! Invariants: installed at most once; a filter that cannot be read stops the start instead of hiding
//! lines.
//! Apart because only `main` calls it.
#![expect(clippy::disallowed_methods, reason = "RUST_LOG is what everybody knows")]

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// What is logged where neither `--log` nor `RUST_LOG` says otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// Installs the log. `filter` is that of `--log`; without it `RUST_LOG` counts, without that
/// `DEFAULT_FILTER`. Lines carry colours only on a terminal.
///
/// # Errors
/// One sentence: the filter cannot be read, or a log is installed already.
pub fn install(format: LogFormat, filter: Option<&str>) -> Result<(), String> {
    let from_environment = std::env::var("RUST_LOG").ok();
    let filter = parse_filter(filter, from_environment.as_deref())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| format!("the log cannot be installed: {error}"))
}

fn parse_filter(given: Option<&str>, environment: Option<&str>) -> Result<EnvFilter, String> {
    let text = given.or(environment).filter(|text| !text.is_empty()).unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder().parse(text).map_err(|error| format!("log filter {text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_goes_before_the_environment() {
        let shown = |given, environment| parse_filter(given, environment).unwrap().to_string();
        assert_eq!(shown(None, None), "info");
        assert_eq!(shown(None, Some("warn")), "warn");
        assert_eq!(shown(Some("debug"), Some("warn")), "debug");
        assert_eq!(shown(None, Some("")), "info");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        assert!(parse_filter(Some("flumen=loud"), None).is_err());
    }
}
