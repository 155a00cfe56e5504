//! The coordinator of transactions by stories: what producers ask, what they are told, which markers
//! are owed, and that a coordinator which is loaded from the log goes on where the one before was.

mod chance;
mod stories;
mod world;
