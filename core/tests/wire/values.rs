//! Decoded records as the named values that were recorded with the captures.

use docent::proto::ops::ReadOp;
use docent::proto::{
    AddWatchMode, ConnectRequest, ConnectResponse, CreateKind, CreateRequest, MultiOp, MultiResult, OpCode,
    Request, Response, SetWatches, WatcherEvent, WatcherKind,
};
use docent::{Acl, Stat};
use serde_json::{Value, json};

/// Adds the fields of `more` to `values`.
pub(crate) fn merge(values: &mut Value, more: Value) {
    if let (Value::Object(values), Value::Object(more)) = (values, more) {
        values.extend(more);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Buffers stand as text where they are printable.
fn buffer(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| (' '..='~').contains(&c)) => json!(text),
        _ => json!(format!("hex:{}", hex(bytes))),
    }
}

pub(crate) fn connect_request(request: &ConnectRequest) -> Value {
    json!({
        "protocolVersion": request.protocol_version,
        "lastZxidSeen": request.last_zxid_seen.0,
        "timeOut": request.timeout_ms,
        "sessionId": request.session.0,
        "passwd": request.password.as_deref().map(hex),
        "readOnly": request.read_only,
    })
}

pub(crate) fn connect_response(response: &ConnectResponse) -> Value {
    json!({
        "protocolVersion": response.protocol_version,
        "timeOut": response.timeout_ms,
        "sessionId": response.session.0,
        "passwd": hex(&response.password),
        "readOnly": response.read_only,
    })
}

fn acl(entries: &[Acl]) -> Value {
    let entry = |acl: &Acl| json!({ "perms": acl.permissions.0, "scheme": acl.scheme, "id": acl.id });
    entries.iter().map(entry).collect()
}

fn stat(stat: &Stat) -> Value {
    json!({
        "czxid": stat.czxid.0, "mzxid": stat.mzxid.0, "ctime": stat.ctime, "mtime": stat.mtime,
        "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeralOwner": stat.ephemeral_owner.0, "dataLength": stat.data_length,
        "numChildren": stat.num_children, "pzxid": stat.pzxid.0,
    })
}

fn create(request: &CreateRequest) -> Value {
    let mut values = json!({
        "path": request.path,
        "data": buffer(request.data.as_deref()),
        "acl": request.acl.as_deref().map(acl),
        "flags": request.flags.0,
    });
    if request.kind == CreateKind::Ttl {
        merge(&mut values, json!({ "ttl": request.ttl_ms }));
    }
    values
}

fn set_watches(watches: &SetWatches) -> Value {
    json!({
        "relativeZxid": watches.relative_zxid.0,
        "dataWatches": watches.data,
        "existWatches": watches.exist,
        "childWatches": watches.child,
    })
}

fn kind(kind: WatcherKind) -> i32 {
    match kind {
        WatcherKind::Children => 1,
        WatcherKind::Data => 2,
        WatcherKind::Any => 3,
        WatcherKind::Persistent => 4,
        WatcherKind::PersistentRecursive => 5,
    }
}

/// One item of a multi: the header, and what stands behind it.
fn item(op: i32, error: i32, values: Value) -> Value {
    let mut item = json!({ "type": op, "done": false, "err": error });
    merge(&mut item, values);
    item
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    items.chain([json!({ "type": -1, "done": true, "err": -1 })]).collect()
}

fn multi_op(op: &MultiOp) -> Value {
    let values = match op {
        MultiOp::Create(request) => create(request),
        MultiOp::Delete { path, version } | MultiOp::Check { path, version } => {
            json!({ "path": path, "version": version.0 })
        }
        MultiOp::SetData { path, data, version } => {
            json!({ "path": path, "data": buffer(data.as_deref()), "version": version.0 })
        }
        other => panic!("{other:?} was not captured"),
    };
    item(op.op().code(), -1, values)
}

fn read_op(op: &ReadOp) -> Value {
    match op {
        ReadOp::GetData { path } => item(4, -1, json!({ "path": path, "watch": false })),
        ReadOp::GetChildren { path } => item(8, -1, json!({ "path": path, "watch": false })),
        other => panic!("{other:?} was not captured"),
    }
}

