//! The machine and the moment of a measurement.

use serde::{Deserialize, Serialize};

/// Where and when something was measured; enough to judge whether two results may be compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Start, milliseconds since 1970 UTC.
    pub started_unix_ms: u64,
    /// Kernel release.
    pub kernel: String,
    /// Model of the processor.
    pub cpu_model: String,
    /// CPUs this process may use.
    pub cpus: usize,
    /// Installed memory, MiB.
    pub memory_mib: u64,
    /// File system of the data folder, as the kernel names it; empty where none took part.
    pub file_system: String,
    /// Block device of the data folder; empty where unknown.
    pub device: String,
    /// Version of this tool.
    pub tool_version: String,
}
