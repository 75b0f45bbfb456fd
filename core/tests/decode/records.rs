//! Every record with any values, and how much memory a decoded one has reserved.

use bytes::Bytes;
use docent::proto::ops::{AuthRequest, ReadOp};
use docent::proto::{
    AddWatchMode, ConnectRequest, ConnectResponse, CreateFlags, CreateKind, CreateRequest, KeeperState,
    MultiOp, MultiResult, OpCode, ReconfigRequest, Request, Response, SetWatches, WatcherEvent, WatcherKind,
};
use docent::{Acl, ClientInfo, ErrorCode, Permissions, SessionId, Stat, Version, Zxid};
use proptest::option;
use proptest::prelude::*;

/// Every operation that there is.
pub(crate) const OPS: [OpCode; 32] = [
    OpCode::Create,
    OpCode::Delete,
    OpCode::Exists,
    OpCode::GetData,
    OpCode::SetData,
    OpCode::GetAcl,
    OpCode::SetAcl,
    OpCode::GetChildren,
    OpCode::Sync,
    OpCode::Ping,
    OpCode::GetChildren2,
    OpCode::Check,
    OpCode::Multi,
    OpCode::Create2,
    OpCode::Reconfig,
    OpCode::CheckWatches,
    OpCode::RemoveWatches,
    OpCode::CreateContainer,
    OpCode::DeleteContainer,
    OpCode::CreateTtl,
    OpCode::MultiRead,
    OpCode::Auth,
    OpCode::SetWatches,
    OpCode::Sasl,
    OpCode::GetEphemerals,
    OpCode::GetAllChildrenNumber,
    OpCode::SetWatches2,
    OpCode::AddWatch,
    OpCode::WhoAmI,
    OpCode::CreateSession,
    OpCode::CloseSession,
    OpCode::Error,
];

fn text() -> impl Strategy<Value = String> {
    "[a-z/\u{e9}\u{4e2d}]{0,12}"
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..5)
}

fn buffer() -> impl Strategy<Value = Option<Bytes>> {
    option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
}

fn version() -> impl Strategy<Value = Version> {
    any::<i32>().prop_map(Version)
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let entry = (any::<i32>(), text(), text())
        .prop_map(|(permissions, scheme, id)| Acl::new(Permissions(permissions), scheme, id));
    prop::collection::vec(entry, 0..4)
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(longs, ints)| Stat {
        czxid: Zxid(longs[0]),
        mzxid: Zxid(longs[1]),
        ctime: longs[2],
        mtime: longs[3],
        version: ints[0],
        cversion: ints[1],
        aversion: ints[2],
        ephemeral_owner: SessionId(longs[4]),
        data_length: ints[3],
        num_children: ints[4],
        pzxid: Zxid(longs[5]),
    })
}

/// The mode is any number: a lone create is decoded whole, and the server answers for its mode.
fn create() -> impl Strategy<Value = CreateRequest> {
    create_of(any::<i32>())
}

fn create_of(flags: impl Strategy<Value = i32>) -> impl Strategy<Value = CreateRequest> {
    let kind = prop_oneof![
        Just(CreateKind::Create),
        Just(CreateKind::Create2),
        Just(CreateKind::Container),
        Just(CreateKind::Ttl)
    ];
    (kind, text(), buffer(), option::of(acl()), flags, any::<i64>()).prop_map(
        |(kind, path, data, acl, flags, ttl)| CreateRequest {
            kind,
            path,
            data,
            acl,
            flags: CreateFlags(flags),
            ttl_ms: if kind == CreateKind::Ttl { ttl } else { 0 },
        },
    )
}

fn watcher_kind() -> impl Strategy<Value = WatcherKind> {
    prop_oneof![
        Just(WatcherKind::Children),
        Just(WatcherKind::Data),
        Just(WatcherKind::Any),
        Just(WatcherKind::Persistent),
        Just(WatcherKind::PersistentRecursive)
    ]
}

