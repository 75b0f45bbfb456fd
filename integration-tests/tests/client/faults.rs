//! What the client promises when connections break and sessions end.

use super::*;

pub(crate) async fn watches_survive_a_reconnect(stage: Stage) -> Result<()> {
    let (client, other) = (stage.client().await?, stage.bystander().await?);
    for path in ["/w", "/w/gone", "/w/quiet"] {
        other.create(path, "").await?;
    }
    let (_, data) = client.get_data_and_watch("/w").await?;
    let (_, child) = client.get_children_and_watch("/w").await?;
    let (none, exists) = client.exists_and_watch("/w/new").await?;
    ensure!(none.is_none());
    let (_, deleted) = client.exists_and_watch("/w/gone").await?;
    let (_, quiet) = client.get_data_and_watch("/w/quiet").await?;
    let mut node = client.watch("/w", AddWatchMode::Persistent).await?;
    let mut tree = client.watch("/", AddWatchMode::PersistentRecursive).await?;

    // Changes that happen while the client is away.
    let session = client.session()?.id();
    let mut state = client.state();
    stage.proxy.refuse(true);
    stage.proxy.cut();
    within("suspension", state.wait_for(|state| matches!(state, ConnState::Suspended { .. }))).await?;
    other.set_data("/w", "changed", -1).await?;
    other.create("/w/new", "").await?;
    other.delete("/w/gone", -1).await?;
    stage.proxy.refuse(false);
    within("reconnect", state.wait_for(ConnState::is_connected)).await?;
    ensure!(client.session()?.id() == session, "the session is the same");

    for (watch, kind, path) in [
        (data, EventType::NodeDataChanged, "/w"),
        (child, EventType::NodeChildrenChanged, "/w"),
        (exists, EventType::NodeCreated, "/w/new"),
        (deleted, EventType::NodeDeleted, "/w/gone"),
    ] {
        let event = within(path, watch).await??;
        ensure!((event.kind, event.path.as_str()) == (kind, path), "{event:?}");
    }
    for watcher in [&mut node, &mut tree] {
        let item = within("the news of a reconnect", watcher.next()).await?;
        ensure!(item == Some(WatchItem::Reconnected), "{item:?}");
    }
    // They are set again, and the one-shot watch that had nothing to tell still waits.
    other.set_data("/w/quiet", "not any more", -1).await?;
    let event = within("the quiet one", quiet).await??;
    ensure!(event.kind == EventType::NodeDataChanged && event.path == "/w/quiet", "{event:?}");
    // What the server made up for after the reconnect is told to all who look at these nodes.
    let event_at = async |watcher: &mut docent::Watcher, path: &str| {
        while let Some(item) = watcher.next().await {
            if matches!(&item, WatchItem::Event(event) if event.path == path) {
                return Ok(());
            }
        }
        bail!("the watcher has ended");
    };
    within("an event of the tree", event_at(&mut tree, "/w/quiet")).await??;
    other.create("/w/last", "").await?;
    within("an event of the tree", event_at(&mut tree, "/w/last")).await??;
    within("an event of the node", event_at(&mut node, "/w")).await??;
    Ok(client.close().await?)
}

