//! The reply that a call returns, and how an answer becomes a result.
//!
//! A reply decodes the answer in the task that awaits it, which leaves the client's own task lean.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::chroot::Namespace;
use super::error::Error;
use super::pending::{Answer, Failure, Outcome};
use super::watcher::{OneshotWatch, Watcher};
use crate::ErrorCode;
use crate::proto::OpCode;
use crate::proto::jute::{DecodeError, Reader};

/// The answer to a request that is queued already. Dropping it does not undo the request.
///
/// # Cancel safety
/// It can be polled in a `select!` by reference. When it is dropped, the request may still be applied.
#[must_use = "the request is queued, but whether it succeeds is told here"]
pub struct Reply<T> {
    state: State<T>,
}

enum State<T> {
    Waiting { receiver: oneshot::Receiver<Outcome>, call: Call, decode: Finish<T> },
    Failed(Error),
    Taken,
}

/// Makes the result out of the answer.
pub(super) type Finish<T> = fn(Call, Answer) -> Result<T, Error>;

impl<T> Reply<T> {
    /// A reply that has failed before anything was sent.
    pub(super) fn failed(error: Error) -> Self {
        Reply { state: State::Failed(error) }
    }

    /// A reply to a request that is queued.
    pub(super) fn waiting(receiver: oneshot::Receiver<Outcome>, call: Call, decode: Finish<T>) -> Self {
        Reply { state: State::Waiting { receiver, call, decode } }
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &mut self.state {
            State::Waiting { receiver, .. } => match Pin::new(receiver).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => Some(outcome),
            },
            State::Failed(_) | State::Taken => None,
        };
        match (std::mem::replace(&mut self.state, State::Taken), outcome) {
            (State::Waiting { call, decode, .. }, Some(Ok(Ok(answer)))) => Poll::Ready(decode(call, answer)),
            (State::Waiting { call, .. }, Some(Ok(Err(failure)))) => Poll::Ready(Err(call.failure(failure))),
            // The client's task is gone, and with it what it knew of the request.
            (State::Waiting { call, .. }, _) => {
                let failure = Failure::ConnectionLoss { may_have_applied: call.op.is_write() };
                Poll::Ready(Err(call.failure(failure)))
            }
            (State::Failed(error), _) => Poll::Ready(Err(error)),
            // Polled again after it was ready, which a future may answer as it likes.
            (State::Taken, _) => Poll::Pending,
        }
    }
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.state {
            State::Waiting { call, .. } => write!(f, "Reply({:?} of {:?})", call.op, call.path()),
            State::Failed(error) => write!(f, "Reply(failed: {error})"),
            State::Taken => f.write_str("Reply(taken)"),
        }
    }
}

/// What a reply must know of its request to tell the answer.
pub(super) struct Call {
    pub(super) op: OpCode,
    /// The record as it was sent; most begin with the path.
    pub(super) body: Bytes,
    pub(super) namespace: Namespace,
    /// The watch that the request sets.
    pub(super) oneshot: Option<OneshotWatch>,
    pub(super) watcher: Option<Watcher>,
}

impl Call {
    pub(super) fn new(op: OpCode, body: Bytes, namespace: Namespace) -> Self {
        Call { op, body, namespace, oneshot: None, watcher: None }
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The path as the caller named it; it is read back from the record, because only errors need it.
    fn path(&self) -> String {
        match self.op {
            OpCode::Multi | OpCode::MultiRead | OpCode::Reconfig | OpCode::WhoAmI | OpCode::Auth => {
                String::new()
            }
            _ => {
                let path = Reader::new(self.body.clone()).string().unwrap_or_default();
                self.namespace.strip(path)
            }
        }
    }

    fn failure(self, failure: Failure) -> Error {
        match failure {
            Failure::ConnectionLoss { may_have_applied } => {
                Error::ConnectionLoss { op: self.op, path: self.path(), may_have_applied }
            }
            Failure::SessionEnded(session) => Error::SessionEnded { session },
            Failure::Ended(cause) => cause.error(),
            Failure::TooManyIdentities => {
                Error::InvalidArgument("the client has as many identities as it can hold".into())
            }
        }
    }

    /// Reads the record of an answer that is no refusal.
    pub(super) fn read<T>(
        &self,
        answer: Answer,
        read: impl FnOnce(&Call, &mut Reader) -> Result<T, DecodeError>,
    ) -> Result<T, Error> {
        if answer.error != ErrorCode::OK {
            return Err(Error::Server { op: self.op, path: self.path(), code: answer.error });
        }
        read(self, &mut Reader::new(answer.body)).map_err(|source| Error::Protocol { op: self.op, source })
    }

    /// The watch that a request with a watch left.
    pub(super) fn take_oneshot(&mut self) -> Result<OneshotWatch, Error> {
        self.oneshot.take().ok_or(Error::Closed)
    }
}
