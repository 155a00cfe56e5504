//! A partition from outside: by scripts that can be read, and by random histories with restarts.

#[path = "partition/held.rs"]
mod held;
#[path = "partition/restart.rs"]
mod restart;
#[path = "partition/transactional.rs"]
mod transactional;
#[path = "partition/transcripts.rs"]
mod transcripts;
#[path = "partition/world.rs"]
mod world;
