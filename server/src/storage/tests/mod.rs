//! Tests of the room as a whole.

mod contract;
mod crash;
mod damage;
mod folders;
mod golden;
mod lessons;
mod snapshots;
mod support;
mod writer;
