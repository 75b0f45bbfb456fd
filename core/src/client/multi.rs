//! Transactions: several writes, all or none.

use bytes::{Bytes, BytesMut};

use super::create::CreateMode;
use super::error::Error;
use super::pending::Answer;
use super::reply::Call;
use super::{Client, Reply};
use crate::proto::ops::{ReadOp, decode_multi_results, encode_multi, encode_multi_read};
use crate::proto::{CreateRequest, MultiOp, MultiResult, OpCode};
use crate::{Acl, ErrorCode, Version};

/// Writes that are applied together or not at all. Later ones see the effect of earlier ones.
#[derive(Clone, Debug, Default)]
#[must_use = "a transaction does nothing until Client::multi sends it"]
pub struct Transaction {
    ops: Vec<Op>,
}

/// One write, its path not yet checked.
#[derive(Clone, Debug)]
enum Op {
    Create { path: String, data: Option<Bytes>, mode: CreateMode, acl: Option<Vec<Acl>> },
    Delete { path: String, version: Version },
    SetData { path: String, data: Option<Bytes>, version: Version },
    Check { path: String, version: Version },
}

impl Transaction {
    /// No writes yet.
    pub fn new() -> Self {
        Transaction::default()
    }

    /// Creates a node with the client's default ACL.
    pub fn create(self, path: impl Into<String>, data: impl Into<Bytes>, mode: CreateMode) -> Self {
        self.push(Op::Create { path: path.into(), data: Some(data.into()), mode, acl: None })
    }

    /// Creates a node with this ACL; `None` as data is null.
    pub fn create_with_acl(
        self,
        path: impl Into<String>,
        data: Option<Bytes>,
        mode: CreateMode,
        acl: Vec<Acl>,
    ) -> Self {
        self.push(Op::Create { path: path.into(), data, mode, acl: Some(acl) })
    }

    /// Deletes a node.
    pub fn delete(self, path: impl Into<String>, version: impl Into<Version>) -> Self {
        self.push(Op::Delete { path: path.into(), version: version.into() })
    }

    /// Sets a node's data.
    pub fn set_data(
        self,
        path: impl Into<String>,
        data: impl Into<Bytes>,
        version: impl Into<Version>,
    ) -> Self {
        self.push(Op::SetData { path: path.into(), data: Some(data.into()), version: version.into() })
    }

    /// Sets a node's data to null.
    pub fn set_null_data(self, path: impl Into<String>, version: impl Into<Version>) -> Self {
        self.push(Op::SetData { path: path.into(), data: None, version: version.into() })
    }

    /// Demands that a node exists and, unless `version` is [`Version::ANY`], has this version.
    pub fn check(self, path: impl Into<String>, version: impl Into<Version>) -> Self {
        self.push(Op::Check { path: path.into(), version: version.into() })
    }

    /// The writes of this transaction, then those of `other`.
    pub fn then(mut self, other: Transaction) -> Self {
        self.ops.extend(other.ops);
        self
    }

    /// How many writes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn push(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    fn into_ops(self, client: &Client) -> Result<Vec<MultiOp>, Error> {
        let absolute = |path: String| Ok::<_, Error>(client.namespace().absolute(&path)?.into_owned());
        let ops = self.ops.into_iter().map(|op| {
            Ok(match op {
                Op::Create { path, data, mode, acl } => {
                    let path = client.absolute_for(&path, mode)?;
                    MultiOp::Create(mode.request(path, data, acl.unwrap_or_else(|| client.default_acl()))?)
                }
                Op::Delete { path, version } => MultiOp::Delete { path: absolute(path)?, version },
                Op::SetData { path, data, version } => {
                    MultiOp::SetData { path: absolute(path)?, data, version }
                }
                Op::Check { path, version } => MultiOp::Check { path: absolute(path)?, version },
            })
        });
        ops.collect()
    }
}

/// About how long the record of one write is, bytes.
fn weight(op: &MultiOp) -> usize {
    match op {
        MultiOp::Create(CreateRequest { path, data, .. }) => {
            path.len() + data.as_ref().map_or(0, Bytes::len) + 64
        }
        MultiOp::SetData { path, data, .. } => path.len() + data.as_ref().map_or(0, Bytes::len) + 24,
        MultiOp::Delete { path, .. } | MultiOp::Check { path, .. } | MultiOp::DeleteRecursive { path } => {
            path.len() + 24
        }
    }
}

impl Client {
    /// Applies all writes of a transaction, or none. The results are in the order of the writes. An empty
    /// transaction is legal.
    ///
    /// # Errors
    /// Of the reply: [`Error::Multi`] names the write because of which all were refused; else as
    /// [`Client::create`].
    pub fn multi(&self, transaction: Transaction) -> Reply<Vec<MultiResult>> {
        match transaction.into_ops(self) {
            Ok(ops) => self.submit(
                OpCode::Multi,
                ops.iter().map(weight).sum::<usize>() + 16,
                |out: &mut BytesMut| encode_multi(&ops, out),
                transaction_results,
            ),
            Err(error) => Reply::failed(error),
        }
    }

    /// Reads several nodes as they are at one moment. Each read has a result of its own: one that fails does not
    /// make the others fail.
    ///
    /// # Errors
    /// Of the reply, as [`Client::get_data`].
    pub fn multi_read(&self, ops: Vec<ReadOp>) -> Reply<Vec<MultiResult>> {
        let absolute = |path: String| Ok::<_, Error>(self.namespace().absolute(&path)?.into_owned());
        let ops = ops.into_iter().map(|op| {
            Ok(match op {
                ReadOp::GetData { path } => ReadOp::GetData { path: absolute(path)? },
                ReadOp::GetChildren { path } => ReadOp::GetChildren { path: absolute(path)? },
                ReadOp::ChildrenPage { path, after, max } => {
                    ReadOp::ChildrenPage { path: absolute(path)?, after, max }
                }
            })
        });
        match ops.collect::<Result<Vec<ReadOp>, Error>>() {
            Ok(ops) => self.submit(
                OpCode::MultiRead,
                64 * ops.len() + 16,
                |out: &mut BytesMut| encode_multi_read(&ops, out),
                read_results,
            ),
            Err(error) => Reply::failed(error),
        }
    }
}

fn read_results(call: Call, answer: Answer) -> Result<Vec<MultiResult>, Error> {
    call.read(answer, |call, input| {
        let mut results = decode_multi_results(input)?;
        for result in &mut results {
            match result {
                MultiResult::Create { path } | MultiResult::Create2 { path, .. } => {
                    *path = call.namespace().strip(std::mem::take(path));
                }
                MultiResult::GetChildren { names } => names.sort_unstable(),
                _ => {}
            }
        }
        Ok(results)
    })
}

fn transaction_results(call: Call, answer: Answer) -> Result<Vec<MultiResult>, Error> {
    let results = read_results(call, answer)?;
    // A refused transaction has error results only: code 0 before the one that was refused.
    let refused = results.iter().enumerate().find_map(|(index, result)| match result {
        MultiResult::Error(code) if *code != ErrorCode::OK => Some((index, *code)),
        _ => None,
    });
    match refused {
        Some((index, code)) => Err(Error::Multi { index, code, results }),
        None => Ok(results),
    }
}