pub(crate) async fn an_expired_session_is_renewed(stage: Stage) -> Result<()> {
    let (client, other) = (stage.short_client().await?, stage.bystander().await?);
    let old = client.session()?;
    client.create("/e", "").ephemeral().await?;
    let (_, ends_with_the_session) = client.exists_and_watch("/nothing").await?;
    let mut stays = client.watch("/", AddWatchMode::PersistentRecursive).await?;
    let mut pinned = old.watch("/", AddWatchMode::PersistentRecursive).await?;
    let before = client.last_zxid();

    let mut state = client.state();
    let (_, gone) = other.exists_and_watch("/e").await?;
    stage.proxy.refuse(true);
    stage.proxy.cut();
    within("the end of the session", gone).await??;
    // These wait for a server.
    let (bound, free) = (old.get_data("/"), client.get_data("/"));
    stage.proxy.refuse(false);

    let mut seen = Vec::new();
    within("a new session", async {
        while !matches!(seen.last(), Some(ConnState::Connected { session, .. }) if *session != old.id()) {
            seen.push(state.changed().await);
        }
    })
    .await?;
    ensure!(
        seen.iter().all(|state| match state {
            ConnState::Suspended { session, .. } => *session == old.id(),
            ConnState::Lost { session, cause } => *session == old.id() && *cause == LossCause::Expired,
            ConnState::Connected { .. } => true,
            _ => false,
        }),
        "{seen:?}"
    );
    let ended = Error::SessionEnded { session: old.id() };
    ensure!(within("the watch of the old session", ends_with_the_session).await? == Err(ended.clone()));
    ensure!(within("the request of the old session", bound).await?.err() == Some(ended.clone()));
    ensure!(old.create("/late", "").await == Err(ended.clone()) && !old.is_current());
    ensure!(old.session_ready().await.is_err_and(|error| error == ended));
    within("a free request", free).await??;
    let item = within("the news of a new session", stays.next()).await?;
    ensure!(item == Some(WatchItem::NewSession), "{item:?}");
    ensure!(
        within("the end of the pinned watch", async { while pinned.next().await.is_some() {} }).await.is_ok()
    );
    ensure!(client.session_ready().await?.id() != old.id() && client.last_zxid() >= before);
    other.create("/f", "").await?;
    let item = within("an event in the new session", stays.next()).await?;
    ensure!(matches!(&item, Some(WatchItem::Event(event)) if event.path == "/f"), "{item:?}");
    Ok(client.close().await?)
}

pub(crate) async fn a_lost_answer_leaves_a_write_ambiguous(stage: Stage) -> Result<()> {
    let client = stage.client().await?;
    client.create("/a", "").await?;
    stage.proxy.drop_reply_of(OpCode::SetData, 1);
    let lost = within("the failure", client.set_data("/a", "applied", -1)).await?;
    ensure!(lost.as_ref().is_err_and(|error| error.may_have_applied() && error.is_retryable()), "{lost:?}");
    ensure!(client.get_data("/a").await?.bytes() == "applied", "the server had carried it out");

    // A read is sent again by itself.
    stage.proxy.drop_reply_of(OpCode::GetData, 2);
    client.get_data("/a").await?;
    within("the second attempt", client.get_data("/a")).await??;
    ensure!(stage.proxy.counts().swallowed == 2);

    // A write that was never sent waits.
    stage.proxy.refuse(true);
    stage.proxy.cut();
    within("suspension", client.state().wait_for(|state| !state.is_connected())).await?;
    let waiting = client.set_data("/a", "later", -1);
    stage.proxy.refuse(false);
    ensure!(within("the write", waiting).await??.version == 2, "sent once");

    let impatient = stage.builder().retry(Retry::none()).connect().await?;
    stage.proxy.refuse(true);
    stage.proxy.cut();
    within("suspension", impatient.state().wait_for(|state| !state.is_connected())).await?;
    let refused = impatient.set_data("/a", "never", -1).await;
    ensure!(
        matches!(&refused, Err(Error::ConnectionLoss { may_have_applied: false, op: OpCode::SetData, path }) if path == "/a"),
        "{refused:?}"
    );
    Ok(())
}

