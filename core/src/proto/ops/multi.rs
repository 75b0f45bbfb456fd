//! Several operations in one request. Each stands behind a small header; a header marked "done" ends the list.

use bytes::{BufMut, Bytes, BytesMut};

use super::create::CreateRequest;
use super::data::{decode_names, encode_names, encode_path_version, encode_path_watch, encode_set_data};
use crate::proto::jute::{Decode, DecodeError, Encode, Reader, put_bool, put_buffer, put_string};
use crate::proto::{OpCode, Request};
use crate::{ErrorCode, Stat, Version};

/// One write of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the operation of the same name in OpCode")]
pub enum MultiOp {
    Create(CreateRequest),
    Delete { path: String, version: Version },
    SetData { path: String, data: Option<Bytes>, version: Version },
    Check { path: String, version: Version },
    DeleteRecursive { path: String },
}

/// One read of a multi-read. Watches cannot be set here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the operation of the same name in OpCode")]
pub enum ReadOp {
    GetData {
        path: String,
    },
    GetChildren {
        path: String,
    },
    /// Those of the children whose names come behind `after` in the order of their bytes, the first `max` of them, or
    /// fewer; 0 leaves it to the server.
    ChildrenPage {
        path: String,
        after: String,
        max: u32,
    },
}

/// One result of a multi or multi-read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultiResult {
    /// The operation failed, or was not tried because another one did. Code 0 stands before the one that failed.
    Error(ErrorCode),
    /// A plain create.
    Create {
        /// The final path.
        path: String,
    },
    /// Any other create.
    Create2 {
        /// The final path.
        path: String,
        /// The new node, right after this operation.
        stat: Stat,
    },
    /// A delete.
    Delete,
    /// A set.
    SetData {
        /// The node, right after this operation.
        stat: Stat,
    },
    /// A check that held.
    Check,
    /// A read of data.
    GetData {
        /// The data or null.
        data: Option<Bytes>,
        /// The node.
        stat: Stat,
    },
    /// A list of children.
    GetChildren {
        /// Their names.
        names: Vec<String>,
    },
    /// Some children.
    ChildrenPage {
        /// Their names in the order of their bytes.
        names: Vec<String>,
        /// Whether there are others behind them.
        more: bool,
        /// The parent.
        stat: Stat,
    },
}

/// What stands before every operation and result.
struct MultiHeader {
    op: i32,
    done: bool,
    error: i32,
}

impl MultiHeader {
    const END: MultiHeader = MultiHeader { op: -1, done: true, error: -1 };

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(MultiHeader { op: input.int()?, done: input.bool()?, error: input.int()? })
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.op);
        put_bool(out, self.done);
        out.put_i32(self.error);
    }
}

fn decode_list<T>(
    input: &mut Reader,
    mut element: impl FnMut(i32, &mut Reader) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut list = Vec::new();
    loop {
        let header = MultiHeader::decode(input)?;
        if header.done {
            return Ok(list);
        }
        list.push(element(header.op, input)?);
    }
}

/// Reads the record of `multi`.
///
/// # Errors
/// The bytes are not such a record, or an operation in it is not a write that a multi may hold, or a create in it has a
/// mode that nobody knows.
pub fn decode_multi(input: &mut Reader) -> Result<Vec<MultiOp>, DecodeError> {
    decode_list(input, |op, input| {
        let refused = DecodeError::BadValue { what: "operation of a multi", value: op.into() };
        let code = OpCode::from_code(op).ok_or_else(|| refused.clone())?;
        if code == OpCode::DeleteRecursive {
            return Ok(MultiOp::DeleteRecursive { path: input.string()? });
        }
        match Request::decode_within_multi(code, input)? {
            // As in Apache from 3.9 on, which reads the number into a closed list here.
            Some(Request::Create(create)) if !create.flags.is_known() => {
                Err(DecodeError::BadValue { what: "create mode", value: create.flags.0.into() })
            }
            Some(Request::Create(create)) => Ok(MultiOp::Create(create)),
            Some(Request::Delete { path, version }) => Ok(MultiOp::Delete { path, version }),
            Some(Request::SetData { path, data, version }) => Ok(MultiOp::SetData { path, data, version }),
            Some(Request::Check { path, version }) => Ok(MultiOp::Check { path, version }),
            _ => Err(refused),
        }
    })
}

