//! For each difference that is meant, a program that shows it and nothing else: that it is still there, exactly as it is
//! written down.

use bytes::{BufMut as _, Bytes, BytesMut};
use docent::proto::ops::AuthRequest;
use docent::proto::{
    AddWatchMode, CreateFlags, CreateKind, CreateRequest, MultiOp, OpCode, Request, WatcherKind,
};
use docent::{Acl, Permissions, Version};
use docent_server::node::access::digest_id;

use super::generate::generate;
use super::known::END_OF_MULTI;
use super::pools::PEOPLE;
use super::program::{Ask, Hello, Program, Step, What, World};
use super::worn::BEFORE_NOTHING;
use super::{Peer, STEPS};

/// The node that examples are about.
const NODE: &str = "/e";
const NULL: &[u8] = &[255; 4];
/// How many programs are made until one shows a difference that is a matter of chance, at most: about one of fifty does.
const CHANCES: u64 = 1_000;

/// What shows a difference.
#[derive(Debug)]
pub struct Example {
    /// Which.
    pub name: &'static str,
    /// This program; without one it shows by chance in programs that are made from seeds.
    program: Option<Program>,
}

impl Example {
    /// Whether no program shows it for certain. Then none shows that it is not there either.
    pub fn is_by_chance(&self) -> bool {
        self.program.is_none()
    }

    /// The programs one of which must show it.
    pub fn programs(&self, peer: Peer) -> Box<dyn Iterator<Item = Program>> {
        match self.program.clone() {
            Some(program) => Box::new(std::iter::once(program)),
            None => Box::new((1..=CHANCES).map(move |seed| generate(peer, seed, STEPS))),
        }
    }
}

/// All examples; some differences have several.
pub fn examples() -> Vec<Example> {
    let mut examples = about_writes();
    examples.extend(about_watches());
    examples.extend(about_null());
    examples.extend(about_answers());
    let name =
        "a connection that is over: its session was taken over or has ended, or its credentials were refused";
    examples.push(Example { name, program: None });
    examples
}

fn example(name: &'static str, acts: Vec<(usize, What)>) -> Example {
    let mut steps: Vec<Step> = Vec::new();
    for (xid, (slot, what)) in (1..).zip(acts) {
        if steps.iter().all(|step| step.slot() != slot) {
            steps.push(Step::Open { slot, hello: Hello::plain() });
        }
        steps.push(Step::Ask { slot, asks: vec![Ask { xid, what }] });
    }
    Example { name, program: Some(Program { seed: 0, world: World::Fresh, steps }) }
}

fn in_worn_world(example: Example) -> Example {
    let program = example.program.map(|program| Program { world: World::Worn, ..program });
    Example { program, ..example }
}

fn request(request: Request) -> What {
    What::Request(request)
}

fn raw(op: OpCode, parts: &[&[u8]]) -> What {
    What::Raw { op: op.code(), body: parts.concat().into() }
}

fn creation(kind: CreateKind, flags: CreateFlags, acl: Option<Vec<Acl>>) -> CreateRequest {
    CreateRequest { kind, path: NODE.to_owned(), data: None, acl, flags, ttl_ms: 0 }
}

fn create(acl: Vec<Acl>) -> What {
    request(Request::Create(creation(CreateKind::Create, CreateFlags::PERSISTENT, Some(acl))))
}

fn exists(watch: bool) -> What {
    request(Request::Exists { path: NODE.to_owned(), watch })
}

fn about_writes() -> Vec<Example> {
    let multi = |create: CreateRequest| request(Request::Multi(vec![MultiOp::Create(create)]));
    let (create1, create2) = (CreateKind::Create, CreateKind::Create2);
    let open = || Some(Acl::open());
    let path = || BEFORE_NOTHING.to_owned();
    let set = || request(Request::SetData { path: path(), data: None, version: Version::ANY });
    let set_acl = || request(Request::SetAcl { path: path(), acl: Some(Acl::open()), version: Version::ANY });
    let in_line = CreateRequest {
        path: format!("{BEFORE_NOTHING}/s-"),
        ..creation(create1, CreateFlags::PERSISTENT_SEQUENTIAL, open())
    };
    let crossing = vec![MultiOp::Create(in_line); 3];
    let skips = "a version number that would become -1 after 2³² changes";
    vec![
        example(
            "`create2` within a multi",
            vec![(0, multi(creation(create2, CreateFlags::PERSISTENT, open())))],
        ),
        example(
            "a create within a multi whose mode nobody knows",
            vec![(0, multi(creation(create1, CreateFlags(7), open())))],
        ),
        example("a write whose record cannot be decoded", vec![(0, raw(OpCode::Delete, &[]))]),
        in_worn_world(example(
            "sequence numbers after 2147483647 within one multi",
            vec![(0, request(Request::Multi(crossing)))],
        )),
        in_worn_world(example(skips, vec![(0, set()), (0, set())])),
        in_worn_world(example(skips, vec![(0, set_acl()), (0, set_acl())])),
    ]
}

