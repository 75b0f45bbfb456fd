//! Persistent nodes: one node of one owner, whatever happens to connections, sessions, replies and the node itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, CreateMode, ErrorCode, OpCode, ParentMode, Retry, SessionId, Version, Zxid};
use docent_integration_tests::proxy::Proxy;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, children, drop_connections, eventually, expire,
    expire_if_any, heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Conflict, Error, Keep, KeptNode, KeptState, LossCause, Recipes, Released};
use docent_server::testing::TestServer;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    a_node_of_each_form_is_made_set_and_closed,
    a_deleted_node_is_made_anew,
    an_expired_node_is_made_anew_under_its_name,
    what_outlives_its_session_stays_as_it_is,
    what_outlives_its_session_is_closed_in_the_next,
    data_of_others_is_kept_or_restored,
    a_taken_name_fails_waits_or_is_taken_over,
    several_may_keep_one_persistent_node,
    a_time_to_live_is_renewed_and_disturbs_nobody,
    whatever_is_lost_there_is_one_node,
    cuts_and_deletes_and_expiries_leave_one_node,
    a_node_dropped_at_any_poll_is_gone,
    a_node_dropped_at_any_time_is_gone,
    a_loss_is_told_with_its_cause,
    a_closed_client_ends_everything,
];

on_every_server!("keep", SCENARIOS);

/// Longer than any scenario: no server sweeps it meanwhile.
const TTL: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Ephemeral,
    Sequential,
    Persistent,
    Ttl,
}

const FORMS: [Form; 4] = [Form::Ephemeral, Form::Sequential, Form::Persistent, Form::Ttl];

impl Form {
    fn ends_with_its_session(self) -> bool {
        matches!(self, Form::Ephemeral | Form::Sequential)
    }

    fn keep(self, client: &Client, ground: &Ground) -> Keep {
        // Each form has a folder of its own, so that whoever counts its children counts the nodes of one owner.
        let keep = client.keep(ground.path(&format!("{self:?}/n-"))).data("one");
        match self {
            Form::Ephemeral => keep,
            Form::Sequential => keep.sequential(),
            Form::Persistent => keep.persistent(),
            Form::Ttl => keep.ttl(TTL),
        }
    }

    async fn open(self, client: &Client, ground: &Ground) -> Result<KeptNode> {
        Ok(soon("the node", self.keep(client, ground).into_future()).await??)
    }

    /// The nodes there are: of one owner never more than one.
    async fn nodes(self, client: &Client, ground: &Ground) -> Result<Vec<String>> {
        let nodes = children(client, &ground.path(&format!("{self:?}"))).await?;
        ensure!(nodes.len() <= 1, "{self:?}: one owner has {nodes:?}");
        Ok(nodes)
    }

    async fn gone(self, client: &Client, ground: &Ground) -> Result<()> {
        eventually("gone", async || Ok(self.nodes(client, ground).await?.is_empty())).await?;
        ground.nothing_left(client).await
    }
}

