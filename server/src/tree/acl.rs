//! Access control lists, each kept once, and the transaction that sets one.
//!
//! Nodes hold numbers of lists. The list that is open to everybody is number 0 and is not counted. Another one
//! goes when the last node that held it has gone – but only when the next transaction is applied, so that the
//! changes told to watchers can name the list of a node that exists no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use docent::{Acl, ErrorCode};

use super::{Outcome, Tree, digest};

/// The number of a list. Good as long as a node holds the list, and until the next transaction is applied. Not
/// the same on two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclId(u32);

impl AclId {
    /// Everybody may do everything.
    pub const OPEN: AclId = AclId(0);

    /// What stands for the list in a snapshot.
    pub(super) fn to_file(self) -> i64 {
        if self == AclId::OPEN { -1 } else { self.0.into() }
    }
}

/// The lists in use.
#[derive(Debug)]
pub(super) struct AclTable {
    /// By number; `None` where a number is vacant.
    lists: Vec<Option<List>>,
    numbers: BTreeMap<Arc<[Acl]>, AclId>,
    vacant: Vec<AclId>,
    /// Numbers whose last use has ended since the last sweep, some of them twice or in use again.
    idle: Vec<AclId>,
}

#[derive(Debug)]
struct List {
    entries: Arc<[Acl]>,
    /// Nodes that hold it; of the open list always 1.
    uses: u32,
}

impl AclTable {
    pub(super) fn new() -> AclTable {
        let open = List { entries: Acl::open().into(), uses: 1 };
        AclTable { lists: vec![Some(open)], numbers: BTreeMap::new(), vacant: vec![], idle: vec![] }
    }

    /// The number of a list, used once more.
    pub(super) fn acquire(&mut self, acl: &[Acl]) -> AclId {
        if *acl == *self.entries(AclId::OPEN) {
            return AclId::OPEN;
        }
        if let Some(&id) = self.numbers.get(acl) {
            self.acquire_again(id);
            return id;
        }
        let list = List { entries: acl.into(), uses: 1 };
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.lists.push(None);
            AclId(u32::try_from(self.lists.len() - 1).expect("lists are fewer than nodes"))
        });
        self.numbers.insert(Arc::clone(&list.entries), id);
        self.lists[id.0 as usize] = Some(list);
        id
    }

    /// One use more of a list that exists.
    pub(super) fn acquire_again(&mut self, id: AclId) {
        if id != AclId::OPEN {
            self.list_mut(id).uses += 1;
        }
    }

    /// One use less.
    pub(super) fn release(&mut self, id: AclId) {
        if id == AclId::OPEN {
            return;
        }
        let list = self.list_mut(id);
        list.uses -= 1;
        if list.uses == 0 {
            self.idle.push(id);
        }
    }

    /// Forgets the lists that nobody uses.
    pub(super) fn sweep(&mut self) {
        while let Some(id) = self.idle.pop() {
            let slot = &mut self.lists[id.0 as usize];
            if let Some(list) = slot.take_if(|list| list.uses == 0) {
                self.numbers.remove(&list.entries);
                self.vacant.push(id);
            }
        }
    }

    /// The entries of a list.
    pub(super) fn entries(&self, id: AclId) -> &[Acl] {
        let list = self.lists.get(id.0 as usize).and_then(Option::as_ref);
        // An empty list would allow everything, so a number that is no longer good must not read as one.
        &list.unwrap_or_else(|| panic!("{id:?} is not held by any node")).entries
    }

    /// The lists that nodes hold, but for the open one.
    pub(super) fn used(&self) -> impl Iterator<Item = (AclId, &[Acl])> {
        let used = self.lists.iter().zip(0_u32..).skip(1);
        used.filter_map(|(list, id)| Some((AclId(id), list.as_ref().filter(|list| list.uses > 0)?)))
            .map(|(id, list)| (id, &*list.entries))
    }

    /// How many nodes hold each list, for a test to count again.
    #[cfg(test)]
    pub(super) fn uses(&self) -> BTreeMap<AclId, u32> {
        let lists = self.lists.iter().zip(0_u32..).skip(1);
        let held = lists.filter_map(|(list, id)| Some((AclId(id), list.as_ref()?.uses)));
        held.filter(|(_, uses)| *uses > 0).collect()
    }

    /// How many lists are kept, held or not, for a test to see that they do not pile up.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.numbers.len()
    }

    fn list_mut(&mut self, id: AclId) -> &mut List {
        let list = self.lists[id.0 as usize].as_mut();
        list.unwrap_or_else(|| panic!("{id:?} is not held by any node"))
    }
}

impl Tree {
    /// Replaces the list of a node. Neither zxids nor times move, and no watch hears of it.
    pub(super) fn set_acl(&mut self, path: &str, acl: &[Acl], version: i32) -> Outcome {
        let Some(id) = self.store.find(path) else { return Outcome::error(ErrorCode::NO_NODE) };
        let new = self.acls.acquire(acl);
        let old = self.store[id].acl;
        self.change(id, digest::is_covered(path), |node| {
            node.acl = new;
            node.aversion = version;
        });
        self.acls.release(old);
        self.outcome_of(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use docent::Permissions;

    fn list(id: &str) -> Vec<Acl> {
        vec![Acl::new(Permissions::READ, "ip", id)]
    }

    #[test]
    fn equal_lists_have_one_number_until_the_last_use_ends() {
        let mut table = AclTable::new();
        let one = table.acquire(&list("::1"));
        assert_eq!(table.acquire(&list("::1")), one);
        assert_ne!(table.acquire(&list("::2")), one);
        assert_eq!(table.acquire(&Acl::open()), AclId::OPEN);
        table.release(one);
        table.sweep();
        assert_eq!(table.entries(one), list("::1"));
        table.release(one);
        assert_eq!(table.entries(one), list("::1"), "changes may still name it");
        assert_eq!(table.used().count(), 1);
        table.sweep();
        assert_eq!(table.acquire(&list("::3")), one, "its number is vacant");
    }

    #[test]
    fn a_list_that_is_used_again_before_the_sweep_stays() {
        let mut table = AclTable::new();
        let id = table.acquire(&list("::1"));
        for _ in 0..2 {
            table.release(id);
            assert_eq!(table.acquire(&list("::1")), id);
        }
        table.sweep();
        assert_eq!(table.entries(id), list("::1"));
        table.release(id);
        table.sweep();
        assert_eq!((table.used().count(), table.numbers.len(), table.vacant.len()), (0, 0, 1));
    }

    #[test]
    #[should_panic(expected = "is not held by any node")]
    fn a_number_that_is_not_good_any_more_does_not_read_as_an_open_list() {
        let mut table = AclTable::new();
        let id = table.acquire(&list("::1"));
        table.release(id);
        table.sweep();
        table.entries(id);
    }
}
