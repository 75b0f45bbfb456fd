//! A server, one client with a cache, and everything that may lie between them, in any order.

use super::*;
use docent::{Stat, Zxid};
use proptest::prelude::*;
use std::collections::BTreeSet;

const ROOT: &str = "/r";
/// How many reads are on their way at once.
const AT_ONCE: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Create(usize),
    Set(usize),
    /// With everything below.
    Delete(usize),
    /// Deletes a subtree and makes its top anew.
    Replace(usize),
    Send,
    Serve,
    TakeEvent,
    TakeAnswer,
    Cut,
    Reconnect,
}

/// Every step as often as there are numbers for it.
fn step((kind, at): (u8, usize)) -> Step {
    match kind {
        0..6 => Step::Create(at),
        6..9 => Step::Set(at),
        9..11 => Step::Delete(at),
        11 => Step::Replace(at),
        12..16 => Step::Send,
        16..22 => Step::Serve,
        22..28 => Step::TakeEvent,
        28..34 => Step::TakeAnswer,
        34 => Step::Cut,
        _ => Step::Reconnect,
    }
}

const STEPS: u8 = 37;
const PATHS: usize = 15;

/// The root, its two children, their four, their eight.
fn path_of(mut number: usize) -> String {
    let mut names = Vec::new();
    while number > 0 {
        names.push(if number % 2 == 1 { "a" } else { "b" });
        number = (number - 1) / 2;
    }
    names.push("r");
    names.iter().rev().fold(String::new(), |path, name| format!("{path}/{name}"))
}

enum Answer {
    Node(Option<CachedNode>),
    Children(Option<Vec<String>>),
}

/// A server with one client that has the cache, and what lies between them.
struct World {
    nodes: BTreeMap<String, (i64, i64)>,
    zxid: i64,
    /// With one-shot watches: those that are set. Without, everything is watched.
    oneshots: Option<BTreeSet<(String, What)>>,
    connected: bool,
    events: VecDeque<(String, What)>,
    calls: VecDeque<Read>,
    answers: VecDeque<(Read, Answer)>,
    scope: Scope,
    reads: Reads,
    view: CacheSnapshot,
    replayed: BTreeMap<Arc<str>, Arc<CachedNode>>,
    newest: BTreeMap<Arc<str>, (Zxid, Zxid)>,
    /// Paths that something happened to since the refill began.
    moved: BTreeSet<String>,
    completed: usize,
}

impl World {
    /// A world with the first so many nodes.
    fn new(nodes: usize, depth: Depth, filtered: bool, oneshots: bool) -> World {
        let filter: Filter = Arc::new(|path: &str| !path.ends_with("/a/b"));
        let scope = Scope {
            root: ROOT.into(),
            depth,
            filter: filtered.then_some(filter),
            nodes_max: 100,
            bytes_max: 10_000,
        };
        let mut reads = Reads::new(scope.clone());
        reads.list_leaves(oneshots);
        reads.refill();
        let born = (0..nodes).map(|at| (path_of(at), (at as i64 + 1, at as i64 + 1)));
        World {
            nodes: born.collect(),
            zxid: nodes as i64,
            oneshots: oneshots.then(BTreeSet::new),
            connected: true,
            events: VecDeque::new(),
            calls: VecDeque::new(),
            answers: VecDeque::new(),
            scope,
            reads,
            view: CacheSnapshot::default(),
            replayed: BTreeMap::new(),
            newest: BTreeMap::new(),
            moved: BTreeSet::new(),
            completed: 0,
        }
    }

    fn refill(&mut self) {
        self.reads.refill();
        self.moved.clear();
    }

    fn happens(&mut self, path: &str, listed: bool) {
        self.moved.insert(path.to_owned());
        let mut fired = vec![(path.to_owned(), What::Node)];
        if listed {
            fired.push((path.to_owned(), What::Children));
            fired.extend(path::parent(path).map(|parent| (parent.to_owned(), What::Children)));
        }
        match &mut self.oneshots {
            // Those that fire while the client is away are made up for when it comes back.
            Some(set) => self.events.extend(fired.into_iter().filter(|watch| set.remove(watch))),
            None if self.connected => self.events.extend(fired.into_iter().take(1)),
            None => {}
        }
    }

    fn create(&mut self, path: String) {
        let parent = path::parent(&path).expect("every path here has a parent");
        if self.nodes.contains_key(&path) || (path != ROOT && !self.nodes.contains_key(parent)) {
            return;
        }
        self.zxid += 1;
        self.nodes.insert(path.clone(), (self.zxid, self.zxid));
        self.happens(&path, true);
    }