impl Request {
    /// Lets only the operations through that a multi may hold, so that multis cannot be nested.
    fn decode_within_multi(op: OpCode, input: &mut Reader) -> Result<Option<Request>, DecodeError> {
        match op {
            // Null for its path spoils a multi, as everywhere else in one.
            OpCode::SetData => Ok(Some(Request::SetData {
                path: input.string()?,
                data: input.buffer()?,
                version: Version(input.int()?),
            })),
            OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::Check => Request::decode(op, input),
            _ => Ok(None),
        }
    }
}

/// Appends the record of `multi`.
pub fn encode_multi(ops: &[MultiOp], out: &mut BytesMut) {
    for op in ops {
        MultiHeader { op: op.op().code(), done: false, error: -1 }.encode(out);
        match op {
            MultiOp::Create(create) => create.encode(out),
            MultiOp::Delete { path, version } | MultiOp::Check { path, version } => {
                encode_path_version(path, *version, out);
            }
            MultiOp::SetData { path, data, version } => encode_set_data(path, data.as_deref(), *version, out),
            MultiOp::DeleteRecursive { path } => put_string(out, path),
        }
    }
    MultiHeader::END.encode(out);
}

impl MultiOp {
    /// The operation.
    #[must_use]
    pub fn op(&self) -> OpCode {
        match self {
            MultiOp::Create(create) => create.kind.op(),
            MultiOp::Delete { .. } => OpCode::Delete,
            MultiOp::SetData { .. } => OpCode::SetData,
            MultiOp::Check { .. } => OpCode::Check,
            MultiOp::DeleteRecursive { .. } => OpCode::DeleteRecursive,
        }
    }
}

/// Reads the record of `multiRead`. Watch flags are dropped.
///
/// # Errors
/// The bytes are not such a record, or an operation in it is not a read that a multi-read may hold.
pub fn decode_multi_read(input: &mut Reader) -> Result<Vec<ReadOp>, DecodeError> {
    decode_list(input, |op, input| {
        let op = match OpCode::from_code(op) {
            Some(OpCode::GetData) => ReadOp::GetData { path: input.string()? },
            Some(OpCode::GetChildren) => ReadOp::GetChildren { path: input.string()? },
            Some(OpCode::ChildrenPage) => {
                let (path, after) = (input.string()?, input.string()?);
                return Ok(ReadOp::ChildrenPage { path, after, max: input.int()?.max(0).cast_unsigned() });
            }
            _ => return Err(DecodeError::BadValue { what: "operation of a multi-read", value: op.into() }),
        };
        input.bool()?;
        Ok(op)
    })
}

/// Appends the record of `multiRead`.
pub fn encode_multi_read(ops: &[ReadOp], out: &mut BytesMut) {
    for op in ops {
        let (code, path) = match op {
            ReadOp::GetData { path } => (OpCode::GetData, path),
            ReadOp::GetChildren { path } => (OpCode::GetChildren, path),
            ReadOp::ChildrenPage { path, .. } => (OpCode::ChildrenPage, path),
        };
        MultiHeader { op: code.code(), done: false, error: -1 }.encode(out);
        match op {
            ReadOp::ChildrenPage { after, max, .. } => {
                put_string(out, path);
                put_string(out, after);
                out.put_i32(i32::try_from(*max).unwrap_or(i32::MAX));
            }
            _ => encode_path_watch(path, false, out),
        }
    }
    MultiHeader::END.encode(out);
}