fn multi_result(result: &MultiResult) -> Value {
    match result {
        MultiResult::Error(code) => item(-1, code.0, json!({ "errorResponse": code.0 })),
        MultiResult::Create { path } => item(1, 0, json!({ "path": path })),
        MultiResult::Create2 { path, stat: s } => item(15, 0, json!({ "path": path, "stat": stat(s) })),
        MultiResult::Delete => item(2, 0, Value::Null),
        MultiResult::SetData { stat: s } => item(5, 0, json!({ "stat": stat(s) })),
        MultiResult::Check => item(13, 0, Value::Null),
        MultiResult::GetData { data, stat: s } => {
            item(4, 0, json!({ "data": buffer(data.as_deref()), "stat": stat(s) }))
        }
        MultiResult::GetChildren { names } => item(8, 0, json!({ "children": names })),
        other => panic!("{other:?} was not captured"),
    }
}

pub(crate) fn request(request: &Request) -> Value {
    match request {
        Request::Create(request) => create(request),
        Request::Delete { path, version } => json!({ "path": path, "version": version.0 }),
        Request::Exists { path, watch }
        | Request::GetData { path, watch }
        | Request::GetChildren { path, watch }
        | Request::GetChildren2 { path, watch } => json!({ "path": path, "watch": watch }),
        Request::SetData { path, data, version } => {
            json!({ "path": path, "data": buffer(data.as_deref()), "version": version.0 })
        }
        Request::GetAcl { path } | Request::Sync { path } | Request::GetAllChildrenNumber { path } => {
            json!({ "path": path })
        }
        Request::SetAcl { path, acl: entries, version } => {
            json!({ "path": path, "acl": entries.as_deref().map(acl), "version": version.0 })
        }
        Request::Ping | Request::WhoAmI | Request::CloseSession => Value::Null,
        Request::Multi(ops) => json!({ "ops": list(ops.iter().map(multi_op)) }),
        Request::MultiRead(ops) => json!({ "ops": list(ops.iter().map(read_op)) }),
        Request::Reconfig(change) => json!({
            "joiningServers": change.joining, "leavingServers": change.leaving,
            "newMembers": change.new_members, "curConfigId": change.current_config,
        }),
        Request::CheckWatches { path, kind: k } | Request::RemoveWatches { path, kind: k } => {
            json!({ "path": path, "type": kind(*k) })
        }
        Request::Auth(auth) => {
            json!({ "type": auth.kind, "scheme": auth.scheme, "auth": buffer(auth.auth.as_deref()) })
        }
        Request::SetWatches(watches) => set_watches(watches),
        Request::SetWatches2(watches) => {
            let mut values = set_watches(watches);
            let more = json!({
                "persistentWatches": watches.persistent,
                "persistentRecursiveWatches": watches.persistent_recursive,
            });
            merge(&mut values, more);
            values
        }
        Request::GetEphemerals { prefix } => json!({ "prefixPath": prefix }),
        Request::AddWatch { path, mode } => {
            json!({ "path": path, "mode": i32::from(*mode == AddWatchMode::PersistentRecursive) })
        }
        other => panic!("{other:?} was not captured"),
    }
}

pub(crate) fn response(op: Option<OpCode>, response: &Response) -> Value {
    match response {
        Response::Empty => Value::Null,
        Response::Path(path) => json!({ "path": path }),
        Response::Created { path, stat: s } => json!({ "path": path, "stat": stat(s) }),
        Response::Stat(s) => json!({ "stat": stat(s) }),
        Response::Data { data, stat: s } => json!({ "data": buffer(data.as_deref()), "stat": stat(s) }),
        Response::Acl { acl: entries, stat: s } => json!({ "acl": acl(entries), "stat": stat(s) }),
        Response::Names(names) if op == Some(OpCode::GetEphemerals) => json!({ "ephemerals": names }),
        Response::Names(names) => json!({ "children": names }),
        Response::Children { names, stat: s } => json!({ "children": names, "stat": stat(s) }),
        Response::Multi(results) => json!({ "results": list(results.iter().map(multi_result)) }),
        // The number that answers addWatch was not recorded as a value.
        Response::Number(0) if op == Some(OpCode::AddWatch) => Value::Null,
        Response::Number(number) => json!({ "totalNumber": number }),
        Response::Identities(list) => {
            let info = |info: &docent::ClientInfo| json!({ "authScheme": info.scheme, "user": info.user });
            json!({ "clientInfo": list.iter().map(info).collect::<Value>() })
        }
        other => panic!("{other:?} was not captured"),
    }
}

pub(crate) fn event(event: &WatcherEvent) -> Value {
    json!({ "type": event.kind, "state": event.state.0, "path": event.path })
}
