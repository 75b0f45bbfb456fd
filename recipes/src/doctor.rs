//! Reads a path that locks, elections or groups use, and says who stands there and what is wrong.
//!
//! Programs that share a path exclude each other only if they look for each other's names. Which of them do is told in the
//! table of [`Layout`]; here it is told of the nodes that are there. Reads only: no node, no watch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use docent::{Client, ErrorCode, SessionId, Stat, Zxid, path};
use futures::stream::{self, StreamExt as _};

use crate::error::Error;
use crate::line::{Layout, Line, LineRules, Mode, Seat, System, number_of};

/// How many places are read one by one; of a longer line the first ones.
pub const EXAMINED_MAX: usize = 1_000;

/// How many are read at the same time.
const READS_AT_ONCE: usize = 64;

/// So many numbers before the end of a sequence it is time to take another path.
const NUMBERS_LEFT_MIN: i64 = 10_000_000;

/// How many names a finding lists.
const NAMED_MAX: usize = 5;

/// What children of a path are there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// An ordered lock or an election: Curator's `InterProcessMutex` and `LeaderSelector`, kazoo's `Lock` and `Election`.
    Lock,
    /// A read/write lock of Curator.
    ReadWriteLock,
    /// A read/write lock of kazoo. Its writers have the names of kazoo's plain lock.
    KazooReadWriteLock,
    /// Curator's `LeaderLatch`.
    Latch,
    /// The leases of a semaphore: all who have one hold.
    Leases,
    /// Apache's `WriteLock`, from the recipes that come with ZooKeeper.
    ZooKeeperLock,
    /// Apache's `LeaderElectionSupport`, from the recipes that come with ZooKeeper.
    ZooKeeperElection,
    /// Members of a group: ephemeral nodes with names of their own.
    Members,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Lock => "lock or election",
            Purpose::ReadWriteLock => "read/write lock",
            Purpose::KazooReadWriteLock => "read/write lock of kazoo",
            Purpose::Latch => "leader latch",
            Purpose::Leases => "leases of a semaphore",
            Purpose::ZooKeeperLock => "WriteLock of ZooKeeper's recipes",
            Purpose::ZooKeeperElection => "LeaderElectionSupport of ZooKeeper's recipes",
            Purpose::Members => "members of a group",
        })
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is wrong.
    Note,
    /// It works, and may stop to.
    Warning,
    /// Two may hold at once, or nobody ever will.
    Error,
}

/// Something that one should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, and what to do.
    pub text: String,
}

/// One who stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The name of its node.
    pub name: String,
    /// Its number in line; `None` for the members of a group.
    pub number: Option<i32>,
    /// Whether it lets others hold beside it.
    pub mode: Mode,
    /// Whose pattern its name follows.
    pub system: System,
    /// Whether it holds, by its own rules: two may, where programs do not look for each other's names.
    pub holds: bool,
    /// Its data: by convention who it is.
    pub data: Bytes,
    /// Its session; [`SessionId::NONE`] for a node that no session takes with it.
    pub session: SessionId,
    /// When it was made, milliseconds since 1970 by the server's clock.
    pub created_ms: i64,
    /// The transaction that made it: its token when it holds.
    pub czxid: Zxid,
}

/// Those who stand at a path for one purpose, first one first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// What for.
    pub purpose: Purpose,
    /// The first [`EXAMINED_MAX`] of them.
    pub standing: Vec<Standing>,
    /// How many more there are.
    pub more: usize,
}

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// The path.
    pub path: String,
    /// Its node, if there is one.
    pub stat: Option<Stat>,
    /// Who stands there.
    pub groups: Vec<Group>,
    /// What one should know, the worst first.
    pub findings: Vec<Finding>,
    /// The folders of a semaphore, each with its own.
    pub parts: Vec<Examination>,
}

impl Examination {
    /// How bad the worst finding is, here and in the parts.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let own = self.findings.iter().map(|finding| finding.severity);
        own.chain(self.parts.iter().map(Examination::severity)).max().unwrap_or(Severity::Note)
    }
}

/// Reads a path that locks, elections or groups use, and says who stands there and what is wrong. Whoever leaves while it
/// is read is left out. **Cost:** one list, and one read for each who stands there, [`EXAMINED_MAX`] at most.
///
/// # Errors
/// [`Error::Closed`] and what the server refuses. A path that is not there is a finding.
///
/// # Cancel safety
/// It only reads.
pub async fn examine(client: &Client, path: &str) -> Result<Examination, Error> {
    let mut whole = examine_one(client, path).await?;
    let parts = semaphore_parts(whole.1.iter().map(String::as_str));
    for part in parts {
        whole.0.parts.push(examine_one(client, &path::join(path, part)).await?.0);
    }
    Ok(whole.0)
}

