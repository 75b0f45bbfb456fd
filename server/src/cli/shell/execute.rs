//! Commands carried out: requests to the server, and their results printed.

use std::sync::Arc;
use std::time::Duration;

use docent::{AddWatchMode, Client, CreateMode, ErrorCode, Version, WatcherKind};
use jiff::tz::TimeZone;

use super::command::{Command, NodeKind};
use super::failure::Failure;
use super::output::Output;
use super::watches::{Kind, Watches};
use super::{quota_commands, text, tree};

/// The node that holds the ensemble's configuration.
const CONFIG_NODE: &str = "/zookeeper/config";
/// How long `sync` waits, as in Apache's shell.
const SYNC_MAX: Duration = Duration::from_secs(30);

/// What commands need to run.
pub(crate) struct Context {
    /// The connection.
    pub(crate) client: Client,
    /// Where results go.
    pub(crate) output: Arc<Output>,
    /// Where watches are kept.
    pub(crate) watches: Watches,
    /// The zone that times are shown in.
    pub(crate) zone: TimeZone,
}

type Done = Result<(), Failure>;

/// Carries a command out. Commands about the shell itself are its own affair and do nothing here.
/// This is a flat dispatch: one arm per command.
///
/// # Errors
/// What the shell must say about it.
pub(crate) async fn execute(context: &Context, command: Command) -> Done {
    let Context { client, output, .. } = context;
    match command {
        Command::AddAuth { scheme, auth } => {
            // A refusal closes the client, which its own event tells.
            let _told_by_its_event = client.add_auth(scheme, auth.unwrap_or_default()).await;
        }
        Command::AddWatch { path, mode } => add_watch(context, &path, mode).await?,
        Command::Config { stat, watch, client_string } => config(context, stat, watch, client_string).await?,
        Command::Create { .. } => create(context, command).await?,
        Command::Delete { path, version } => client.delete(path, version).await?,
        Command::DeleteAll { path, batch } => tree::delete_all(context, &path, batch).await?,
        Command::DelQuota { path, limit } => quota_commands::delete(context, &path, limit).await?,
        Command::Get { path, stat, watch, format } => {
            let node = if watch {
                let (node, left) = client.get_data_and_watch(&path).await?;
                context.watches.keep_oneshot(Kind::Data, &path, left);
                node
            } else {
                client.get_data(&path).await?
            };
            output.result(&text::data(node.data.as_deref(), format));
            print_stat(context, stat.then_some(&node.stat));
        }
        Command::GetAcl { path, stat } => {
            let (entries, found) = client.get_acl(path).await?;
            output.result(&text::acl(&entries));
            print_stat(context, stat.then_some(&found));
        }
        Command::GetAllChildrenNumber { path } => {
            let number = client.get_all_children_number(path).await?;
            output.result(&format!("{number}\n"));
        }
        Command::GetEphemerals { prefix } => {
            let paths = client.get_ephemerals(prefix.as_deref().unwrap_or("/")).await?;
            output.result(&text::list(&paths));
        }
        Command::ListQuota { path } => quota_commands::list(context, &path).await?,
        Command::Ls { path, watch, recursive: true, .. } => tree::list_all(context, &path, watch).await?,
        Command::Ls { path, stat, watch, recursive: false } => {
            let children = if watch {
                let (children, left) = client.get_children_and_watch(&path).await?;
                context.watches.keep_oneshot(Kind::Children, &path, left);
                children
            } else {
                client.get_children(&path).await?
            };
            output.result(&text::list(&children.names));
            print_stat(context, stat.then_some(&children.stat));
        }
        Command::Reconfig { change, stat } => {
            let node = client.reconfig(change).await?;
            let config = String::from_utf8_lossy(&node.bytes()).into_owned();
            output.result(&format!("Committed new configuration:\n{config}\n"));
            print_stat(context, stat.then_some(&node.stat));
        }
        Command::RemoveWatches { path, kind } => remove_watches(context, &path, kind).await?,
        Command::Set { path, data, version, stat } => {
            let found = client.set_data(path, data, version).await?;
            print_stat(context, stat.then_some(&found));
        }
        Command::SetAcl { path, acl, version, recursive, stat } => {
            if acl.is_empty() {
                return Err(text::refusal(ErrorCode::INVALID_ACL, None).into());
            }
            if recursive {
                return tree::set_acl_all(context, &path, acl, version).await;
            }
            let found = client.set_acl(path, acl, version).await?;
            print_stat(context, stat.then_some(&found));
        }
        Command::SetQuota { path, wish } => quota_commands::set(context, &path, wish).await?,
        Command::Stat { path, watch } => {
            let found = if watch {
                let (found, left) = client.exists_and_watch(&path).await?;
                context.watches.keep_oneshot(Kind::Data, &path, left);
                found
            } else {
                client.exists(&path).await?
            };
            let found = found.ok_or_else(|| text::refusal(ErrorCode::NO_NODE, Some(&path)))?;
            print_stat(context, Some(&found));
        }
        Command::Sync { path } => sync(context, path).await?,
        Command::Version => {
            output.result(&format!("ZooKeeper CLI version: docent {}\n", env!("CARGO_PKG_VERSION")));
        }
        Command::WhoAmI => output.result(&text::identities(&client.who_am_i().await?)),
        Command::Close
        | Command::Connect { .. }
        | Command::Help
        | Command::History
        | Command::PrintWatches { .. }
        | Command::Quit
        | Command::Redo { .. } => {}
    }
    Ok(())
}