/// Deletes a node with what carries its time to live, which its owner may make again in between.
async fn delete(client: &Client, path: &str) -> Result<()> {
    eventually("deleted", async || {
        for path in [format!("{path}/touch"), path.to_owned()] {
            match client.delete(&path, Version::ANY).await {
                Err(error) if error.code() == Some(ErrorCode::NOT_EMPTY) => return Ok(false),
                Err(error) if error.code() != Some(ErrorCode::NO_NODE) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(true)
    })
    .await
}

async fn made_after(client: &Client, path: &str, before: Zxid) -> Result<()> {
    eventually("made anew", async || Ok(client.exists(path).await?.is_some_and(|stat| stat.czxid > before)))
        .await
}

async fn czxid(client: &Client, path: &str) -> Result<Zxid> {
    Ok(client.exists(path).await?.with_context(|| format!("{path} is not there"))?.czxid)
}

async fn a_node_of_each_form_is_made_set_and_closed(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for form in FORMS {
        let node = form.open(&client, &ground).await?;
        let seen = client.get_data(node.path()).await?;
        let owner = if form.ends_with_its_session() { client.session()?.id() } else { SessionId::NONE };
        ensure!(seen.bytes() == "one" && seen.stat.ephemeral_owner == owner, "{form:?} {seen:?}");
        let state = node.state().borrow().clone();
        ensure!(
            matches!(state, KeptState::Exists { session, czxid } if session == owner && czxid == seen.stat.czxid),
            "{form:?} {state:?}"
        );
        let (_, name) = node.path().rsplit_once('/').context("a name")?;
        if form == Form::Sequential {
            let number = name.strip_prefix("_c_").and_then(|name| name.get(36..)?.strip_prefix("-n-"));
            ensure!(number == Some("0000000000"), "{name} is not as Curator names it");
        } else {
            ensure!(name == "n-", "{name}");
        }
        let below = children(&client, node.path()).await?;
        ensure!(below == if form == Form::Ttl { vec!["touch"] } else { vec![] }, "{form:?} {below:?}");

        node.set_data("two").await?;
        ensure!(client.get_data(node.path()).await?.bytes() == "two");
        let mut state = node.state();
        ensure!(soon("closing", node.close()).await?? == Released::Deleted, "{form:?}");
        ensure!(matches!(*state.borrow_and_update(), KeptState::Closed));
        form.gone(&client, &ground).await?;
        // Dropping says no more, but does the same.
        drop(form.open(&client, &ground).await?);
        form.gone(&client, &ground).await?;
    }
    Ok(())
}

async fn a_deleted_node_is_made_anew(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    for form in FORMS {
        let node = form.open(&client, &ground).await?;
        node.set_data("two").await?;
        let mut state = node.state();
        for _ in 0..3 {
            let before = czxid(&admin, node.path()).await?;
            delete(&admin, node.path()).await?;
            made_after(&admin, node.path(), before).await?;
            ensure!(admin.get_data(node.path()).await?.bytes() == "two", "{form:?}: not the newest data");
            let again =
                |state: &KeptState| matches!(state, KeptState::Exists { czxid, .. } if *czxid > before);
            soon("told", state.wait_for(again)).await??;
        }
        // With the whole folder.
        let before = czxid(&admin, node.path()).await?;
        delete(&admin, node.path()).await?;
        let _gone_or_back_already = admin.delete(ground.path(&format!("{form:?}")), Version::ANY).await;
        made_after(&admin, node.path(), before).await?;
        node.close().await?;
        form.gone(&admin, &ground).await?;
    }
    Ok(())
}

async fn an_expired_node_is_made_anew_under_its_name(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    for form in [Form::Ephemeral, Form::Sequential] {
        let node = form.open(&client, &ground).await?;
        node.set_data("two").await?;
        let (path, mut state) = (node.path().to_owned(), node.state());
        for _ in 0..3 {
            let before = czxid(&other, &path).await?;
            state.borrow_and_update();
            let ended = expire(&ground.connect, &client).await?;
            made_after(&other, &path, before).await?;
            let seen = other.get_data(&path).await?;
            ensure!(seen.bytes() == "two" && seen.stat.ephemeral_owner != ended, "{form:?} {seen:?}");
            let again =
                |state: &KeptState| matches!(state, KeptState::Exists { session, .. } if *session != ended);
            soon("told", state.wait_for(again)).await??;
            ensure!(form.nodes(&other, &ground).await?.len() == 1 && node.path() == path);
        }
        node.close().await?;
        form.gone(&other, &ground).await?;
    }
    Ok(())
}

async fn what_outlives_its_session_stays_as_it_is(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    for form in [Form::Persistent, Form::Ttl] {
        let node = form.open(&client, &ground).await?;
        let before = czxid(&other, node.path()).await?;
        let mut state = node.state();
        state.borrow_and_update();
        expire(&ground.connect, &client).await?;
        // It is kept in the new session too.
        node.set_data("two").await?;
        ensure!(czxid(&other, node.path()).await? == before, "{form:?} was made anew");
        ensure!(!state.has_changed()?, "{form:?}: {:?} was told", *state.borrow());
        delete(&other, node.path()).await?;
        made_after(&other, node.path(), before).await?;
        ensure!(soon("closing", node.close()).await?? == Released::Deleted, "{form:?}");
        form.gone(&other, &ground).await?;

        // What a program that died has left behind is kept by the next one.
        let dying = ground.client().await?;
        let left = form.open(&dying, &ground).await?;
        let (path, before) = (left.path().to_owned(), czxid(&other, left.path()).await?);
        dying.close().await?;
        ensure!(left.close().await.is_err(), "{form:?}: nobody can have deleted it");
        let node = form.keep(&client, &ground).data("mine").await?;
        eventually("our data", async || Ok(other.get_data(&path).await?.bytes() == "mine")).await?;
        ensure!(czxid(&other, &path).await? == before);
        node.close().await?;
        form.gone(&other, &ground).await?;
    }
    Ok(())
}

async fn what_outlives_its_session_is_closed_in_the_next(ground: Ground) -> Result<()> {
    let other = ground.client().await?;
    for form in [Form::Persistent, Form::Ttl] {
        let (client, proxy) = ground.proxied(SHORT_SESSION).await?;
        let node = form.open(&client, &ground).await?;
        drop_connections(&proxy);
        drop(node);
        let witness = client.keep(ground.path("witness"));
        ensure!(form.nodes(&other, &ground).await?.len() == 1);
        // The delete cannot have been sent; its session ends on the server before it can be.
        expire(&ground.connect, &client).await?;
        heal(&proxy);
        form.gone(&other, &ground).await?;
        drop(witness);
    }
    Ok(())
}

async fn data_of_others_is_kept_or_restored(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let keeps = client.keep(ground.path("keeps")).data("ours").await?;
    let restores = client.keep(ground.path("restores")).data("ours").restore_data(true).await?;
    client.set_data(keeps.path(), "other", Version::ANY).await?;
    client.set_data(restores.path(), "other", Version::ANY).await?;
    eventually("restored", async || Ok(client.get_data(restores.path()).await?.bytes() == "ours")).await?;
    ensure!(client.get_data(keeps.path()).await?.bytes() == "other");
    keeps.set_data("new").await?;
    ensure!(client.get_data(keeps.path()).await?.bytes() == "new");
    drop((keeps, restores));
    ground.nothing_left(&client).await
}

async fn a_taken_name_fails_waits_or_is_taken_over(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let (mine, theirs) = (client.session()?.id(), other.session()?.id());
    let path = ground.path("taken");
    for keep in [client.keep(&path), client.keep(&path).persistent(), client.keep(&path).ttl(TTL)] {
        let first = other.keep(&path).data("theirs").await?;
        let failed = keep.clone().await;
        ensure!(matches!(&failed, Err(Error::Conflict { owner, .. }) if *owner == theirs), "{failed:?}");
        ensure!(other.get_data(&path).await?.stat.version == 0, "the other's node was touched");
        let waiting = tokio::spawn(keep.clone().on_conflict(Conflict::Wait).into_future());
        eventually("waiting", async || Ok(ground.watches().await?.contains(&path))).await?;
        first.close().await?;
        soon("the name", waiting).await???.close().await?;

        let first = other.keep(&path).on_conflict(Conflict::Wait).await?;
        let taken = keep.clone().on_conflict(Conflict::TakeOver).data("mine").await?;
        let seen = other.get_data(&path).await?;
        ensure!(seen.bytes() == "mine" && seen.stat.ephemeral_owner != theirs, "{seen:?}");
        let mut state = first.state();
        let waits = |state: &KeptState| matches!(state, KeptState::Waiting { owner } if *owner != theirs);
        soon("waiting", state.wait_for(waits)).await??;
        taken.close().await?;
        soon("there again", state.wait_for(KeptState::exists)).await??;
        first.close().await?;
    }
    // A node that is not ephemeral has no owner who could give it up, and one of our own session is a conflict too.
    client.create_parents(&path, ParentMode::Container).await?;
    client.create(&path, "").mode(CreateMode::Persistent).await?;
    ensure!(matches!(client.keep(&path).await, Err(Error::Conflict { owner: SessionId::NONE, .. })));
    client.delete(&path, Version::ANY).await?;
    let first = client.keep(&path).await?;
    ensure!(matches!(client.keep(&path).await, Err(Error::Conflict { owner, .. }) if owner == mine));
    drop(first);
    ground.nothing_left(&client).await
}

async fn several_may_keep_one_persistent_node(ground: Ground) -> Result<()> {
    let (one, two) = (ground.client().await?, ground.client().await?);
    for form in [Form::Persistent, Form::Ttl] {
        let (a, b) = (form.open(&one, &ground).await?, form.open(&two, &ground).await?);
        let before = czxid(&one, a.path()).await?;
        ensure!(form.nodes(&one, &ground).await?.len() == 1);
        // Both have renewed the time to live that it begins with; one who does it while the other closes is in the way.
        let touch = format!("{}/touch", a.path());
        eventually("touched by both", async || {
            Ok(form != Form::Ttl || one.exists(&touch).await?.is_some_and(|stat| stat.version >= 2))
        })
        .await?;
        // It is there while one keeps it: the other makes it anew.
        a.close().await?;
        made_after(&one, b.path(), before).await?;
        b.close().await?;
        form.gone(&one, &ground).await?;
    }
    Ok(())
}

async fn a_time_to_live_is_renewed_and_disturbs_nobody(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let node = client.keep(ground.path("ttl")).ttl(Duration::from_secs(3)).data("one").await?;
    let (before, mut watch) = other.get_data_and_watch(node.path()).await?;
    let touch = format!("{}/touch", node.path());
    eventually("touched", async || Ok(other.exists(&touch).await?.is_some_and(|stat| stat.version >= 3)))
        .await?;
    // What somebody has put below stays, and keeps a server from sweeping the node in the next moment.
    other.create(format!("{}/theirs", node.path()), "").await?;
    // A child that is deleted is made again in time.
    let gone = czxid(&other, &touch).await?;
    other.delete(&touch, Version::ANY).await?;
    made_after(&other, &touch, gone).await?;
    let after = other.get_data(node.path()).await?;
    ensure!(after.stat.mzxid == before.stat.mzxid, "the node was set");
    ensure!(polled(1, &mut watch).await.is_none(), "whoever watches the node was woken");
    drop(watch);
    // It is in the way, and we say so.
    let pending = node.close().await.err().context("a node with children cannot be deleted")?;
    ensure!(pending.to_string().contains("not empty"), "{pending}");
    ensure!(other.exists(&touch).await?.is_none(), "the time to live was kept up");
    delete(&other, &ground.path("ttl/theirs")).await?;
    ground.nothing_left(&other).await
}

/// A whole life of a node, once for each message that a life can lose: its request, or its reply.
async fn whatever_is_lost_there_is_one_node(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    const OPS: [OpCode; 7] = [
        OpCode::Create2,
        OpCode::Multi,
        OpCode::GetData,
        OpCode::SetData,
        OpCode::Exists,
        OpCode::GetChildren2,
        OpCode::Delete,
    ];
    let mut lost = 0;
    for form in FORMS {
        // The folder is there, so that the first create is one that makes the node.
        form.open(&client, &ground).await?.close().await?;
        for op in OPS {
            for request in [false, true] {
                let before = proxy.counts().swallowed;
                let lose =
                    |nth| if request { proxy.drop_request_of(op, nth) } else { proxy.drop_reply_of(op, nth) };
                lose(1);
                let node = form.open(&client, &ground).await?;
                ensure!(form.nodes(&other, &ground).await?.len() == 1, "{form:?} {op:?}");
                let told = matches!(*node.state().borrow(), KeptState::Exists { czxid: told, .. }
                    if told == czxid(&other, node.path()).await?);
                ensure!(told, "{form:?} {op:?}: another node is told of");
                soon("the data", node.set_data("two")).await??;
                ensure!(other.get_data(node.path()).await?.bytes() == "two", "{form:?} {op:?}");
                soon("closing", node.close()).await??;
                form.gone(&other, &ground).await?;
                lost += proxy.counts().swallowed - before;
            }
        }
    }
    ensure!(lost >= 24, "only {lost} messages were lost");
    Ok(())
}

async fn cuts_and_deletes_and_expiries_leave_one_node(ground: Ground) -> Result<()> {
    let other = ground.client().await?;
    for form in FORMS {
        let (client, proxy) = ground.proxied(LONG_SESSION).await?;
        let mut node = form.open(&client, &ground).await?;
        let until = Instant::now() + Duration::from_secs(5);
        let mut round = 0;
        while Instant::now() < until {
            round += 1;
            match fastrand::u8(0..8) {
                0 => drop(expire_if_any(&ground.connect, &client).await?),
                1 => delete(&other, node.path()).await?,
                2 => {
                    drop(node);
                    form.gone(&other, &ground).await?;
                    // One that was dropped while its connection broke may be made first, and deleted then.
                    let again = form.keep(&client, &ground).on_conflict(Conflict::Wait);
                    node = soon("the node", again.into_future()).await??;
                }
                3 => {
                    let data = round.to_string();
                    soon("the data", node.set_data(data)).await??;
                }
                _ => proxy.cut(),
            }
            // Never two, also not for a moment.
            form.nodes(&other, &ground).await?;
        }
        soon("the data", node.set_data("last")).await??;
        eventually("there with the newest data", async || match other.get_data(node.path()).await {
            Ok(seen) => Ok(seen.bytes() == "last" && form.nodes(&other, &ground).await?.len() == 1),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(false),
            Err(error) => Err(error.into()),
        })
        .await?;
        drop(node);
        form.gone(&other, &ground).await?;
    }
    Ok(())
}

async fn a_node_dropped_at_any_poll_is_gone(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for form in FORMS {
        let mut done = false;
        for polls in 0..1_000 {
            let opening = form.keep(&client, &ground).into_future();
            done = polled(polls, opening).await.transpose()?.is_some();
            form.gone(&client, &ground).await.with_context(|| format!("{form:?} after {polls} polls"))?;
            if done {
                break;
            }
        }
        ensure!(done, "{form:?} was never made");
    }
    Ok(())
}

async fn a_node_dropped_at_any_time_is_gone(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for form in FORMS {
        for _ in 0..60 {
            let limit = Duration::from_micros(fastrand::u64(0..4_000));
            let opening = form.keep(&client, &ground).on_conflict(Conflict::Wait).into_future();
            if let Ok(node) = tokio::time::timeout(limit, opening).await {
                drop(node?);
            }
        }
        eventually("gone", async || {
            Ok(children(&client, &ground.path(&format!("{form:?}"))).await?.is_empty())
        })
        .await?;
        form.open(&client, &ground).await?.close().await?;
        form.gone(&client, &ground).await?;
    }
    Ok(())
}

async fn a_loss_is_told_with_its_cause(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let node = client.keep(ground.path("n")).await?;
    let mut state = node.state();
    for wanted in [LossCause::NodeDeleted, LossCause::SessionEnded] {
        // The newest state alone is seen, so the way back waits until the loss is.
        proxy.hold_requests_of(Some(OpCode::Create2));
        match wanted {
            LossCause::NodeDeleted => delete(&other, node.path()).await?,
            _ => drop(expire(&ground.connect, &client).await?),
        }
        let lost = |state: &KeptState| matches!(state, KeptState::Lost { cause } if *cause == wanted);
        soon("the loss", state.wait_for(lost)).await??;
        proxy.hold_requests_of(None);
        soon("there again", state.wait_for(KeptState::exists)).await??;
    }
    node.close().await?;
    ground.nothing_left(&other).await
}

async fn a_closed_client_ends_everything(ground: Ground) -> Result<()> {
    for form in FORMS {
        let client = ground.client().await?;
        let node = form.open(&client, &ground).await?;
        client.close().await?;
        let mut state = node.state();
        soon("the end", state.wait_for(|state| matches!(state, KeptState::Failed(Error::Closed)))).await??;
        ensure!(matches!(node.set_data("two").await, Err(Error::Closed)));
        // What outlives the session cannot be deleted any more, and that is said.
        ensure!(node.close().await.is_ok() == form.ends_with_its_session(), "{form:?}");
        let other = ground.client().await?;
        let left = form.nodes(&other, &ground).await?.len();
        ensure!(left == usize::from(!form.ends_with_its_session()), "{form:?}: {left} nodes");
        ground.nothing_left(&other).await?;
    }
    Ok(())
}

/// On a server that sweeps often: a node with a time to live stays while it is kept, however often its connection breaks,
/// and goes when its owner has died without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_time_to_live_runs_out_when_nobody_keeps_it() -> Result<()> {
    let server = TestServer::start_with(|config| config.nodes.sweep_interval_ms = 50).await?;
    let ground = Ground { connect: server.connect_string(), root: "/swept".into() };
    let other = ground.client().await?;
    let proxy = Proxy::start(server.connect_string().parse()?).await?;
    // It comes back soon after each cut, so that a third of the time to live, after which it is renewed, and a machine that
    // stands still for a while are all that passes between two renewals.
    let retry = Retry::exponential(Duration::from_millis(50), Duration::from_millis(200));
    let builder = Client::builder(proxy.connect_string()).session_timeout(LONG_SESSION).retry(retry);
    let client = builder.connect().await?;
    let node = client.keep(ground.path("ttl")).ttl(Duration::from_secs(9)).await?;
    let before = czxid(&other, node.path()).await?;
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        ensure!(czxid(&other, node.path()).await? == before, "it was swept");
        proxy.cut();
        // A bounded wait, until the time to live would have run out twice.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    drop_connections(&proxy);
    eventually("swept", async || Ok(other.exists(ground.path("ttl")).await?.is_none())).await?;
    // Its owner comes back, and with it the node.
    heal(&proxy);
    made_after(&other, &ground.path("ttl"), before).await?;
    let mut state = node.state();
    let again = |state: &KeptState| matches!(state, KeptState::Exists { czxid, .. } if *czxid > before);
    soon("told", state.wait_for(again)).await??;
    node.close().await?;
    ground.nothing_left(&other).await
}
