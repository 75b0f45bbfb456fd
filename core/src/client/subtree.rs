//! Nodes with many children, and with much below them.
//!
//! Both verbs are Docent's own. They travel within `multiRead` and `multi`, and a server that does not know them refuses
//! just the request; the connection stays, and the client goes on with what every server knows.

use bytes::BytesMut;

use super::error::Error;
use super::multi::Transaction;
use super::pending::Answer;
use super::reply::Call;
use super::{Client, Reply};
use crate::path::join;
use crate::proto::jute::{DecodeError, Reader};
use crate::proto::ops::{ReadOp, decode_multi_results, encode_multi};
use crate::proto::{MultiOp, MultiResult, OpCode};
use crate::{ErrorCode, Version};

/// Lists of children that are asked for at a time.
const LISTS_IN_FLIGHT: usize = 64;
/// Deletes in one transaction, where a subtree is not deleted in a single one.
const BATCH: usize = 500;
/// How often a subtree is listed anew because something came into it meanwhile.
const ROUNDS_MAX: usize = 16;

/// The children of a node, a page at a time. See [`Client::children_pages`].
#[derive(Debug)]
pub struct ChildrenPages {
    client: Client,
    path: String,
    page_max: u32,
    after: String,
    done: bool,
}

/// What [`Client::delete_recursive`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletedTree {
    /// Nodes that this call deleted.
    pub nodes: u64,
    /// Whether that was one transaction: nobody saw a part of it.
    pub at_once: bool,
}

impl ChildrenPages {
    /// The names of the next page in the order of their bytes, at least one; `None` behind the last.
    ///
    /// # Errors
    /// Of the reply, as [`Client::get_children`]. The same page can be asked for again.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the page is asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, Error> {
        if self.done {
            return Ok(None);
        }
        let (names, more) = match self.page().await {
            // As servers refuse what they do not know within a multi-read.
            Err(error) if error.code() == Some(ErrorCode::MARSHALLING_ERROR) => {
                let mut names = self.client.get_children(&self.path).await?.names;
                names.retain(|name| *name > self.after);
                (names, false)
            }
            page => page?,
        };
        self.done = !more;
        let Some(last) = names.last() else { return Ok(None) };
        self.after.clone_from(last);
        Ok(Some(names))
    }

    async fn page(&self) -> Result<(Vec<String>, bool), Error> {
        let (path, after, max) = (self.path.clone(), self.after.clone(), self.page_max);
        let results = self.client.multi_read(vec![ReadOp::ChildrenPage { path, after, max }]).await?;
        match results.into_iter().next() {
            Some(MultiResult::ChildrenPage { names, more, .. }) => Ok((names, more)),
            Some(MultiResult::Error(code)) => {
                Err(Error::Server { op: OpCode::ChildrenPage, path: self.path.clone(), code })
            }
            _ => {
                let source = DecodeError::BadValue { what: "page of children", value: 0 };
                Err(Error::Protocol { op: OpCode::ChildrenPage, source })
            }
        }
    }
}

impl Client {
    /// The children of a node, a page at a time, each with at most `page_max` names; 0 leaves the size to the server, whose
    /// pages fit into what every client takes. No page shows the children at the same moment as another one: who is there
    /// all the time is listed once, who comes or goes meanwhile may be listed or not. A server other than Docent's gives
    /// all of them as one page.
    #[must_use]
    pub fn children_pages(&self, path: impl Into<String>, page_max: u32) -> ChildrenPages {
        ChildrenPages { client: self.clone(), path: path.into(), page_max, after: String::new(), done: false }
    }

    /// Deletes a node and all below it in one transaction, and returns how many nodes those were. Watches fire as for
    /// single deletes, of children before their parent.
    ///
    /// # Errors
    /// Of the reply: `UNIMPLEMENTED` from servers other than Docent's and from those that do not allow it, `NOT_EMPTY` if
    /// there are more nodes than the server deletes at once (`deleteRecursiveMax`), `NO_NODE`, `NO_AUTH` if a node may not
    /// be deleted, and then none is; else as [`Client::create`].
    pub fn delete_at_once(&self, path: impl AsRef<str>) -> Reply<u64> {
        match self.namespace().absolute(path.as_ref()) {
            Ok(path) => {
                let ops = [MultiOp::DeleteRecursive { path: path.into_owned() }];
                self.submit(
                    OpCode::Multi,
                    64,
                    |out: &mut BytesMut| encode_multi(&ops, out),
                    |call, answer| deleted_at_once(&call, answer),
                )
            }
            Err(error) => Reply::failed(error),
        }
    }