/// Reads the record that answers a multi or multi-read.
///
/// # Errors
/// The bytes are not such a record.
pub fn decode_multi_results(input: &mut Reader) -> Result<Vec<MultiResult>, DecodeError> {
    decode_list(input, |op, input| {
        Ok(match OpCode::from_code(op) {
            Some(OpCode::Error) => MultiResult::Error(ErrorCode(input.int()?)),
            Some(OpCode::Create) => MultiResult::Create { path: input.string()? },
            Some(OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl) => {
                MultiResult::Create2 { path: input.string()?, stat: Stat::decode(input)? }
            }
            Some(OpCode::Delete) => MultiResult::Delete,
            Some(OpCode::SetData) => MultiResult::SetData { stat: Stat::decode(input)? },
            Some(OpCode::Check) => MultiResult::Check,
            Some(OpCode::GetData) => {
                MultiResult::GetData { data: input.buffer()?, stat: Stat::decode(input)? }
            }
            Some(OpCode::GetChildren) => MultiResult::GetChildren { names: decode_names(input)? },
            Some(OpCode::ChildrenPage) => MultiResult::ChildrenPage {
                names: decode_names(input)?,
                more: input.bool()?,
                stat: Stat::decode(input)?,
            },
            _ => return Err(DecodeError::BadValue { what: "result of a multi", value: op.into() }),
        })
    })
}

/// Appends the record that answers a multi or multi-read.
pub fn encode_multi_results(results: &[MultiResult], out: &mut BytesMut) {
    for result in results {
        let (op, error) = match result {
            MultiResult::Error(code) => (OpCode::Error, code.0),
            MultiResult::Create { .. } => (OpCode::Create, 0),
            MultiResult::Create2 { .. } => (OpCode::Create2, 0),
            MultiResult::Delete => (OpCode::Delete, 0),
            MultiResult::SetData { .. } => (OpCode::SetData, 0),
            MultiResult::Check => (OpCode::Check, 0),
            MultiResult::GetData { .. } => (OpCode::GetData, 0),
            MultiResult::GetChildren { .. } => (OpCode::GetChildren, 0),
            MultiResult::ChildrenPage { .. } => (OpCode::ChildrenPage, 0),
        };
        MultiHeader { op: op.code(), done: false, error }.encode(out);
        match result {
            MultiResult::Error(code) => out.put_i32(code.0),
            MultiResult::Create { path } => put_string(out, path),
            MultiResult::Create2 { path, stat } => {
                put_string(out, path);
                stat.encode(out);
            }
            MultiResult::Delete | MultiResult::Check => {}
            MultiResult::SetData { stat } => stat.encode(out),
            MultiResult::GetData { data, stat } => {
                put_buffer(out, data.as_deref());
                stat.encode(out);
            }
            MultiResult::GetChildren { names } => encode_names(names, out),
            MultiResult::ChildrenPage { names, more, stat } => {
                encode_names(names, out);
                put_bool(out, *more);
                stat.encode(out);
            }
        }
    }
    MultiHeader::END.encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Acl;
    use crate::proto::{CreateFlags, CreateKind};

    #[test]
    fn a_create_of_no_known_mode_spoils_the_record() {
        let decoded = |flags| {
            let (kind, path, acl) = (CreateKind::Create, "/a".to_owned(), Some(Acl::open()));
            let create = CreateRequest { kind, path, data: None, acl, flags: CreateFlags(flags), ttl_ms: 0 };
            let mut out = BytesMut::new();
            encode_multi(&[MultiOp::Create(create)], &mut out);
            decode_multi(&mut Reader::new(out.freeze()))
        };
        assert!((0..7).all(|flags| decoded(flags).is_ok()));
        assert!([-1, 7].iter().all(|flags| decoded(*flags).is_err()));
    }

    #[test]
    fn null_for_a_path_is_a_bad_path_of_a_set_and_spoils_a_multi() {
        let null_and_rest = [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 7];
        let mut alone = Reader::new(bytes::Bytes::copy_from_slice(&null_and_rest));
        let set = Request::decode(OpCode::SetData, &mut alone).unwrap();
        assert_eq!(set, Some(Request::SetData { path: String::new(), data: None, version: Version(7) }));
        let mut out = BytesMut::new();
        MultiHeader { op: OpCode::SetData.code(), done: false, error: -1 }.encode(&mut out);
        out.extend_from_slice(&null_and_rest);
        MultiHeader { op: -1, done: true, error: -1 }.encode(&mut out);
        assert!(decode_multi(&mut Reader::new(out.freeze())).is_err());
    }
}
