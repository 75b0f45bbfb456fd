//! How the items of a queue are named, ordered and written; computes only.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::error::Error;
use crate::line::number_of;

/// Whose nodes a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueLayout {
    /// Curator's `DistributedQueue`, `DistributedPriorityQueue` and `DistributedDelayQueue`: `queue-…`, and several values may
    /// be put together.
    #[default]
    Curator,
    /// Curator's `SimpleDistributedQueue`, and that of ZooKeeper's own recipes: `qn-…`, without priority or delay.
    CuratorSimple,
    /// kazoo's `Queue` and `LockingQueue`: `entry-…`, with a priority from 0 to 999, 100 if none is given.
    Kazoo,
}

/// In which order items come out of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueOrder {
    /// As they were put.
    #[default]
    Fifo,
    /// The lowest priority first, and as they were put within one.
    Priority,
    /// None before it is due, by the clock of who takes it, and the one that is due first.
    Delay,
}

/// Where an item stands: the lower the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// In milliseconds since 1970.
    pub(crate) due: u64,
    pub(crate) priority: i32,
    number: i32,
}

/// The names of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Naming {
    pub(crate) layout: QueueLayout,
    pub(crate) order: QueueOrder,
}

/// What kazoo gives an item without a priority.
const KAZOO_PRIORITY: i32 = 100;
const KAZOO_PRIORITY_MAX: i32 = 999;

impl Naming {
    /// The name of a new item, without its number. What the order does not ask for must not be given.
    pub(crate) fn stem(self, priority: Option<i32>, due: Option<u64>) -> Result<String, Error> {
        let refused = |what| Err(Error::NotInLayout { what });
        match (self.order, priority, due) {
            (QueueOrder::Fifo | QueueOrder::Delay, Some(_), _) => return refused("priority in this order"),
            (QueueOrder::Fifo | QueueOrder::Priority, _, Some(_)) => return refused("delay in this order"),
            _ => {}
        }
        match (self.layout, self.order) {
            (QueueLayout::Curator, QueueOrder::Fifo) => Ok("queue-".to_owned()),
            (QueueLayout::Curator, QueueOrder::Priority) => {
                let priority = priority.unwrap_or(0);
                Ok(format!("queue-{}{priority:08X}", u8::from(priority >= 0)))
            }
            (QueueLayout::Curator, QueueOrder::Delay) => Ok(format!("queue-|{:X}|", due.unwrap_or(0))),
            (QueueLayout::CuratorSimple, QueueOrder::Fifo) => Ok("qn-".to_owned()),
            (QueueLayout::CuratorSimple, QueueOrder::Priority) => refused("priority"),
            (QueueLayout::CuratorSimple | QueueLayout::Kazoo, QueueOrder::Delay) => refused("delay"),
            (QueueLayout::Kazoo, _) => match priority.unwrap_or(KAZOO_PRIORITY) {
                priority @ 0..=KAZOO_PRIORITY_MAX => Ok(format!("entry-{priority:03}-")),
                _ => refused("priority below 0 or above 999"),
            },
        }
    }

    /// Where a child stands; `None` for one that is no item of such a queue.
    pub(crate) fn rank(self, name: &str) -> Option<Rank> {
        let at = |due, priority, number: &str| Some(Rank { due, priority, number: number_of(number)? });
        match (self.layout, self.order) {
            (QueueLayout::CuratorSimple, _) => at(0, 0, name.strip_prefix("qn-")?),
            (QueueLayout::Kazoo, _) => {
                let (priority, number) = name.strip_prefix("entry-")?.split_once('-')?;
                let digits = priority.len() == 3 && priority.bytes().all(|byte| byte.is_ascii_digit());
                at(0, priority.parse().ok().filter(|_| digits)?, number)
            }
            (QueueLayout::Curator, QueueOrder::Fifo) => {
                let rest = name.strip_prefix("queue-")?;
                // Curator's queue with ids puts each between two bars.
                at(0, 0, rest.strip_prefix('|').map_or(Some(rest), |id| Some(id.rsplit_once('|')?.1))?)
            }
            (QueueLayout::Curator, QueueOrder::Priority) => {
                let rest = name.strip_prefix("queue-")?;
                let (sign, hex, number) = (rest.get(..1)?, rest.get(1..9)?, rest.get(9..)?);
                let priority = u32::from_str_radix(hex, 16).ok()?.cast_signed();
                at(0, priority, number).filter(|_| (sign == "1") == (priority >= 0))
            }
            (QueueLayout::Curator, QueueOrder::Delay) => {
                let (due, number) = name.strip_prefix("queue-|")?.split_once('|')?;
                at(u64::from_str_radix(due, 16).ok()?, 0, number)
            }
        }
    }

