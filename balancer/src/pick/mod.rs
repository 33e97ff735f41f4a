//! How one of several endpoints is picked: one policy per file.

pub mod roundrobin;