    /// Deletes a node and all below it: in one transaction as [`Client::delete_at_once`] where the server can, and
    /// otherwise from the leaves up in several, in which others see parts of the subtree.
    ///
    /// # Errors
    /// `NO_NODE` if there is no such node, `NO_AUTH`, `NOT_EMPTY` if something was created below it again and again; else
    /// as [`Client::create`]. A part may be deleted.
    ///
    /// # Cancel safety
    /// When the future is dropped, a part may be deleted, and transactions that are under way may still be applied.
    pub async fn delete_recursive(&self, path: impl AsRef<str>) -> Result<DeletedTree, Error> {
        let path = path.as_ref();
        match self.delete_at_once(path).await {
            Ok(nodes) => return Ok(DeletedTree { nodes, at_once: true }),
            Err(error) if matches!(error.code(), Some(ErrorCode::UNIMPLEMENTED | ErrorCode::NOT_EMPTY)) => {}
            Err(error) => return Err(error),
        }
        let mut nodes = 0;
        for round in 1..=ROUNDS_MAX {
            let subtree = match self.list_subtree(path).await {
                // Somebody else has deleted what was left.
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) && round > 1 => break,
                subtree => subtree?,
            };
            match self.delete_listed(&subtree, &mut nodes).await {
                Err(error) if error.code() == Some(ErrorCode::NOT_EMPTY) && round < ROUNDS_MAX => {}
                done => {
                    done?;
                    break;
                }
            }
        }
        Ok(DeletedTree { nodes, at_once: false })
    }

    /// Deletes what is listed from its end. What has gone already is as good as deleted.
    async fn delete_listed(&self, subtree: &[String], nodes: &mut u64) -> Result<(), Error> {
        for batch in subtree.rchunks(BATCH) {
            let deletes =
                batch.iter().rev().fold(Transaction::new(), |all, path| all.delete(path, Version::ANY));
            match self.multi(deletes).await {
                Ok(done) => *nodes += done.len() as u64,
                Err(Error::Multi { .. }) => {
                    for path in batch.iter().rev() {
                        match self.delete(path, Version::ANY).await {
                            Ok(()) => *nodes += 1,
                            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A node and all below it, parents before their children.
    async fn list_subtree(&self, path: &str) -> Result<Vec<String>, Error> {
        let mut subtree = vec![path.to_owned()];
        let mut listed = 0;
        while listed < subtree.len() {
            let until = subtree.len().min(listed + LISTS_IN_FLIGHT);
            let lists: Vec<_> = subtree[listed..until].iter().map(|path| self.get_children(path)).collect();
            for (at, list) in (listed..until).zip(lists) {
                let names = match list.await {
                    Ok(children) => children.names,
                    Err(error) if error.code() == Some(ErrorCode::MARSHALLING_ERROR) => {
                        self.names_in_pages(&subtree[at]).await?
                    }
                    Err(error) if error.code() == Some(ErrorCode::NO_NODE) && at > 0 => Vec::new(),
                    Err(error) => return Err(error),
                };
                for name in names {
                    let child = join(&subtree[at], &name);
                    subtree.push(child);
                }
            }
            listed = until;
        }
        Ok(subtree)
    }

    async fn names_in_pages(&self, path: &str) -> Result<Vec<String>, Error> {
        let mut pages = self.children_pages(path, 0);
        let mut names = Vec::new();
        while let Some(page) = pages.next().await? {
            names.extend(page);
        }
        Ok(names)
    }
}

/// The answer to a multi that holds nothing but a recursive delete: one result for each node.
fn deleted_at_once(call: &Call, answer: Answer) -> Result<u64, Error> {
    let refused = |code| Error::Server { op: OpCode::DeleteRecursive, path: path_of(call), code };
    match answer.error {
        ErrorCode::OK => {}
        // As servers refuse what they do not know within a multi.
        ErrorCode::MARSHALLING_ERROR => return Err(refused(ErrorCode::UNIMPLEMENTED)),
        code => return Err(refused(code)),
    }
    let results = call.read(answer, |_, input| decode_multi_results(input))?;
    let failed = results.iter().find_map(|result| match result {
        MultiResult::Error(code) if *code != ErrorCode::OK => Some(*code),
        _ => None,
    });
    match failed {
        Some(code) => Err(refused(code)),
        None => Ok(results.len() as u64),
    }
}

/// The path of the only operation of a multi, as the caller named it.
fn path_of(call: &Call) -> String {
    let mut input = Reader::new(call.body.clone());
    let path = input.int().and_then(|_| input.bool()).and_then(|_| input.int()).and_then(|_| input.string());
    call.namespace().strip(path.unwrap_or_default())
}
