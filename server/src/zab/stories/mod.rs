//! Agreement among several replicas, told as stories. Those with a number of ZooKeeper's in the name are of faults that
//! other servers had: each names the rule that avoids it here.

mod broadcast;
mod by_hand;
mod lessons;
mod membership;
mod net;
mod promises;
mod synchronization;
