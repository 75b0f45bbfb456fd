//! PURE standing in line: given the children of a path and my own name, whom do I wait for.
//!
//! A line is a directory of ephemeral sequential nodes. The server hands out the numbers, so everybody who
//! reads the same names sees the same order. Three things make this more than a sort:
//!
//! * Names are written by programs in other languages, each with its own pattern. Whoever matches a pattern of
//!   the [`LineRules`] is in line, by *number* and not by text; whoever does not is counted and passed over,
//!   because a stray child must not stop the line.
//! * Numbers are the parent's `i32` counter. It may wrap, so numbers are compared on a circle: the line
//!   starts behind the largest gap. This is right while the line spans less than half of the circle.
//! * Nothing is ever inserted below a place in a plain line. So the names ahead are remembered ([`Ahead`]) and
//!   only crossed off, and a hand-over lists nothing. In the line of a read/write lock one thing is: a writer who
//!   goes on as a reader takes its own number again before it gives up its place. So whoever thinks to be first
//!   there lists once more ([`LineRules::is_shared`]).
//!
//! Left out: reading the names, and watching.

use std::cmp::Ordering;
use std::fmt;

use uuid::Uuid;

/// Whose name pattern a place in line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum System {
    /// `_c_<uuid>-<base>-<seq>`: Apache Curator, and this crate by default.
    Curator,
    /// `_c_<hex32>-<base>-<seq>`: go-zk, and kazoo's own tests.
    GoZk,
    /// `<hex32>__lock__<seq>`: kazoo.
    Kazoo,
    /// The base name and a number without a tag.
    Untagged,
}

/// Which names a participant makes, and by that which other programs it excludes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// Names as Curator makes them; counts Curator's and kazoo's names by number. Excludes Curator both ways.
    /// A kazoo program on the same path must run with `extra_lock_patterns=["-lock-"]` to see us; Curator
    /// itself does not wait for that kazoo. For three languages on one path let Python use a subclass with
    /// `_NODE_NAME = "-lock-"` and `_EXCLUDE_NAMES = ["-lock-"]`.
    #[default]
    Curator,
    /// Names as kazoo makes them; counts both. Excludes stock kazoo both ways; **Curator ignores us**.
    Kazoo,
}

/// The tag that finds a node again whose create reply was lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag {
    uuid: Uuid,
    layout: Layout,
}

impl Tag {
    /// A tag in a layout. Every attempt in another session needs a new one.
    #[must_use]
    pub fn new(uuid: Uuid, layout: Layout) -> Tag {
        Tag { uuid, layout }
    }

    /// What the names of this tag start with.
    #[must_use]
    pub fn prefix(&self) -> String {
        match self.layout {
            Layout::Curator => format!("_c_{}-", self.uuid.hyphenated()),
            Layout::Kazoo => self.uuid.simple().to_string(),
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix())
    }
}

/// Whether a place lets others hold beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Holds together with others of its kind: a reader.
    Shared,
    /// Holds alone: a writer, and every place in a plain line.
    Exclusive,
}

/// What makes a child a place in line, and how our own are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRules {
    layout: Layout,
    /// What places we take.
    mode: Mode,
    /// Between the tag and the number of the names we make.
    base: &'static str,
    /// A name is in line when it ends in one of these followed by a number.
    markers: &'static [(&'static str, Mode)],
}

impl LineRules {
    /// The line of locks and elections.
    #[must_use]
    pub fn lock(layout: Layout) -> LineRules {
        let base = match layout {
            Layout::Curator => "lock-",
            Layout::Kazoo => "__lock__",
        };
        let markers = &[("-lock-", Mode::Exclusive), ("__lock__", Mode::Exclusive)];
        LineRules { layout, mode: Mode::Exclusive, base, markers }
    }