    fn delete(&mut self, path: &str) {
        let prefix = format!("{path}/");
        let gone: Vec<String> =
            self.nodes.keys().filter(|at| *at == path || at.starts_with(&prefix)).cloned().collect();
        for path in gone.iter().rev() {
            self.zxid += 1;
            self.nodes.remove(path);
            self.happens(path, true);
        }
    }

    fn children(&self, path: &str) -> Vec<String> {
        let child = |at: &&String| path::parent(at) == Some(path);
        self.nodes.keys().filter(child).map(|at| path::name(at).to_owned()).collect()
    }

    fn node(&self, path: &str) -> Option<CachedNode> {
        let (czxid, mzxid) = *self.nodes.get(path)?;
        let num_children = i32::try_from(self.children(path).len()).expect("few");
        let stat = Stat { czxid: Zxid(czxid), mzxid: Zxid(mzxid), num_children, ..Stat::default() };
        Some(CachedNode::new(path.into(), Some(mzxid.to_string().into()), stat))
    }

    fn serve(&mut self) {
        if !self.connected {
            return;
        }
        let Some(read) = self.calls.pop_front() else { return };
        let exists = self.nodes.contains_key(&*read.path);
        if let Some(set) = &mut self.oneshots
            && (exists || (read.what == What::Node && &*read.path == ROOT))
        {
            set.insert((read.path.to_string(), read.what));
        }
        let answer = match read.what {
            What::Node => Answer::Node(self.node(&read.path)),
            What::Children => Answer::Children(exists.then(|| self.children(&read.path))),
        };
        self.answers.push_back((read, answer));
    }

    fn take_answer(&mut self) {
        let Some((read, answer)) = self.answers.pop_front() else { return };
        let mut changes = Vec::new();
        let taken = match answer {
            Answer::Node(node) => self.reads.on_node(&mut self.view, &read, node, &mut changes),
            Answer::Children(mut names) => {
                if let Some(names) = &mut names {
                    self.reads.keep_names(&read.path, names);
                }
                self.reads.on_children(&mut self.view, &read, names.as_deref(), &mut changes)
            }
        };
        assert_eq!(taken, Ok(()), "the server never goes back and the tree is small");
        changes.into_iter().for_each(|change| self.replay(change));
        if self.reads.take_complete() {
            self.completed += 1;
            for path in (0..PATHS).map(path_of).filter(|path| !self.moved.contains(path)) {
                let there = self.node(&path).filter(|_| self.scope.keeps(&path));
                let told = (there.map(|node| node.stat.mzxid), self.view.get(&path).map(|n| n.stat.mzxid));
                assert_eq!(told.0, told.1, "{path} did not change and is not as complete as was told");
            }
        }
    }

