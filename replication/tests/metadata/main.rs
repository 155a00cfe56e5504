//! What becomes of the cluster's metadata, told as stories.

mod chance;
mod cluster;
mod stories;