    /// The items among children, first first, each with when it is due. Others are passed over.
    pub(crate) fn sorted(self, names: Vec<String>) -> Vec<(Rank, String)> {
        let mut items: Vec<_> =
            names.into_iter().filter_map(|name| Some((self.rank(&name)?, name))).collect();
        items.sort_unstable();
        items
    }

    /// The bytes of a node with these values.
    pub(crate) fn write(self, values: &[Bytes]) -> Result<Bytes, Error> {
        match (self.layout, values) {
            (QueueLayout::Curator, _) => Ok(framed(values)),
            (_, [one]) => Ok(one.clone()),
            _ => Err(Error::NotInLayout { what: "several values in one node" }),
        }
    }

    /// The values of a node. Bytes that are not framed where they should be are one value as they are.
    pub(crate) fn read(self, bytes: &Bytes) -> Vec<Bytes> {
        match self.layout {
            QueueLayout::Curator => unframed(bytes).unwrap_or_else(|| vec![bytes.clone()]),
            _ => vec![bytes.clone()],
        }
    }
}

/// What Curator's frames begin with.
const VERSION: u32 = 0x0001_0001;
const VALUE: u8 = 1;
const END: u8 = 2;

fn framed(values: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(VERSION);
    for value in values {
        out.put_u8(VALUE);
        // A node takes far less than 4 GiB: the server refuses such a one.
        out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        out.put_slice(value);
    }
    out.put_u8(END);
    out.freeze()
}