/// Prints a Stat, if one is wanted.
fn print_stat(context: &Context, stat: Option<&docent::Stat>) {
    if let Some(stat) = stat {
        context.output.result(&text::stat(stat, &context.zone));
    }
}

async fn add_watch(context: &Context, path: &str, mode: AddWatchMode) -> Done {
    let watcher = context.client.watch(path, mode).await?;
    context.watches.keep_persistent(mode, path, watcher);
    Ok(())
}

async fn remove_watches(context: &Context, path: &str, kind: WatcherKind) -> Done {
    Ok(context.client.remove_watches(path, kind).await?)
}

async fn config(context: &Context, stat: bool, watch: bool, client_string: bool) -> Done {
    // A handle with a chroot cannot name the node, so there the watch is left out.
    let node = if watch && context.client.chroot() == "/" {
        let (node, left) = context.client.get_data_and_watch(CONFIG_NODE).await?;
        context.watches.keep_oneshot(Kind::Data, CONFIG_NODE, left);
        node
    } else {
        context.client.get_config().await?
    };
    let config = text::data(node.data.as_deref(), text::DataFormat::Plain);
    if client_string {
        context.output.result(&format!("{}\n", text::client_config(&config)));
    } else {
        context.output.result(&config);
    }
    print_stat(context, stat.then_some(&node.stat));
    Ok(())
}

async fn create(context: &Context, command: Command) -> Done {
    let Command::Create { path, data, acl, kind, sequential } = command else { return Ok(()) };
    let invalid_acl = |path: Option<&str>| {
        context.output.note(&text::keeper_error(ErrorCode::INVALID_ACL, path));
        Failure::from(text::refusal(ErrorCode::INVALID_ACL, path))
    };
    if acl.is_empty() {
        return Err(invalid_acl(None));
    }
    let mode = match kind {
        NodeKind::Persistent => CreateMode::Persistent,
        NodeKind::Ephemeral => CreateMode::Ephemeral,
        NodeKind::Container => CreateMode::Container,
        NodeKind::Ttl(millis) => CreateMode::Ttl(Duration::from_millis(millis)),
    };
    let mode = if sequential { mode.sequential() } else { mode };
    let null = data.is_none();
    let mut request = context.client.create(&path, data.unwrap_or_default()).mode(mode).acl(acl);
    if null {
        request = request.null_data();
    }
    match request.send().await {
        Ok(created) => context.output.note(&format!("Created {}", created.path)),
        Err(error) if error.code() == Some(ErrorCode::INVALID_ACL) => return Err(invalid_acl(Some(&path))),
        Err(error) => {
            if error.code() == Some(ErrorCode::EPHEMERAL_ON_LOCAL_SESSION) {
                context.output.note("Unable to create ephemeral node on a local session");
            }
            return Err(error.into());
        }
    }
    Ok(())
}

async fn sync(context: &Context, path: String) -> Done {
    match tokio::time::timeout(SYNC_MAX, context.client.sync(path)).await {
        Ok(Ok(())) => context.output.result("Sync is OK\n"),
        Ok(Err(error)) => match error.code() {
            Some(code) => context.output.result(&format!("Sync has failed. rc={}\n", code.0)),
            None => return Err(error.into()),
        },
        Err(_) => return Err(format!("no answer within {} seconds", SYNC_MAX.as_secs()).into()),
    }
    Ok(())
}

/// Any version of a node: what bulk commands delete and set.
pub(crate) const ANY: Version = Version::ANY;
