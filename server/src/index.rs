//! A hash index for PURE rooms, split into many small tables.
//!
//! A hash table that grows moves all of its entries at once, and a million of them would hold up writes. Names
//! come from outside, so the hash is seeded, and nobody can choose names that collide. The index cannot be walked,
//! so its order is never seen.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

/// Tables of one index. With 2²⁸ entries, more than fit into memory, each holds 2²⁰.
const SHARDS: usize = 256;

/// Small values that are found by what their owner knows of them.
#[derive(Debug)]
pub(crate) struct Index<T> {
    shards: Box<[HashTable<T>]>,
    hasher: FixedState,
}

impl<T: Copy + PartialEq> Index<T> {
    /// An empty index.
    pub(crate) fn new(seed: u64) -> Index<T> {
        Index { shards: (0..SHARDS).map(|_| HashTable::new()).collect(), hasher: FixedState::with_seed(seed) }
    }

    /// The entry with this key for which `is_it` holds.
    pub(crate) fn find(&self, key: impl Hash, mut is_it: impl FnMut(T) -> bool) -> Option<T> {
        let hash = self.hasher.hash_one(key);
        self.shards[shard(hash)].find(hash, |value| is_it(*value)).copied()
    }

    /// Adds an entry that is not there. `key_of` tells the key of any entry, this one too.
    pub(crate) fn insert<K: Hash>(&mut self, value: T, key_of: impl Fn(T) -> K) {
        let hash = self.hasher.hash_one(key_of(value));
        let hasher = &self.hasher;
        self.shards[shard(hash)].insert_unique(hash, value, |value| hasher.hash_one(key_of(*value)));
    }

    /// Takes out an entry that is there.
    pub(crate) fn remove(&mut self, value: T, key: impl Hash) {
        let hash = self.hasher.hash_one(key);
        let entry = self.shards[shard(hash)].find_entry(hash, |other| *other == value);
        entry.ok().expect("what is taken out was put in under the same key").remove();
    }

    /// Entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }
}

/// The table that a hash belongs to. The lowest and the highest bits are used within a table.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_key_until_they_are_taken_out() {
        for seed in [0, 1, u64::MAX] {
            let names: Vec<String> = (0..5_000).map(|n| format!("n{n}")).collect();
            let mut index = Index::new(seed);
            (0..names.len()).for_each(|n| index.insert(n, |n: usize| names[n].as_str()));
            (0..names.len()).step_by(2).for_each(|n| index.remove(n, names[n].as_str()));
            for (n, name) in names.iter().enumerate() {
                let found = index.find(name.as_str(), |other: usize| names[other] == *name);
                assert_eq!(found, (n % 2 == 1).then_some(n));
            }
            assert_eq!(index.len(), names.len() / 2);
        }
    }
}