fn about_watches() -> Vec<Example> {
    let checks =
        |path: &str| request(Request::CheckWatches { path: path.to_owned(), kind: WatcherKind::Data });
    let persistent = request(Request::AddWatch { path: NODE.to_owned(), mode: AddWatchMode::Persistent });
    let recursive =
        request(Request::AddWatch { path: NODE.to_owned(), mode: AddWatchMode::PersistentRecursive });
    let of_others = "`checkWatches`";
    let null = "null for the path of `addWatch` or `removeWatches`";
    let kind = &[0, 0, 0, 1][..];
    vec![
        example("the zxid in the header of a watch event", vec![(0, exists(true)), (0, create(Acl::open()))]),
        example("the zxid in the header of a watch event", vec![(0, persistent), (0, create(Acl::open()))]),
        example(of_others, vec![(0, exists(true)), (1, checks(NODE))]),
        example(of_others, vec![(0, checks("e"))]),
        example(of_others, vec![(0, recursive), (1, checks("e/f"))]),
        example(null, vec![(0, raw(OpCode::AddWatch, &[NULL, kind]))]),
        example("null for the path of `checkWatches`", vec![(0, raw(OpCode::CheckWatches, &[NULL, kind]))]),
        example(null, vec![(0, raw(OpCode::RemoveWatches, &[NULL, kind]))]),
    ]
}

fn about_null() -> Vec<Example> {
    let multi = creation(CreateKind::Create, CreateFlags::PERSISTENT, None);
    let mut examples = vec![
        example("null for the path of `sync`", vec![(0, raw(OpCode::Sync, &[NULL]))]),
        example(
            "null for the ACL of a create within a multi",
            vec![(0, request(Request::Multi(vec![MultiOp::Create(multi)])))],
        ),
    ];
    for scheme in ["world", "digest", "ip"] {
        let mut entry = BytesMut::new();
        docent::proto::jute::put_string(&mut entry, NODE);
        entry.put_slice(&[0, 0, 0, 1, 0, 0, 0, 31]);
        docent::proto::jute::put_string(&mut entry, scheme);
        let set_acl = raw(OpCode::SetAcl, &[&entry, NULL, NULL]);
        let name = "an ACL entry `world`, `digest` or `ip` without an id";
        examples.push(example(name, vec![(0, create(Acl::open())), (0, set_acl)]));
    }
    examples
}

fn about_answers() -> Vec<Example> {
    let credentials = Some(Bytes::from_static(PEOPLE[0].as_bytes()));
    let bob = request(Request::Auth(AuthRequest { kind: 0, scheme: "digest".to_owned(), auth: credentials }));
    let only_bob = vec![Acl::new(Permissions::ALL, "digest", digest_id(PEOPLE[0].as_bytes()))];
    // A write, which has no place among reads, and the end of the list.
    let delete = [0, 0, 0, 2, 0, 255, 255, 255, 255, 0, 0, 0, 1, b'/', 255, 255, 255, 255];
    let number = request(Request::GetAllChildrenNumber { path: String::new() });
    let sync = request(Request::Sync { path: "/😀".to_owned() });
    let watch = request(Request::Exists { path: "/😀".to_owned(), watch: true });
    vec![
        example(
            "`exists` without READ permission",
            vec![(0, bob), (0, create(only_bob)), (1, exists(false))],
        ),
        example(
            "what follows the header of a refused `multiRead`",
            vec![(0, raw(OpCode::MultiRead, &[&delete, &END_OF_MULTI]))],
        ),
        example(
            "a multi in which a path is null",
            vec![(0, raw(OpCode::Multi, &[&delete[..9], NULL, NULL, &END_OF_MULTI]))],
        ),
        example("`getAllChildrenNumber` of an empty path", vec![(0, number)]),
        example("characters above U+FFFF in a path that is sent back", vec![(0, watch), (0, sync)]),
    ]
}