    /// The line of a read/write lock, for one who reads or writes. Curator's and kazoo's cannot see each other:
    /// names of the other layout are not in line.
    #[must_use]
    pub fn read_write(layout: Layout, mode: Mode) -> LineRules {
        let (base, markers): (_, &'static [(&'static str, Mode)]) = match layout {
            Layout::Curator => (
                if mode == Mode::Shared { "__READ__" } else { "__WRIT__" },
                &[("-__READ__", Mode::Shared), ("-__WRIT__", Mode::Exclusive)],
            ),
            Layout::Kazoo => (
                if mode == Mode::Shared { "__rlock__" } else { "__lock__" },
                &[("__rlock__", Mode::Shared), ("__lock__", Mode::Exclusive)],
            ),
        };
        LineRules { layout, mode, base, markers }
    }

    /// The leases of Curator's semaphore. They stand beside each other: only their number counts, not their order.
    #[must_use]
    pub fn lease() -> LineRules {
        let markers = &[("-lease-", Mode::Shared)];
        LineRules { layout: Layout::Curator, mode: Mode::Shared, base: "lease-", markers }
    }

    /// The line of Curator's leader latch.
    #[must_use]
    pub fn latch() -> LineRules {
        let markers = &[("-latch-", Mode::Exclusive)];
        LineRules { layout: Layout::Curator, mode: Mode::Exclusive, base: "latch-", markers }
    }

    /// The line of whoever is elected, for one who only looks: that of the leader latch, and that of elections.
    #[must_use]
    pub fn leaders() -> LineRules {
        let markers =
            &[("-latch-", Mode::Exclusive), ("-lock-", Mode::Exclusive), ("__lock__", Mode::Exclusive)];
        LineRules { layout: Layout::Curator, mode: Mode::Exclusive, base: "lock-", markers }
    }

    /// What places we take.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether a place can appear below one that stands: a writer who goes on as a reader takes its own number again.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.markers.iter().any(|(_, mode)| *mode == Mode::Shared)
    }

    /// The layout of the names we make.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The name to ask the server for; it appends the number.
    #[must_use]
    pub fn name(&self, tag: Tag) -> String {
        tag.prefix() + self.base
    }

    /// Reads one child's name; `None` for names that are not in line.
    #[must_use]
    pub fn parse(&self, name: &str) -> Option<Seat> {
        self.markers.iter().find_map(|(marker, mode)| {
            let (tag, number) = match name.rfind(marker) {
                Some(at) => (&name[..at], &name[at + marker.len()..]),
                // Curator counts a bare `lock-<seq>` too, made with protection switched off.
                None => ("", name.strip_prefix(marker.strip_prefix('-')?)?),
            };
            let (name, number) = (name.to_owned(), number_of(number)?);
            Some(Seat { name, number, mode: *mode, system: system_of(tag) })
        })
    }
}

/// The number of a sequence suffix: ten digits, or a sign and the nine or ten digits that `%010d` makes of a
/// negative counter.
pub(crate) fn number_of(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let expected = if digits.len() == text.len() { 10..=10 } else { 9..=10 };
    let sound = expected.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if sound { text.parse().ok() } else { None }
}

fn system_of(tag: &str) -> System {
    let is_hex32 = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match tag.strip_prefix("_c_") {
        Some(rest) if is_hex32(rest) => System::GoZk,
        Some(_) => System::Curator,
        None if is_hex32(tag) => System::Kazoo,
        None => System::Untagged,
    }
}

/// One place in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The child's name, without the parent.
    pub name: String,
    /// The number the server gave it.
    pub number: i32,
    /// Whether it lets others hold beside it.
    pub mode: Mode,
    /// Whose pattern the name follows.
    pub system: System,
}

/// All who stand in line, first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    seats: Vec<Seat>,
    foreign: usize,
}

impl Line {
    /// Puts the children of a path in order.
    pub fn read<S: AsRef<str>>(rules: &LineRules, children: impl IntoIterator<Item = S>) -> Line {
        let mut line = Line::default();
        for child in children {
            match rules.parse(child.as_ref()) {
                Some(seat) => line.seats.push(seat),
                None => line.foreign += 1,
            }
        }
        line.sort();
        line
    }