/// Within a multi a mode that nobody knows is a broken record.
fn multi_op() -> impl Strategy<Value = MultiOp> {
    prop_oneof![
        create_of(0..=6_i32).prop_map(MultiOp::Create),
        (text(), version()).prop_map(|(path, version)| MultiOp::Delete { path, version }),
        (text(), buffer(), version()).prop_map(|(path, data, version)| MultiOp::SetData {
            path,
            data,
            version
        }),
        (text(), version()).prop_map(|(path, version)| MultiOp::Check { path, version }),
        text().prop_map(|path| MultiOp::DeleteRecursive { path }),
    ]
}

fn multi_result() -> impl Strategy<Value = MultiResult> {
    prop_oneof![
        any::<i32>().prop_map(|code| MultiResult::Error(ErrorCode(code))),
        text().prop_map(|path| MultiResult::Create { path }),
        (text(), stat()).prop_map(|(path, stat)| MultiResult::Create2 { path, stat }),
        Just(MultiResult::Delete),
        stat().prop_map(|stat| MultiResult::SetData { stat }),
        Just(MultiResult::Check),
        (buffer(), stat()).prop_map(|(data, stat)| MultiResult::GetData { data, stat }),
        names().prop_map(|names| MultiResult::GetChildren { names }),
        (names(), any::<bool>(), stat()).prop_map(|(names, more, stat)| MultiResult::ChildrenPage {
            names,
            more,
            stat
        }),
    ]
}

fn multi_results() -> impl Strategy<Value = Response> {
    prop::collection::vec(multi_result(), 0..5).prop_map(Response::Multi)
}

fn read_op() -> impl Strategy<Value = ReadOp> {
    prop_oneof![
        text().prop_map(|path| ReadOp::GetData { path }),
        text().prop_map(|path| ReadOp::GetChildren { path }),
        (text(), text(), 0..=i32::MAX.cast_unsigned()).prop_map(|(path, after, max)| ReadOp::ChildrenPage {
            path,
            after,
            max
        }),
    ]
}

/// Empty strings stand for "not given", so they do not come back as themselves.
fn reconfig() -> impl Strategy<Value = ReconfigRequest> {
    let given = || option::of("[a-z]{1,12}");
    (given(), given(), given(), any::<i64>()).prop_map(|(joining, leaving, new_members, current_config)| {
        ReconfigRequest { joining, leaving, new_members, current_config }
    })
}

fn set_watches(persistent: bool) -> impl Strategy<Value = SetWatches> {
    (any::<i64>(), names(), names(), names(), names(), names()).prop_map(
        move |(zxid, data, exist, child, stay, recursive)| SetWatches {
            relative_zxid: Zxid(zxid),
            data,
            exist,
            child,
            persistent: if persistent { stay } else { Vec::new() },
            persistent_recursive: if persistent { recursive } else { Vec::new() },
        },
    )
}

fn stat_of() -> impl Strategy<Value = Response> {
    stat().prop_map(Response::Stat)
}

fn data_of() -> impl Strategy<Value = Response> {
    (buffer(), stat()).prop_map(|(data, stat)| Response::Data { data, stat })
}