    /// What a reader of the events makes of them, and what they promise it.
    fn replay(&mut self, change: Change) {
        let is_below = |path: &str, at: &str| path::parent(at) == Some(path);
        match change {
            Change::Created(node) => {
                let at = (node.stat.czxid, node.stat.mzxid);
                let before = self.newest.insert(Arc::clone(&node.path), at);
                assert!(before.is_none_or(|before| before <= at), "{} went back", node.path);
                let parent = path::parent(&node.path).expect("every path here has a parent");
                assert!(&*node.path == ROOT || self.replayed.contains_key(parent), "{}", node.path);
                let old = self.replayed.insert(Arc::clone(&node.path), node);
                assert_eq!(old, None);
            }
            Change::Changed { old, new } => {
                assert!(old.stat.czxid == new.stat.czxid && old.stat.mzxid < new.stat.mzxid);
                self.newest.insert(Arc::clone(&new.path), (new.stat.czxid, new.stat.mzxid));
                let known = self.replayed.insert(Arc::clone(&new.path), new).expect("known");
                assert_eq!(known.stat.mzxid, old.stat.mzxid);
            }
            Change::Deleted(node) => {
                let known = self.replayed.remove(&node.path).expect("known");
                assert_eq!(known.stat.mzxid, node.stat.mzxid);
                assert!(!self.replayed.keys().any(|at| is_below(&node.path, at)), "{}", node.path);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(at) => self.create(path_of(at)),
            Step::Set(at) => {
                let path = path_of(at);
                if self.nodes.contains_key(&path) {
                    self.zxid += 1;
                    let zxid = self.zxid;
                    self.nodes.entry(path.clone()).and_modify(|node| node.1 = zxid);
                    self.happens(&path, false);
                }
            }
            Step::Delete(at) => self.delete(&path_of(at)),
            Step::Replace(at) => {
                let path = path_of(at);
                if self.nodes.contains_key(&path) {
                    self.delete(&path);
                    self.create(path);
                }
            }
            Step::Send if self.calls.len() + self.answers.len() < AT_ONCE => {
                self.calls.extend(self.reads.next());
            }
            Step::Send => {}
            Step::Serve => self.serve(),
            Step::TakeEvent => {
                if let Some((path, what)) = self.events.pop_front() {
                    self.reads.touched(&path, what);
                }
            }
            Step::TakeAnswer => self.take_answer(),
            Step::Cut => {
                self.connected = false;
                if self.oneshots.is_none() {
                    self.events.clear();
                }
            }
            Step::Reconnect if !self.connected => {
                self.connected = true;
                self.refill();
            }
            Step::Reconnect => {}
        }
    }

    fn settle(&mut self) {
        self.step(Step::Reconnect);
        // Bounded: every event leads to a read of a small tree.
        for _ in 0..2_000 {
            for step in [Step::TakeEvent, Step::Send, Step::Serve, Step::TakeAnswer] {
                self.step(step);
            }
            let under_way = self.events.len() + self.calls.len() + self.answers.len();
            if under_way == 0 && self.reads.queue.is_empty() {
                return;
            }
        }
        panic!("it does not come to an end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever happens in whatever order: the view becomes the server's tree, the events make the same of what
    /// was before, and what is told to be complete is.
    #[test]
    fn every_cache_becomes_the_tree(
        nodes in 0..=PATHS,
        depth in prop_oneof![1 => Just(Depth::Node), 2 => Just(Depth::Children), 5 => Just(Depth::Tree)],
        filtered: bool,
        oneshots: bool,
        steps in proptest::collection::vec((0..STEPS, 0..PATHS), 0..300),
    ) {
        let mut world = World::new(nodes, depth, filtered, oneshots);
        for numbers in steps {
            world.step(step(numbers));
        }
        world.settle();
        let wanted: Vec<(String, i64)> = world
            .nodes
            .iter()
            .filter(|(path, _)| world.scope.keeps(path))
            .map(|(path, (_, mzxid))| (path.clone(), *mzxid))
            .collect();
        let told = |node: &Arc<CachedNode>| (node.path.to_string(), node.stat.mzxid.0);
        prop_assert_eq!(&world.view.iter().map(told).collect::<Vec<_>>(), &wanted);
        prop_assert_eq!(&world.replayed.values().map(told).collect::<Vec<_>>(), &wanted);
        prop_assert!(world.completed > 0, "the refill was never complete");
    }
}

#[test]
fn the_scope_is_the_root_and_what_the_depth_and_the_filter_leave() {
    let keeps = |depth, path: &str| World::new(0, depth, true, false).scope.keeps(path);
    for (path, kept) in [
        ("/r", [true, true, true]),
        ("/r/a", [false, true, true]),
        ("/r/a/a", [false, false, true]),
        ("/r/a/b", [false, false, false]),
        ("/r/a/b/a", [false, false, false]),
        ("/ra", [false, false, false]),
        ("/", [false, false, false]),
    ] {
        assert_eq!(
            [Depth::Node, Depth::Children, Depth::Tree].map(|depth| keeps(depth, path)),
            kept,
            "{path}"
        );
    }
}

#[test]
fn a_tree_that_is_too_large_is_refused_before_it_is_read() {
    let mut world = World::new(0, Depth::Tree, false, false);
    world.reads.scope.nodes_max = 2;
    for at in 0..3 {
        world.create(path_of(at));
    }
    let mut changes = Vec::new();
    let read = world.reads.next().expect("the root");
    let root = world.node(ROOT);
    assert_eq!(world.reads.on_node(&mut world.view, &read, root, &mut changes), Ok(()));
    let list = world.reads.next().expect("its children");
    let names = ["a".to_owned(), "b".to_owned()];
    let taken = world.reads.on_children(&mut world.view, &list, Some(&names), &mut changes);
    assert_eq!(taken, Err(Refused::TooLarge));
}

#[test]
fn a_flood_of_strays_becomes_one_look_at_everything() {
    let mut world = World::new(0, Depth::Tree, false, false);
    for stray in 0..100_000 {
        world.reads.touched(&format!("{ROOT}/{stray}"), What::Node);
    }
    assert!(world.reads.queue.len() <= 100 + STRAYS_MAX, "{}", world.reads.queue.len());
}
