//! A set that is mostly empty or has one member, and sometimes a hundred thousand.

use std::collections::BTreeSet;

/// An ordered set in 16 bytes, as long as it has at most one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum SmallSet<T> {
    /// Nothing.
    #[default]
    Empty,
    /// One member.
    One(T),
    /// Two or more. The members of a tree lie six to eleven in a piece, so one takes about eight bytes.
    #[expect(
        clippy::box_collection,
        reason = "a set by itself would double the size of all that have one member"
    )]
    Many(Box<BTreeSet<T>>),
}

impl<T: Copy + Ord> SmallSet<T> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, SmallSet::Empty)
    }

    pub(super) fn contains(&self, member: T) -> bool {
        match self {
            SmallSet::Empty => false,
            SmallSet::One(one) => *one == member,
            SmallSet::Many(many) => many.contains(&member),
        }
    }

    /// Whether the member is new.
    pub(super) fn insert(&mut self, member: T) -> bool {
        match self {
            SmallSet::Empty => {
                *self = SmallSet::One(member);
                true
            }
            SmallSet::One(one) if *one == member => false,
            SmallSet::One(one) => {
                *self = SmallSet::Many(Box::new(BTreeSet::from([*one, member])));
                true
            }
            SmallSet::Many(many) => many.insert(member),
        }
    }

    /// Whether there was such a member.
    pub(super) fn remove(&mut self, member: T) -> bool {
        match self {
            SmallSet::One(one) if *one == member => {
                *self = SmallSet::Empty;
                true
            }
            SmallSet::Empty | SmallSet::One(_) => false,
            SmallSet::Many(many) => {
                let was_there = many.remove(&member);
                if many.len() == 1 {
                    let last = many.first().copied().map_or(SmallSet::Empty, SmallSet::One);
                    *self = last;
                }
                was_there
            }
        }
    }

    /// The members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        let (one, many) = match self {
            SmallSet::Empty => (None, None),
            SmallSet::One(one) => (Some(*one), None),
            SmallSet::Many(many) => (None, Some(many.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_shrinks_through_all_its_shapes() {
        let mut set = SmallSet::default();
        assert_eq!(size_of_val(&set), 16);
        for member in [3_u32, 1, 2] {
            assert!(set.insert(member) && !set.insert(member));
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(set.contains(2) && !set.contains(4) && !set.remove(4));
        assert!(set.remove(1) && set.remove(3));
        assert_eq!(set, SmallSet::One(2));
        assert!(!set.remove(1) && set.remove(2) && set.is_empty() && !set.remove(2));
    }
}
