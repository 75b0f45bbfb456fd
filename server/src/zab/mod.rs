//! PURE: agreement on one order of writes, in the protocol of ZooKeeper (Zab 1.0 as Apache's servers speak it).
//!
//! A server looks for a leader, leads, or learns from one. [`Replica`] is the door and the only place where that changes.
//!
//! * **Looking** ([`Election`]): servers exchange votes until a quorum wants the same. The election only finds a
//!   candidate quickly. That nothing is lost does not hang on it, but on what follows.
//! * **Discovery**: the candidate takes an epoch above all that a quorum has promised, and a quorum promises to follow
//!   nobody with a lower one. So an old leader finds no quorum any more.
//! * **Synchronization**: learners get the candidate's history ([`choose`]): what they lack, what they must forget, or
//!   the whole state. When a quorum has it durably, it is committed, all of it, and the epoch is established.
//! * **Broadcast**: the leader numbers writes (*propose*), learns which are durable where (*ack*), and when a quorum has
//!   one, everything up to it is *committed*. It counts itself like anybody else: its own ack comes when its disk
//!   reports. A server that is alone is its own quorum and begins here.
//!
//! Invariants, checked where they could break: one leader per epoch; zxids rise without gaps within an epoch; nothing is
//! committed that a quorum has not made durable; what one server commits at a place, every server commits there; the
//! commit point never moves back.
//!
//! Who belongs to the ensemble can change while it runs: a new configuration is a record like any other, and while it is
//! under way decisions need a quorum of the old members and one of the new (`members.rs`).
//!
//! The log is not the state: what is logged and not committed is kept apart and applied when it is committed, or cut
//! away. Only a server that starts has applied its whole log; it serves when all of that is committed.

mod context;
mod election;
mod epochs;
mod history;
mod leader;
mod learner;
mod ledger;
mod log_shape;
mod members;
mod message;
mod output;
mod quorum;
mod replica;
#[cfg(test)]
mod stories;
mod sync;
mod tail;

pub use context::{ReplicaConfig, Role};
pub use election::{Ballot, Elected, Election};
pub use epochs::Epochs;
pub use leader::Leading;
pub use learner::Learning;
pub use log_shape::LogShape;
pub use members::{Members, Reading};
pub use message::{Capability, ForwardedRequest, LinkId, Message, Notification, Standing, Vote};
pub use output::{FromLeader, FromLearner, Output, Turn};
pub use quorum::{PeerId, Quorum, QuorumError};
pub use replica::Replica;
pub use sync::{Plan, choose};
pub use tail::Tail;