fn read() -> impl Strategy<Value = (Request, Response)> {
    prop_oneof![
        (text(), any::<bool>(), stat_of()).prop_map(|(path, watch, r)| (Request::Exists { path, watch }, r)),
        (text(), any::<bool>(), data_of()).prop_map(|(path, watch, r)| (Request::GetData { path, watch }, r)),
        (text(), acl(), stat())
            .prop_map(|(path, acl, stat)| (Request::GetAcl { path }, Response::Acl { acl, stat })),
        (text(), any::<bool>(), names())
            .prop_map(|(path, watch, names)| (Request::GetChildren { path, watch }, Response::Names(names))),
        (text(), any::<bool>(), names(), stat()).prop_map(|(path, watch, names, stat)| {
            (Request::GetChildren2 { path, watch }, Response::Children { names, stat })
        }),
        (prop::collection::vec(read_op(), 0..5), multi_results())
            .prop_map(|(ops, r)| (Request::MultiRead(ops), r)),
        (text(), names())
            .prop_map(|(prefix, names)| (Request::GetEphemerals { prefix }, Response::Names(names))),
        (text(), any::<i32>())
            .prop_map(|(path, n)| (Request::GetAllChildrenNumber { path }, Response::Number(n))),
        (text(), text()).prop_map(|(path, echo)| (Request::Sync { path }, Response::Path(echo))),
        prop::collection::vec((text(), text()).prop_map(|(scheme, user)| ClientInfo { scheme, user }), 0..4)
            .prop_map(|list| (Request::WhoAmI, Response::Identities(list))),
    ]
}

fn write() -> impl Strategy<Value = (Request, Response)> {
    prop_oneof![
        (create(), text(), stat()).prop_map(|(create, path, stat)| {
            let response = match create.kind {
                CreateKind::Create => Response::Path(path),
                _ => Response::Created { path, stat },
            };
            (Request::Create(create), response)
        }),
        (text(), version()).prop_map(|(path, version)| (Request::Delete { path, version }, Response::Empty)),
        (text(), version()).prop_map(|(path, version)| (Request::Check { path, version }, Response::Empty)),
        (text(), buffer(), version(), stat_of())
            .prop_map(|(path, data, version, r)| (Request::SetData { path, data, version }, r)),
        (text(), option::of(acl()), version(), stat_of())
            .prop_map(|(path, acl, version, r)| (Request::SetAcl { path, acl, version }, r)),
        (prop::collection::vec(multi_op(), 0..5), multi_results())
            .prop_map(|(ops, r)| (Request::Multi(ops), r)),
        (reconfig(), data_of()).prop_map(|(change, r)| (Request::Reconfig(change), r)),
    ]
}

fn session() -> impl Strategy<Value = (Request, Response)> {
    let mode = prop_oneof![Just(AddWatchMode::Persistent), Just(AddWatchMode::PersistentRecursive)];
    prop_oneof![
        Just((Request::Ping, Response::Empty)),
        Just((Request::CloseSession, Response::Empty)),
        (text(), watcher_kind())
            .prop_map(|(path, kind)| (Request::CheckWatches { path, kind }, Response::Empty)),
        (text(), watcher_kind())
            .prop_map(|(path, kind)| (Request::RemoveWatches { path, kind }, Response::Empty)),
        (text(), mode, any::<i32>())
            .prop_map(|(path, mode, n)| (Request::AddWatch { path, mode }, Response::Number(n))),
        set_watches(false).prop_map(|watches| (Request::SetWatches(watches), Response::Empty)),
        set_watches(true).prop_map(|watches| (Request::SetWatches2(watches), Response::Empty)),
        (any::<i32>(), text(), buffer()).prop_map(|(kind, scheme, auth)| (
            Request::Auth(AuthRequest { kind, scheme, auth }),
            Response::Empty
        )),
        (buffer(), buffer()).prop_map(|(token, answer)| (Request::Sasl { token }, Response::Token(answer))),
    ]
}

/// A request and an answer to it.
pub(crate) fn exchange() -> impl Strategy<Value = (Request, Response)> {
    prop_oneof![read(), write(), session()]
}

pub(crate) fn connect_request() -> impl Strategy<Value = ConnectRequest> {
    let password = option::of(prop::collection::vec(any::<u8>(), 0..20));
    (any::<[i32; 2]>(), any::<[i64; 2]>(), password, any::<Option<bool>>()).prop_map(
        |(ints, longs, password, read_only)| ConnectRequest {
            protocol_version: ints[0],
            last_zxid_seen: Zxid(longs[0]),
            timeout_ms: ints[1],
            session: SessionId(longs[1]),
            password,
            read_only,
        },
    )
}