pub(crate) async fn closing_ends_the_session(stage: Stage) -> Result<()> {
    let other = stage.bystander().await?;
    let gone_within = |path: &'static str, watch: docent::OneshotWatch| async move {
        let begun = Instant::now();
        let event = within(path, watch).await??;
        ensure!(event.kind == EventType::NodeDeleted);
        ensure!(begun.elapsed() < LONG_SESSION / 2, "that was the timeout, not the close");
        Ok(())
    };
    let client = stage.client().await?;
    client.create("/e", "").ephemeral().await?;
    let (_, watch) = other.get_data_and_watch("/e").await?;
    let last = client.create("/last", "").send();
    within("the close", client.close()).await??;
    last.await.context("what was called before is carried out")?;
    gone_within("/e", watch).await?;
    ensure!(client.get_data("/").await == Err(Error::Closed) && client.close().await.is_ok());
    ensure!(matches!(client.state().current(), ConnState::Closed { .. }));

    let client = stage.client().await?;
    client.create("/f", "").ephemeral().await?;
    let (_, watch) = other.get_data_and_watch("/f").await?;
    drop(client);
    gone_within("/f", watch).await?;

    let client = stage.short_client().await?;
    stage.proxy.stall_up(true);
    let begun = Instant::now();
    let unanswered = within("the end of an unanswered close", client.close()).await?;
    ensure!(matches!(unanswered, Err(Error::Timeout { .. })), "{unanswered:?}");
    ensure!(begun.elapsed() < SHORT_SESSION, "a third of the timeout is the bound, not all of it");
    Ok(())
}

pub(crate) async fn a_session_is_resumed(stage: Stage) -> Result<()> {
    let first = stage.client().await?;
    first.create("/e", "").ephemeral().await?;
    let (session, password) = first.credentials().context("there is a session")?;
    let second = stage.builder().resume(session, password).connect().await?;
    ensure!(second.session()?.id() == session);
    ensure!(second.get_ephemerals("/").await? == ["/e"]);
    second.close().await?;
    let mut state = first.state();
    let lost = within(
        "the loss",
        state.wait_for(|state| matches!(state, ConnState::Connected { session: s, .. } if *s != session)),
    )
    .await?;
    ensure!(lost.is_some(), "the first client goes on in a session of its own");
    let third = stage.builder().resume(session, password).renew_session(false).connect().await;
    ensure!(third.is_err(), "the session has ended: {third:?}");
    Ok(())
}

/// Our packets are lost, the server's arrive: whoever relies on the lease stops before the server lets another in.
pub(crate) async fn the_lease_ends_before_the_session(stage: Stage) -> Result<()> {
    let (client, other) = (stage.short_client().await?, stage.bystander().await?);
    client.create("/held", "").ephemeral().await?;
    let hold = client.hold_lease();
    // Proofs keep coming, whatever else goes on: for longer than the first one could last.
    let begun = Instant::now();
    while begun.elapsed() < SHORT_SESSION * 5 / 4 {
        ensure!(client.lease().is_valid(), "{:?}", client.lease());
        client.get_data("/held").await?;
        // The pause of a bounded wait: ten seconds of proofs are watched.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, gone) = other.exists_and_watch("/held").await?;
    stage.proxy.stall_up(true);
    // When the lease has ended by its own word: it may be a while until it is looked at.
    let lease_end = async {
        loop {
            let lease = client.lease();
            if !lease.is_valid() {
                return lease.until.into_std();
            }
            // The pause of a bounded wait: a lease ends by itself.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let released = async { within("the end of the session", gone).await.map(|_| Instant::now()) };
    let (lease_end, released) = tokio::join!(lease_end, released);
    let released = released?;
    ensure!(lease_end < released, "the lease ended {:?} after the session", lease_end - released);
    drop(hold);
    Ok(())
}

pub(crate) async fn an_outage_costs_little(stage: Stage) -> Result<()> {
    let client = stage.client().await?;
    let mut state = client.state();
    stage.proxy.refuse(true);
    stage.proxy.cut();
    let before = stage.proxy.counts();
    // No bounded wait for something, but the outage itself.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let attempts = stage.proxy.counts().refused - before.refused;
    ensure!((3..40).contains(&attempts), "{attempts} attempts in 6 s");
    stage.proxy.refuse(false);
    within("reconnect", state.wait_for(ConnState::is_connected)).await?;
    // No bounded wait either: it is the time in which too much could be sent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let requests = stage.proxy.counts().requests - before.requests;
    ensure!(requests <= 3, "an idle client sent {requests} frames after the outage");
    client.get_data("/").await?;
    Ok(client.close().await?)
}