    fn sort(&mut self) {
        let order = |a: &Seat, b: &Seat| (a.number as u32).cmp(&(b.number as u32));
        self.seats.sort_by(|a, b| order(a, b).then(a.mode.cmp(&b.mode)).then_with(|| a.name.cmp(&b.name)));
        let start = start_of_circle(&self.seats.iter().map(|seat| seat.number).collect::<Vec<_>>());
        self.seats.rotate_left(start);
    }

    /// The places, first one first.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Who is first.
    #[must_use]
    pub fn first(&self) -> Option<&Seat> {
        self.seats.first()
    }

    /// How many children are not in line at all.
    #[must_use]
    pub fn foreign(&self) -> usize {
        self.foreign
    }

    /// How many stand before `own`; `None` when it is not in line.
    #[must_use]
    pub fn position(&self, own: &str) -> Option<usize> {
        self.seats.iter().position(|seat| seat.name == own)
    }

    /// Everybody before `own` whom it must wait for, to be remembered while waiting; `None` when it is not in line.
    /// One who shares waits for those who do not.
    #[must_use]
    pub fn ahead_of(&self, own: &str) -> Option<Ahead> {
        let position = self.position(own)?;
        let mode = self.seats[position].mode;
        let before = self.seats[..position].iter().filter(|seat| excludes(seat.mode, mode));
        Some(Ahead { names: before.map(|seat| seat.name.clone()).collect() })
    }

    /// Whether one who comes now would hold at once.
    #[must_use]
    pub fn admits(&self, mode: Mode) -> bool {
        !self.seats.iter().any(|seat| excludes(seat.mode, mode))
    }

    /// The nodes with this tag, first one first. More than one is left when a create was sent twice.
    #[must_use]
    pub fn copies(&self, tag: Tag) -> Vec<&Seat> {
        let prefix = tag.prefix();
        self.seats.iter().filter(|seat| seat.name.starts_with(&prefix)).collect()
    }
}

/// Whether two places cannot hold at the same time.
fn excludes(one: Mode, other: Mode) -> bool {
    one == Mode::Exclusive || other == Mode::Exclusive
}

/// Where a line begins among numbers sorted as `u32`: behind the largest gap on the circle.
fn start_of_circle(sorted: &[i32]) -> usize {
    let gap_before = |at: usize| {
        let previous = if at == 0 { sorted[sorted.len() - 1] } else { sorted[at - 1] };
        (sorted[at] as u32).wrapping_sub(previous as u32)
    };
    // The first of several equal gaps wins; with all numbers equal every gap is 0 and the line starts at 0.
    (0..sorted.len())
        .max_by(|a, b| gap_before(*a).cmp(&gap_before(*b)).then(Ordering::reverse(a.cmp(b))))
        .unwrap_or(0)
}

/// The names that stood before mine when I looked. They only go; none is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// First in line first, so the one right before me is last.
    names: Vec<String>,
}

impl Ahead {
    /// The one right before me; `None` when I am first.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }

