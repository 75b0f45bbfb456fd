//! The quota commands: they write and read plain nodes below `/zookeeper/quota`, which the server looks at.

use docent::{Error, ErrorCode};

use super::command::QuotaWish;
use super::execute::{ANY, Context};
use super::failure::Failure;
use super::path_check::check;
use super::quota::{LIMITS, Limit, QuotaText, ROOT, folder, limits, usage};

type Done = Result<(), Failure>;

fn is_missing(error: &Error) -> bool {
    error.code() == Some(ErrorCode::NO_NODE)
}

/// `setquota`.
///
/// # Errors
/// The node does not exist, a node above or below has a quota, or a request is refused.
pub(crate) async fn set(context: &Context, path: &str, wish: QuotaWish) -> Done {
    if path.starts_with(ROOT) {
        context.output.note(&format!("cannot set a quota under the path: {ROOT}"));
        return Ok(());
    }
    let (limit, number) = match wish {
        QuotaWish::Set(limit, number) => (limit, number),
        QuotaWish::Refused(why) => {
            context.output.note(why);
            return Ok(());
        }
    };
    check(path, false)?;
    if context.client.exists(path).await?.is_none() {
        return Err(format!("{path} does not exist.").into());
    }
    refuse_quota_below(context, path).await?;
    refuse_quota_above(context, path).await?;
    make_folders(context, path).await?;
    write(context, path, limit, number).await
}

/// Only one quota may lie on the way from a node to the root: here the part below.
async fn refuse_quota_below(context: &Context, path: &str) -> Done {
    let top = folder(path);
    let mut unvisited = vec![top.clone()];
    while let Some(quota) = unvisited.pop() {
        let names = match context.client.get_children(&quota).await {
            Ok(children) => children.names,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        if quota != top && names.iter().any(|name| name == LIMITS) {
            return Err(format!("{path} has a child {} which has a quota", &quota[ROOT.len()..]).into());
        }
        unvisited.extend(names.iter().rev().map(|name| docent::path::join(&quota, name)));
    }
    Ok(())
}

async fn refuse_quota_above(context: &Context, path: &str) -> Done {
    let mut quota = ROOT.to_owned();
    let elements: Vec<&str> = path.split('/').skip(1).collect();
    for element in elements.iter().take(elements.len().saturating_sub(1)) {
        quota = docent::path::join(&quota, element);
        match context.client.get_children(&quota).await {
            Ok(children) if children.names.iter().any(|name| name == LIMITS) => {
                return Err(format!("{path} has a parent {} which has a quota", &quota[ROOT.len()..]).into());
            }
            Ok(_) => {}
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn make_folders(context: &Context, path: &str) -> Done {
    let mut quota = ROOT.to_owned();
    for element in path.split('/').filter(|element| !element.is_empty()) {
        quota = docent::path::join(&quota, element);
        // Asked first, because a create that is refused takes a zxid, too.
        if context.client.exists(&quota).await?.is_some() {
            continue;
        }
        match context.client.create(&quota, "").null_data().send().await {
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::NODE_EXISTS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn write(context: &Context, path: &str, limit: Limit, number: i64) -> Done {
    let (limits, usage) = (limits(path), usage(path));
    let exists = context.client.exists(&limits).await?.is_some();
    let mut text = if exists {
        QuotaText::parse(&context.client.get_data(&limits).await?.bytes())
    } else {
        QuotaText::unlimited()
    };
    text.set(limit, number);
    if !exists {
        context.client.create(&limits, text.to_string()).send().await?;
        context.client.create(&usage, QuotaText::unused().to_string()).send().await?;
    }
    let used = QuotaText::parse(&context.client.get_data(&usage).await?.bytes());
    for warning in text.warnings(&used) {
        context.output.result(&format!("{warning}\n"));
    }
    if exists {
        context.client.set_data(&limits, text.to_string(), ANY).await?;
    }
    Ok(())
}

/// `listquota`.
///
/// # Errors
/// A read is refused; a quota that does not exist is told, and no error.
pub(crate) async fn list(context: &Context, path: &str) -> Done {
    context.output.note(&format!("absolute path is {}", limits(path)));
    let read =
        async |node: String| context.client.get_data(node).await.map(|node| QuotaText::parse(&node.bytes()));
    let found = match read(limits(path)).await {
        Ok(limits) => read(usage(path)).await.map(|used| (limits, used)),
        Err(error) => Err(error),
    };
    match found {
        Ok((limits, used)) => {
            context
                .output
                .result(&format!("Output quota for {path} {limits}\nOutput stat for {path} {used}\n"));
            Ok(())
        }
        Err(error) if is_missing(&error) => {
            context.output.note(&format!("quota for {path} does not exist."));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// `delquota`: one limit, or the whole quota with the folders that nothing else needs.
///
/// # Errors
/// A request is refused; a quota that does not exist is told, and no error.
pub(crate) async fn delete(context: &Context, path: &str, limit: Option<Limit>) -> Done {
    check(&limits(path), false)?;
    if context.client.exists(limits(path)).await?.is_none() {
        context.output.result(&format!("Quota does not exist for {path}\n"));
        return Ok(());
    }
    match delete_existing(context, path, limit).await {
        Err(error) if is_missing(&error) => {
            context.output.note(&format!("quota for {path} does not exist."));
            Ok(())
        }
        other => Ok(other?),
    }
}

async fn delete_existing(context: &Context, path: &str, limit: Option<Limit>) -> Result<(), Error> {
    let client = &context.client;
    let mut text = QuotaText::parse(&client.get_data(limits(path)).await?.bytes());
    if let Some(limit) = limit {
        text.set(limit, -1);
        client.set_data(limits(path), text.to_string(), ANY).await?;
        return Ok(());
    }
    let mut folder = folder(path);
    for name in client.get_children(&folder).await?.names {
        client.delete(docent::path::join(&folder, &name), ANY).await?;
    }
    while folder != ROOT && client.get_children(&folder).await?.names.is_empty() {
        client.delete(&folder, ANY).await?;
        folder = docent::path::parent(&folder).unwrap_or(ROOT).to_owned();
    }
    Ok(())
}
