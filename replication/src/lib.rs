//! What must be equal on every replica: partitions, metadata and groups as pure state machines.