fn unframed(bytes: &Bytes) -> Option<Vec<Bytes>> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (mut values, mut at) = (Vec::new(), 4);
    if number(0)? != VERSION {
        return None;
    }
    loop {
        match *bytes.get(at)? {
            END => return Some(values),
            VALUE => {
                let begin = at + 5;
                let end = begin.checked_add(usize::try_from(number(at + 1)?).ok()?)?;
                bytes.get(begin..end)?;
                values.push(bytes.slice(begin..end));
                at = end;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naming(layout: QueueLayout, order: QueueOrder) -> Naming {
        Naming { layout, order }
    }

    #[test]
    fn names_are_those_of_curator_and_kazoo() {
        use QueueLayout::{Curator, CuratorSimple, Kazoo};
        use QueueOrder::{Delay, Fifo, Priority};
        let stem = |layout, order, priority, due| naming(layout, order).stem(priority, due).ok();
        let is = |stem: Option<String>, wanted: &str| assert_eq!(stem.as_deref(), Some(wanted));
        is(stem(Curator, Fifo, None, None), "queue-");
        is(stem(Curator, Priority, Some(5), None), "queue-100000005");
        is(stem(Curator, Priority, Some(-1), None), "queue-0FFFFFFFF");
        is(stem(Curator, Priority, None, None), "queue-100000000");
        is(stem(Curator, Delay, None, Some(0x17F)), "queue-|17F|");
        is(stem(CuratorSimple, Fifo, None, None), "qn-");
        is(stem(Kazoo, Fifo, None, None), "entry-100-");
        is(stem(Kazoo, Priority, Some(7), None), "entry-007-");
        for (layout, order, priority, due) in [
            (Curator, Fifo, Some(1), None),
            (Curator, Fifo, None, Some(1)),
            (Curator, Delay, Some(1), None),
            (CuratorSimple, Priority, Some(1), None),
            (CuratorSimple, Delay, None, Some(1)),
            (Kazoo, Priority, Some(1000), None),
            (Kazoo, Delay, None, Some(1)),
        ] {
            assert_eq!(stem(layout, order, priority, due), None, "{layout:?} {order:?}");
        }
    }

    #[test]
    fn items_come_in_their_order_and_others_never() {
        let sorted = |order, names: &[&str]| -> Vec<String> {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            naming(QueueLayout::Curator, order).sorted(names).into_iter().map(|(_, name)| name).collect()
        };
        let fifo = ["queue-0000000002", "queue-0000000001", "queue-1", "lock", "queue-|id|0000000000"];
        assert_eq!(
            sorted(QueueOrder::Fifo, &fifo),
            ["queue-|id|0000000000", "queue-0000000001", "queue-0000000002"]
        );
        let priority = [
            "queue-1000000050000000001",
            "queue-1000000040000000002",
            "queue-0FFFFFFFE0000000003",
            "queue-0FFFFFFFF0000000004",
            "queue-1FFFFFFFF0000000004",
            "queue-0000000001",
        ];
        assert_eq!(
            sorted(QueueOrder::Priority, &priority),
            [priority[2], priority[3], priority[1], priority[0]]
        );
        let delay =
            ["queue-|FF|0000000001", "queue-|1|0000000002", "queue-|G|0000000000", "queue-0000000001"];
        assert_eq!(sorted(QueueOrder::Delay, &delay), [delay[1], delay[0]]);
        let kazoo = |name| naming(QueueLayout::Kazoo, QueueOrder::Fifo).rank(name);
        assert!(kazoo("entry-001-0000000009") < kazoo("entry-100-0000000001"));
        assert_eq!((kazoo("entry-+01-0000000009"), kazoo("queue-0000000001")), (None, None));
    }

    #[test]
    fn frames_are_those_of_curator() {
        let curator = Naming::default();
        let two = [Bytes::from("ab"), Bytes::new()];
        let bytes = curator.write(&two).expect("a frame");
        assert_eq!(&bytes[..], b"\x00\x01\x00\x01\x01\x00\x00\x00\x02ab\x01\x00\x00\x00\x00\x02");
        assert_eq!(curator.read(&bytes), two);
        for broken in [&b"plain"[..], b"", b"\x00\x01\x00\x01", b"\x00\x01\x00\x01\x01\xff\xff\xff\xffa\x02"]
        {
            assert_eq!(curator.read(&Bytes::from_static(broken)), [broken], "as it is");
        }
        let kazoo = naming(QueueLayout::Kazoo, QueueOrder::Fifo);
        assert!(kazoo.write(&two).is_err());
        assert_eq!(kazoo.write(&two[..1]).expect("one value"), "ab");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_ranked(
            priority in any::<i32>(), other in any::<i32>(), due in any::<u64>(), number in 0..i32::MAX,
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..5),
        ) {
            let by = |order| naming(QueueLayout::Curator, order);
            let rank = |order, priority, due| {
                by(order).stem(priority, due).ok().and_then(|stem| by(order).rank(&format!("{stem}{number:010}")))
            };
            let (one, two) = (rank(QueueOrder::Priority, Some(priority), None), rank(QueueOrder::Priority, Some(other), None));
            prop_assert!(one.is_some() && two.is_some());
            prop_assert_eq!(one.cmp(&two), priority.cmp(&other));
            let delayed = rank(QueueOrder::Delay, None, Some(due));
            prop_assert_eq!(delayed.map(|rank| rank.due), Some(due));
            let values: Vec<Bytes> = values.into_iter().map(Bytes::from).collect();
            let bytes = by(QueueOrder::Fifo).write(&values).expect("a frame");
            prop_assert_eq!(by(QueueOrder::Fifo).read(&bytes), values);
        }

        #[test]
        fn any_name_and_any_bytes_are_read_without_panic(name in ".{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for order in [QueueOrder::Fifo, QueueOrder::Priority, QueueOrder::Delay] {
                for layout in [QueueLayout::Curator, QueueLayout::CuratorSimple, QueueLayout::Kazoo] {
                    for name in [name.clone(), format!("queue-{name}"), format!("entry-{name}"), format!("qn-{name}")] {
                        naming(layout, order).rank(&name);
                    }
                    naming(layout, order).read(&Bytes::from(bytes.clone()));
                }
            }
        }
    }
}