pub(crate) fn connect_response() -> impl Strategy<Value = ConnectResponse> {
    (any::<[i32; 2]>(), any::<i64>(), any::<[u8; 16]>(), any::<Option<bool>>()).prop_map(
        |(ints, session, password, read_only)| ConnectResponse {
            protocol_version: ints[0],
            timeout_ms: ints[1],
            session: SessionId(session),
            password,
            read_only,
        },
    )
}

pub(crate) fn event() -> impl Strategy<Value = WatcherEvent> {
    (any::<i32>(), any::<i32>(), text()).prop_map(|(kind, state, path)| WatcherEvent {
        kind,
        state: KeeperState(state),
        path,
    })
}

fn of_list<T>(list: &Vec<T>, each: impl Fn(&T) -> usize) -> usize {
    list.capacity() * size_of::<T>() + list.iter().map(each).sum::<usize>()
}

fn of_acl(acl: &Vec<Acl>) -> usize {
    of_list(acl, |entry| entry.scheme.capacity() + entry.id.capacity())
}

fn of_create(create: &CreateRequest) -> usize {
    create.path.capacity() + create.acl.as_ref().map_or(0, of_acl)
}

/// Buffers are not counted: they share the memory of the frame.
pub(crate) fn reserved_by_request(request: &Request) -> usize {
    match request {
        Request::Create(create) => of_create(create),
        Request::SetAcl { path, acl, .. } => path.capacity() + acl.as_ref().map_or(0, of_acl),
        Request::Multi(ops) => of_list(ops, |op| match op {
            MultiOp::Create(create) => of_create(create),
            MultiOp::Delete { path, .. }
            | MultiOp::SetData { path, .. }
            | MultiOp::Check { path, .. }
            | MultiOp::DeleteRecursive { path } => path.capacity(),
            _ => 0,
        }),
        Request::MultiRead(ops) => of_list(ops, |op| match op {
            ReadOp::GetData { path } | ReadOp::GetChildren { path } => path.capacity(),
            ReadOp::ChildrenPage { path, after, .. } => path.capacity() + after.capacity(),
            _ => 0,
        }),
        Request::SetWatches(w) | Request::SetWatches2(w) => {
            [&w.data, &w.exist, &w.child, &w.persistent, &w.persistent_recursive]
                .map(|paths| of_list(paths, String::capacity))
                .iter()
                .sum()
        }
        Request::Delete { path, .. }
        | Request::Exists { path, .. }
        | Request::GetData { path, .. }
        | Request::SetData { path, .. }
        | Request::GetAcl { path }
        | Request::GetChildren { path, .. }
        | Request::GetChildren2 { path, .. }
        | Request::Sync { path }
        | Request::Check { path, .. }
        | Request::CheckWatches { path, .. }
        | Request::RemoveWatches { path, .. }
        | Request::GetEphemerals { prefix: path }
        | Request::GetAllChildrenNumber { path }
        | Request::AddWatch { path, .. } => path.capacity(),
        Request::Reconfig(change) => [&change.joining, &change.leaving, &change.new_members]
            .map(|text| text.as_ref().map_or(0, String::capacity))
            .iter()
            .sum(),
        Request::Auth(auth) => auth.scheme.capacity(),
        _ => 0,
    }
}

pub(crate) fn reserved_by_response(response: &Response) -> usize {
    match response {
        Response::Path(path) | Response::Created { path, .. } => path.capacity(),
        Response::Acl { acl, .. } => of_acl(acl),
        Response::Names(names) | Response::Children { names, .. } => of_list(names, String::capacity),
        Response::Multi(results) => of_list(results, |result| match result {
            MultiResult::Create { path } | MultiResult::Create2 { path, .. } => path.capacity(),
            MultiResult::GetChildren { names } => of_list(names, String::capacity),
            _ => 0,
        }),
        Response::Identities(list) => of_list(list, |info| info.scheme.capacity() + info.user.capacity()),
        _ => 0,
    }
}