    /// The first in line; `None` when I am.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.names.first().map(String::as_str)
    }

    /// Crosses off a name that is proved gone. Names are never reused, so gone is gone for ever.
    pub fn gone(&mut self, name: &str) {
        self.names.retain(|other| other != name);
    }

    /// How many are remembered. Some of them may have left meanwhile.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether I am first.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CURATOR: &str = "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-lock-0000000003";
    const KAZOO: &str = "2f1f9f6a8b554f0e9f430a4c2b6a9d10__lock__0000000004";
    const GO: &str = "_c_2f1f9f6a8b554f0e9f430a4c2b6a9d10-lock-0000000005";

    fn rules() -> LineRules {
        LineRules::lock(Layout::Curator)
    }

    fn numbers(line: &Line) -> Vec<i32> {
        line.seats().iter().map(|seat| seat.number).collect()
    }

    fn named(number: i32) -> String {
        format!("_c_{}-lock-{number:010}", Uuid::from_u128(number as u32 as u128).hyphenated())
    }

    #[test]
    fn names_of_every_system_stand_in_one_line_by_number() {
        let line = Line::read(&rules(), [GO, "other", KAZOO, CURATOR, "lock-0000000001"]);
        let seen: Vec<_> = line.seats().iter().map(|seat| (seat.number, seat.system)).collect();
        assert_eq!(
            seen,
            [(1, System::Untagged), (3, System::Curator), (4, System::Kazoo), (5, System::GoZk)]
        );
        assert_eq!(line.foreign(), 1);
        assert_eq!(line.position(KAZOO), Some(2));
        assert_eq!(line.position("other"), None);
    }

    #[test]
    fn what_matches_no_pattern_is_not_in_line() {
        for name in [
            "lock-1",
            "_c_x-lock-000000001",
            "_c_x-lock-00000000011",
            "a-lock-0000000001x",
            "a-lock-9999999999",
            "2f1f9f6a8b554f0e9f430a4c2b6a9d10__rlock__0000000001",
            "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-__READ__0000000001",
            "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-lease-0000000001",
            "a-lock--12345678",
            "a-lock-+000000001",
        ] {
            assert_eq!(rules().parse(name), None, "{name}");
        }
        assert_eq!(LineRules::latch().parse(CURATOR), None);
        assert_eq!(LineRules::latch().parse("_c_x-latch-0000000007").map(|seat| seat.number), Some(7));
        // The last marker counts, as in Curator.
        assert_eq!(rules().parse("a-lock-b-lock-0000000007").map(|seat| seat.number), Some(7));
    }

    #[test]
    fn our_names_are_the_golden_ones() {
        let uuid = Uuid::from_u128(0x2f1f9f6a_8b55_4f0e_9f43_0a4c2b6a9d10);
        let name = |rules: LineRules| rules.name(Tag::new(uuid, rules.layout())) + "0000000003";
        assert_eq!(name(rules()), CURATOR);
        assert_eq!(
            name(LineRules::lock(Layout::Kazoo)),
            "2f1f9f6a8b554f0e9f430a4c2b6a9d10__lock__0000000003"
        );
        assert_eq!(name(LineRules::latch()), "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-latch-0000000003");
    }

    #[test]
    fn readers_wait_for_writers_and_writers_for_all() {
        let rules = LineRules::read_write(Layout::Curator, Mode::Shared);
        let name = |tag: &str, kind: &str, number: i32| format!("_c_{tag}-__{kind}__{number:010}");
        let (r1, w2, r3, w4) =
            (name("a", "READ", 1), name("b", "WRIT", 2), name("c", "READ", 3), name("d", "WRIT", 4));
        // The holder of 2 goes on as a reader: the same number stands twice, and the reader comes first.
        let r2 = name("e", "READ", 2);
        let line = Line::read(&rules, [&w4, &r2, &w2, &r1, &r3, &CURATOR.to_owned()]);
        assert_eq!(line.foreign(), 1);
        let ahead = |own: &str| line.ahead_of(own).map(|ahead| ahead.names).unwrap_or_default();
        assert!(ahead(&r1).is_empty() && ahead(&r2).is_empty());
        assert_eq!(ahead(&w2), [r1.clone(), r2.clone()]);
        assert_eq!(ahead(&r3), std::slice::from_ref(&w2));
        assert_eq!(ahead(&w4), [r1.clone(), r2.clone(), w2, r3]);
        let readers = Line::read(&rules, [&r1, &r2]);
        assert!(readers.admits(Mode::Shared) && !readers.admits(Mode::Exclusive));
        assert!(!line.admits(Mode::Shared) && Line::default().admits(Mode::Exclusive));
    }

    #[test]
    fn the_lines_of_two_systems_do_not_see_each_other() {
        let curator = LineRules::read_write(Layout::Curator, Mode::Exclusive);
        let kazoo = LineRules::read_write(Layout::Kazoo, Mode::Shared);
        let uuid = Uuid::from_u128(0x2f1f9f6a_8b55_4f0e_9f43_0a4c2b6a9d10);
        let name = |rules: &LineRules| rules.name(Tag::new(uuid, rules.layout())) + "0000000003";
        assert_eq!(name(&curator), "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-__WRIT__0000000003");
        assert_eq!(name(&kazoo), "2f1f9f6a8b554f0e9f430a4c2b6a9d10__rlock__0000000003");
        assert_eq!(curator.parse(&name(&kazoo)), None);
        assert_eq!(kazoo.parse(&name(&curator)), None);
        assert_eq!(kazoo.parse(KAZOO).map(|seat| seat.mode), Some(Mode::Exclusive));
        assert!(curator.is_shared() && !LineRules::latch().is_shared());
    }

    #[test]
    fn a_line_crosses_the_end_of_the_counter() {
        let line = Line::read(&rules(), [i32::MIN, i32::MAX, i32::MAX - 1, i32::MIN + 4].map(named));
        assert_eq!(numbers(&line), [i32::MAX - 1, i32::MAX, i32::MIN, i32::MIN + 4]);
        let line = Line::read(&rules(), [0, -1, 3, -7].map(named));
        assert_eq!(numbers(&line), [-7, -1, 0, 3]);
    }

    #[test]
    fn a_counter_stuck_at_its_end_orders_by_name() {
        let a = "_c_a-lock-2147483647";
        let b = "_c_b-lock-2147483647";
        assert_eq!(Line::read(&rules(), [b, a]).position(b), Some(1));
    }

    #[test]
    fn the_remembered_names_are_crossed_off_from_the_nearest() {
        let line = Line::read(&rules(), (1..=4).map(named));
        let mut ahead = line.ahead_of(&named(4)).expect("4 is in line");
        assert_eq!((ahead.len(), ahead.nearest(), ahead.first()), (3, Some(&*named(3)), Some(&*named(1))));
        ahead.gone(&named(3));
        assert_eq!(ahead.nearest(), Some(&*named(2)));
        ahead.gone(&named(1));
        ahead.gone(&named(2));
        assert!(ahead.is_empty() && ahead.nearest().is_none());
        assert_eq!(line.ahead_of("nobody"), None);
    }

    #[test]
    fn copies_of_one_tag_are_found_lowest_first() {
        let uuid = Uuid::from_u128(7);
        let copy = |number: i32| format!("_c_{}-lock-{number:010}", uuid.hyphenated());
        let line = Line::read(&rules(), [copy(9), named(1), copy(4)]);
        let found: Vec<_> =
            line.copies(Tag::new(uuid, Layout::Curator)).iter().map(|seat| seat.number).collect();
        assert_eq!(found, [4, 9]);
    }

    proptest! {
        /// Wherever on the circle a line starts and in whatever order the names come, it is read in the order
        /// in which the numbers were given out.
        #[test]
        fn the_order_is_the_order_of_creation(
            start in any::<i32>(),
            steps in proptest::collection::vec(1i32..10_000_000, 1..50),
            seed in any::<u64>(),
        ) {
            let mut number = start;
            let mut given = vec![start];
            for step in steps {
                number = number.wrapping_add(step);
                given.push(number);
            }
            let mut names: Vec<_> = given.iter().copied().map(named).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut names);
            let line = Line::read(&rules(), &names);
            prop_assert_eq!(numbers(&line), given.clone());
            for (position, number) in given.iter().enumerate() {
                let ahead = line.ahead_of(&named(*number)).expect("it is in line");
                prop_assert_eq!(ahead.len(), position);
            }
        }

        #[test]
        fn any_name_is_read_without_panic(name in ".*", number in any::<i32>()) {
            let _ = rules().parse(&name);
            let seat = rules().parse(&format!("{name}-lock-{number:010}"));
            prop_assert_eq!(seat.map(|seat| seat.number), Some(number));
        }
    }
}