/// The folders of Curator's and kazoo's semaphores, if these are the children of one.
fn semaphore_parts<'a>(children: impl Iterator<Item = &'a str>) -> Vec<&'static str> {
    let children: BTreeSet<&str> = children.collect();
    if children.contains("leases") && children.contains("locks") {
        vec!["locks", "leases"]
    } else {
        Vec::new()
    }
}

async fn examine_one(client: &Client, path: &str) -> Result<(Examination, Vec<String>), Error> {
    let (stat, names) = match client.get_children(path).await {
        Ok(children) => (Some(children.stat), children.names),
        Err(error) if error.code() == Some(ErrorCode::NO_NODE) => (None, Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut sorted = Sorted::of(&names);
    let mut groups = Vec::new();
    for (purpose, seats) in std::mem::take(&mut sorted.lines) {
        let more = seats.len().saturating_sub(EXAMINED_MAX);
        let places = seats.into_iter().take(EXAMINED_MAX).map(Place::from).collect();
        groups.push(Group { purpose, standing: read(client, path, places).await?, more });
    }
    // Children in no line are members if a session takes them with it.
    let others = sorted.others.iter().take(EXAMINED_MAX).map(|name| Place::plain(name)).collect();
    let mut members = read(client, path, others).await?;
    members.retain(|member| member.session != SessionId::NONE);
    let more = sorted.others.len().saturating_sub(EXAMINED_MAX);
    let foreign: Vec<String> = sorted
        .others
        .into_iter()
        .take(EXAMINED_MAX)
        .filter(|name| members.iter().all(|m| m.name != *name))
        .collect();
    if !members.is_empty() {
        groups.push(Group { purpose: Purpose::Members, standing: members, more });
    }
    let parts = semaphore_parts(names.iter().map(String::as_str));
    let foreign = foreign.into_iter().filter(|name| !parts.contains(&name.as_str())).collect();
    let (groups, findings) = judge(stat.as_ref(), groups, foreign);
    Ok((Examination { path: path.to_owned(), stat, groups, findings, parts: Vec::new() }, names))
}

/// A child before it is read.
struct Place {
    name: String,
    number: Option<i32>,
    mode: Mode,
    system: System,
}

impl Place {
    fn plain(name: &str) -> Place {
        Place { name: name.to_owned(), number: None, mode: Mode::Shared, system: System::Untagged }
    }
}

impl From<Seat> for Place {
    fn from(seat: Seat) -> Place {
        Place { name: seat.name, number: Some(seat.number), mode: seat.mode, system: seat.system }
    }
}

async fn read(client: &Client, path: &str, places: Vec<Place>) -> Result<Vec<Standing>, Error> {
    let reads = places.into_iter().map(|place| {
        let (client, path) = (client.clone(), path::join(path, &place.name));
        async move {
            match client.get_data(path).await {
                Ok(node) => Ok(Some(Standing {
                    name: place.name,
                    number: place.number,
                    mode: place.mode,
                    system: place.system,
                    holds: false,
                    session: node.stat.ephemeral_owner,
                    created_ms: node.stat.ctime,
                    czxid: node.stat.czxid,
                    data: node.bytes(),
                })),
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(None),
                Err(error) => Err(Error::from(error)),
            }
        }
    });
    let answers: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
    answers.into_iter().filter_map(Result::transpose).collect()
}

// ---- PURE from here on ----

/// The children of a path by what they are there for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    lines: BTreeMap<Purpose, Vec<Seat>>,
    others: Vec<String>,
}

impl Sorted {
    fn of(names: &[String]) -> Sorted {
        let rules = |purpose: Purpose| match purpose {
            Purpose::Lock => Some(LineRules::lock(Layout::Curator)),
            Purpose::ReadWriteLock => Some(LineRules::read_write(Layout::Curator, Mode::Exclusive)),
            Purpose::KazooReadWriteLock => Some(LineRules::read_write(Layout::Kazoo, Mode::Exclusive)),
            Purpose::Latch => Some(LineRules::latch()),
            Purpose::Leases => Some(LineRules::lease()),
            _ => None,
        };
        let mut by_purpose: BTreeMap<Purpose, Vec<&String>> = BTreeMap::new();
        let mut others = Vec::new();
        // kazoo's writers are told from its plain locks by the readers beside them.
        let kazoo_reads = names.iter().any(|name| name.contains("__rlock__"));
        for name in names {
            match purpose_of(name, kazoo_reads) {
                Some(purpose) => by_purpose.entry(purpose).or_default().push(name),
                None => others.push(name.clone()),
            }
        }
        let in_line = |purpose: Purpose, names: Vec<&String>| match rules(purpose) {
            Some(rules) => Line::read(&rules, names).seats().to_vec(),
            None => by_number(names),
        };
        let lines =
            by_purpose.into_iter().map(|(purpose, names)| (purpose, in_line(purpose, names))).collect();
        Sorted { lines, others }
    }
}

fn purpose_of(name: &str, kazoo_reads: bool) -> Option<Purpose> {
    let is = |rules: LineRules| rules.parse(name).is_some();
    if is(LineRules::read_write(Layout::Curator, Mode::Exclusive)) {
        Some(Purpose::ReadWriteLock)
    } else if kazoo_reads && is(LineRules::read_write(Layout::Kazoo, Mode::Exclusive)) {
        Some(Purpose::KazooReadWriteLock)
    } else if is(LineRules::lock(Layout::Curator)) {
        Some(Purpose::Lock)
    } else if is(LineRules::latch()) {
        Some(Purpose::Latch)
    } else if is(LineRules::lease()) {
        Some(Purpose::Leases)
    } else if name.strip_prefix("n_").is_some_and(|number| number_of(number).is_some()) {
        Some(Purpose::ZooKeeperElection)
    } else {
        zookeeper_number(name).map(|_| Purpose::ZooKeeperLock)
    }
}

/// The number in `x-<session id, decimal>-<number>`.
fn zookeeper_number(name: &str) -> Option<i32> {
    let (session, number) = name.strip_prefix("x-")?.rsplit_once('-')?;
    session.parse::<i64>().ok().and_then(|_| number_of(number))
}

/// Apache's own recipes, which have no line of ours: by their number.
fn by_number(names: Vec<&String>) -> Vec<Seat> {
    let mut seats: Vec<Seat> = names
        .into_iter()
        .filter_map(|name| {
            let number = zookeeper_number(name).or_else(|| number_of(name.strip_prefix("n_")?))?;
            Some(Seat { name: name.clone(), number, mode: Mode::Exclusive, system: System::Untagged })
        })
        .collect();
    seats.sort_by_key(|seat| seat.number);
    seats
}

/// Whether it has a name that Curator's programs do not count. kazoo's with another middle they do count.
fn is_kazoo(standing: &Standing) -> bool {
    standing.name.contains("__lock__")
}

/// Marks who holds, and finds what is wrong.
fn judge(stat: Option<&Stat>, mut groups: Vec<Group>, foreign: Vec<String>) -> (Vec<Group>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut find = |severity: Severity, text: String| findings.push(Finding { severity, text });
    match stat {
        None => find(
            Severity::Note,
            "there is no such node: nobody stands here. A container goes after its last child, and whoever comes next makes \
             it again"
                .to_owned(),
        ),
        Some(stat) => numbers_left(stat).into_iter().for_each(|(severity, text)| find(severity, text)),
    }
    for group in &mut groups {
        mark_holders(group);
        in_group(group, &mut find);
    }
    let lines: Vec<String> = groups
        .iter()
        .filter(|group| group.purpose != Purpose::Members)
        .map(|group| group.purpose.to_string())
        .collect();
    if lines.len() > 1 {
        find(
            Severity::Error,
            format!(
                "{} stand under one path and do not wait for each other: give each its own",
                lines.join(" and ")
            ),
        );
    }
    if !foreign.is_empty() {
        let text =
            format!("{} in no line and of no session: {}", count(foreign.len(), "child"), some_of(&foreign));
        find(Severity::Note, text);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    (groups, findings)
}

fn mark_holders(group: &mut Group) {
    let standing = &mut group.standing;
    match group.purpose {
        Purpose::Members => {}
        Purpose::Leases => standing.iter_mut().for_each(|one| one.holds = true),
        Purpose::Lock => {
            // Each of two that do not look for the other's names believes in the first of its own.
            for kazoo in [false, true] {
                if let Some(first) = standing.iter_mut().find(|one| is_kazoo(one) == kazoo) {
                    first.holds = true;
                }
            }
        }
        _ => {
            let mut only_readers = true;
            for (at, one) in standing.iter_mut().enumerate() {
                one.holds = at == 0 || only_readers && one.mode == Mode::Shared;
                only_readers &= one.mode == Mode::Shared;
            }
        }
    }
}

fn in_group(group: &Group, find: &mut impl FnMut(Severity, String)) {
    let standing = &group.standing;
    let names = |these: &mut dyn Iterator<Item = &Standing>| -> Vec<String> {
        these.map(|one| one.name.clone()).collect()
    };
    let orphans = names(&mut standing.iter().filter(|one| one.session == SessionId::NONE));
    if !orphans.is_empty() {
        let text = format!(
            "{} in line without a session, which never goes by itself: {}; delete it when nobody uses it",
            count(orphans.len(), "node"),
            some_of(&orphans)
        );
        find(Severity::Error, text);
    }
    if group.purpose == Purpose::Lock && standing.iter().any(is_kazoo) && !standing.iter().all(is_kazoo) {
        let text = "names of kazoo and of Curator stand in one line. Programs of Curator do not wait for kazoo's, and those of \
                    kazoo wait for Curator's only with extra_lock_patterns=[\"-lock-\"]; Docent's wait for all. Two may hold \
                    at once"
            .to_owned();
        find(Severity::Error, text);
    }
    let mut tags: BTreeMap<&str, usize> = BTreeMap::new();
    for tag in standing.iter().filter_map(|one| tag_of(&one.name)) {
        *tags.entry(tag).or_default() += 1;
    }
    for (tag, times) in tags.into_iter().filter(|(_, times)| *times > 1) {
        let text =
            format!("{tag} stands in line {times} times: a create was sent again after its reply was lost");
        find(Severity::Warning, text);
    }
    if !matches!(group.purpose, Purpose::Members | Purpose::Leases) {
        let mut sessions: BTreeMap<SessionId, usize> = BTreeMap::new();
        standing.iter().for_each(|one| *sessions.entry(one.session).or_default() += 1);
        sessions.remove(&SessionId::NONE);
        for (session, times) in sessions.into_iter().filter(|(_, times)| *times > 1) {
            find(
                Severity::Note,
                format!("session {session} stands in line {times} times: each place waits for the other"),
            );
        }
    }
}

/// The tag by which a creator finds its node again.
fn tag_of(name: &str) -> Option<&str> {
    if let Some(rest) = name.strip_prefix("_c_") {
        // Behind the marker a UUID, with dashes or without.
        let length = if rest.as_bytes().get(8) == Some(&b'-') { 36 } else { 32 };
        return name.get(..3 + length);
    }
    name.split_once("__").map(|(tag, _)| tag).filter(|tag| tag.len() == 32)
}

/// What is left of the numbers that the server gives to sequential children.
fn numbers_left(stat: &Stat) -> Option<(Severity, String)> {
    // What is shown counts creates and deletes, on a circle; numbers count creates alone.
    let used = stat.cversion.wrapping_add(stat.num_children).cast_unsigned() / 2;
    let left = i64::from(i32::MAX) - i64::from(used);
    if left <= 0 {
        let text =
            "the numbers of this path are used up: every further place in line is refused; take another path"
                .to_owned();
        return Some((Severity::Error, text));
    }
    (left < NUMBERS_LEFT_MIN).then(|| {
        (
            Severity::Warning,
            format!("{left} numbers are left at this path, out of 2147483647: take another path in time"),
        )
    })
}

fn count(number: usize, what: &str) -> String {
    let what = match (number, what) {
        (1, what) => what.to_owned(),
        (_, "child") => "children".to_owned(),
        (_, what) => format!("{what}s"),
    };
    format!("{number} {what}")
}

fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED_MAX { shown + ", …" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURATOR: &str = "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-lock-0000000003";
    const KAZOO: &str = "2f1f9f6a8b554f0e9f430a4c2b6a9d10__lock__0000000004";

    fn standing(purpose: Purpose, names: &[(&str, i64)]) -> Group {
        let texts: Vec<String> = names.iter().map(|(name, _)| (*name).to_owned()).collect();
        let seats = Sorted::of(&texts).lines.remove(&purpose).unwrap_or_default();
        let session =
            |name: &str| names.iter().find(|(other, _)| *other == name).map_or(0, |(_, session)| *session);
        let standing = seats.into_iter().map(|seat| Standing {
            session: SessionId(session(&seat.name)),
            name: seat.name,
            number: Some(seat.number),
            mode: seat.mode,
            system: seat.system,
            holds: false,
            data: Bytes::new(),
            created_ms: 0,
            czxid: Zxid(1),
        });
        Group { purpose, standing: standing.collect(), more: 0 }
    }

    fn judged(groups: Vec<Group>) -> (Vec<String>, Vec<(Severity, String)>) {
        let (groups, findings) = judge(Some(&Stat::default()), groups, Vec::new());
        let holders = groups.into_iter().flat_map(|group| group.standing).filter(|one| one.holds);
        (holders.map(|one| one.name).collect(), findings.into_iter().map(|f| (f.severity, f.text)).collect())
    }

    #[test]
    fn a_sound_line_has_one_holder_and_nothing_to_find() {
        let second = "_c_3f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-lock-0000000009";
        assert_eq!(
            judged(vec![standing(Purpose::Lock, &[(second, 2), (CURATOR, 1)])]),
            (vec![CURATOR.to_owned()], vec![])
        );
    }

    #[test]
    fn names_that_do_not_exclude_each_other_may_hold_together() {
        let (holders, findings) = judged(vec![standing(Purpose::Lock, &[(KAZOO, 2), (CURATOR, 1)])]);
        assert_eq!(holders, [CURATOR, KAZOO]);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].0, Severity::Error);
        assert!(findings[0].1.contains("extra_lock_patterns"), "{findings:?}");
        let latch = "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-latch-0000000003";
        let groups = vec![standing(Purpose::Lock, &[(CURATOR, 1)]), standing(Purpose::Latch, &[(latch, 3)])];
        let (holders, findings) = judged(groups);
        assert_eq!(holders, [CURATOR, latch]);
        assert!(
            findings[0].1.contains("lock or election and leader latch stand under one path"),
            "{findings:?}"
        );
    }

    #[test]
    fn orphans_and_doubles_are_found() {
        let twin = "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-lock-0000000007";
        let (_, findings) = judged(vec![standing(Purpose::Lock, &[(CURATOR, 0), (twin, 5)])]);
        assert_eq!(
            findings.iter().map(|(severity, _)| *severity).collect::<Vec<_>>(),
            [Severity::Error, Severity::Warning]
        );
        assert!(findings[0].1.contains("1 node in line without a session"), "{findings:?}");
        assert!(findings[1].1.contains("2 times"), "{findings:?}");
        let (_, findings) = judged(vec![standing(
            Purpose::Lock,
            &[(CURATOR, 5), (KAZOO.replace("__lock__", "-lock-").as_str(), 5)],
        )]);
        assert_eq!(findings[0].0, Severity::Note);
    }

    #[test]
    fn readers_hold_together_and_writers_alone() {
        let name = |kind: &str, number: u32| {
            format!("_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d1{number}-{kind}{number:010}")
        };
        let (a, b, c, d) =
            (name("__READ__", 1), name("__READ__", 2), name("__WRIT__", 3), name("__READ__", 4));
        let names = [(a.as_str(), 1), (b.as_str(), 2), (c.as_str(), 3), (d.as_str(), 4)];
        assert_eq!(
            judged(vec![standing(Purpose::ReadWriteLock, &names)]),
            (vec![a.clone(), b.clone()], vec![])
        );
    }

    #[test]
    fn every_layout_is_known() {
        let purpose = |name: &str| purpose_of(name, false);
        assert_eq!(purpose(CURATOR), Some(Purpose::Lock));
        assert_eq!(purpose(KAZOO), Some(Purpose::Lock));
        assert_eq!(purpose_of(KAZOO, true), Some(Purpose::KazooReadWriteLock));
        assert_eq!(purpose("x-72057594037927936-0000000001"), Some(Purpose::ZooKeeperLock));
        assert_eq!(purpose("n_0000000001"), Some(Purpose::ZooKeeperElection));
        for name in ["x-y-0000000001", "n_1", "member", "leases"] {
            assert_eq!(purpose(name), None, "{name}");
        }
        assert_eq!(semaphore_parts(["locks", "leases"].into_iter()), ["locks", "leases"]);
    }

    #[test]
    fn the_end_of_the_numbers_is_seen_coming() {
        let stat = |cversion, num_children| Stat { cversion, num_children, ..Stat::default() };
        assert_eq!(numbers_left(&stat(100, 4)), None);
        // So many creates, and as many deletes but one.
        let after = |creates: i64| stat(i32::try_from(2 * creates - 1).unwrap_or(-1), 1);
        assert_eq!(numbers_left(&after(1_000_000_000)), None);
        assert_eq!(numbers_left(&stat(i32::MAX, i32::MAX - 20)).unwrap().0, Severity::Warning);
        assert_eq!(numbers_left(&stat(-2, 0)).unwrap().0, Severity::Error);
        // The root of a fresh tree: its one child was never created.
        assert_eq!(numbers_left(&stat(-1, 1)), None);
    }
}
