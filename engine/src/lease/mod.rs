//! Leases: keys that live as long as somebody keeps their lease alive.
//!
//! What must survive is small and goes through the log like every write: that a lease exists, its time to live, which
//! keys are attached to it. Those are rows of the index (`record`), written by `mvcc::store` in the transaction that
//! causes them, so opening a store reads the leases and no key.
//!
//! When a lease runs out is known to the leader alone and never stored (`lessor`): keeping a lease alive costs a look
//! into a map, and neither the log nor the index. Applying never decides that a lease has run out; the leader
//! proposes its revocation, and all members delete the same keys at the same place in the log.
//!
//! From etcd's `server/lease`, with its limits and its pace.

// Leases and attachments as rows of the index.
pub mod record;

// When leases run out.
pub mod lessor;

// Ids for clients that leave the choice to the server.
pub mod ids;
