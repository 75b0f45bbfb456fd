//! Commands about a node and everything below it. None of them sees the subtree at one moment.

use std::collections::VecDeque;

use docent::{Acl, Children, Error, ErrorCode, Reply, Transaction, Version};

use super::execute::{ANY, Context};
use super::failure::Failure;
use super::watches::Kind;

/// Lists of children that are asked for at a time.
const LISTS_IN_FLIGHT: usize = 64;
/// Transactions of deletes under way at a time.
const BATCHES_IN_FLIGHT: usize = 10;

/// `ls -R`: each node's children, and then what is below them.
///
/// # Errors
/// The first refusal. A node that vanishes meanwhile is left out.
pub(crate) async fn list_all(context: &Context, path: &str, watch: bool) -> Result<(), Failure> {
    visit(context, path, watch, async |path| context.output.result(&format!("{path}\n"))).await
}

/// `setAcl -R`. Refusals of single nodes are printed, the others are set.
///
/// # Errors
/// The subtree cannot be listed.
pub(crate) async fn set_acl_all(
    context: &Context,
    path: &str,
    acl: Vec<Acl>,
    version: Version,
) -> Result<(), Failure> {
    visit(context, path, false, async |path| {
        if let Err(error) = context.client.set_acl(path, acl.clone(), version).await {
            context.output.result(&Failure::from(error).message);
        }
    })
    .await
}

/// Calls `visitor` for a node and all below it: all children of a node first, then what is below each.
async fn visit(
    context: &Context,
    path: &str,
    watch: bool,
    mut visitor: impl AsyncFnMut(&str),
) -> Result<(), Failure> {
    if watch {
        let (_, left) = context.client.get_data_and_watch(path).await?;
        context.watches.keep_oneshot(Kind::Data, path, left);
    } else {
        context.client.get_data(path).await?;
    }
    visitor(path).await;
    let mut unvisited = vec![path.to_owned()];
    while let Some(parent) = unvisited.pop() {
        let children = match children_of(context, &parent, watch).await {
            Ok(children) => children,
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => continue,
            Err(error) => return Err(error.into()),
        };
        let paths: Vec<String> =
            children.names.iter().map(|name| docent::path::join(&parent, name)).collect();
        for path in &paths {
            visitor(path).await;
        }
        unvisited.extend(paths.into_iter().rev());
    }
    Ok(())
}

async fn children_of(context: &Context, path: &str, watch: bool) -> Result<Children, Error> {
    if !watch {
        return context.client.get_children(path).await;
    }
    let (children, left) = context.client.get_children_and_watch(path).await?;
    context.watches.keep_oneshot(Kind::Children, path, left);
    Ok(children)
}

/// `deleteall`: in one transaction where the server can; otherwise lists the subtree and deletes from the leaves up, `batch` nodes per transaction, or one by one when
/// that is not above zero.
///
/// # Errors
/// A list is refused, or in one-by-one mode a delete.
pub(crate) async fn delete_all(context: &Context, path: &str, batch: i32) -> Result<(), Failure> {
    // Where the server can do it at once, nobody sees a part of it. If it cannot or will not, the way of Apache's shell says
    // what is in the way.
    if batch > 0 && context.client.delete_at_once(path).await.is_ok() {
        return Ok(());
    }
    let mut subtree = list_subtree(context, path).await?;
    subtree.reverse();
    let Some(batch) = usize::try_from(batch).ok().filter(|batch| *batch > 0) else {
        for path in &subtree {
            context.client.delete(path, ANY).await?;
        }
        return Ok(());
    };
    let mut replies = VecDeque::new();
    let mut failed = false;
    for chunk in subtree.chunks(batch) {
        if replies.len() >= BATCHES_IN_FLIGHT {
            failed |= next_failed(&mut replies).await;
        }
        if failed {
            break;
        }
        let deletes =
            chunk.iter().fold(Transaction::new(), |deletes, path| deletes.delete(path.as_str(), ANY));
        replies.push_back(context.client.multi(deletes));
    }
    while !replies.is_empty() {
        failed |= next_failed(&mut replies).await;
    }
    if failed {
        context.output.note("Failed to delete some node(s) in the subtree!");
    }
    Ok(())
}

async fn next_failed<T>(replies: &mut VecDeque<Reply<T>>) -> bool {
    match replies.pop_front() {
        Some(reply) => reply.await.is_err(),
        None => false,
    }
}

/// A node and all below it, parents before their children.
async fn list_subtree(context: &Context, path: &str) -> Result<Vec<String>, Failure> {
    let mut subtree = vec![path.to_owned()];
    let mut listed = 0;
    while listed < subtree.len() {
        let until = subtree.len().min(listed + LISTS_IN_FLIGHT);
        let replies: Vec<Reply<Children>> =
            subtree[listed..until].iter().map(|path| context.client.get_children(path)).collect();
        for (at, reply) in (listed..until).zip(replies) {
            let names = match reply.await {
                Ok(children) => children.names,
                // Its list is larger than the server gives at once.
                Err(error) if error.code() == Some(ErrorCode::MARSHALLING_ERROR) => {
                    let mut pages = context.client.children_pages(&subtree[at], 0);
                    let mut names = Vec::new();
                    while let Some(page) = pages.next().await? {
                        names.extend(page);
                    }
                    names
                }
                Err(error) => return Err(error.into()),
            };
            for name in names {
                let child = docent::path::join(&subtree[at], &name);
                subtree.push(child);
            }
        }
        listed = until;
    }
    Ok(subtree)
}
