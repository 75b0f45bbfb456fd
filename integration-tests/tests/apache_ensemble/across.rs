//! Docent under a leader of Apache and over its followers: what clients of one see of the other.

use anyhow::{Context as _, Result, ensure};
use docent::{Client, Version};
use docent_integration_tests::backend::Backend::{Apache38, ApacheNewer, DocentBinary};
use docent_integration_tests::ensemble::{Ensemble, Role, Seat};
use docent_integration_tests::proxy::Proxy;
use docent_integration_tests::recipe_kit::{LONG_SESSION, connect, drop_connections, eventually, soon};

use super::begin;

pub(crate) async fn at(servers: &Ensemble, id: u64) -> Result<Client> {
    connect(&servers.address(id)?.to_string(), LONG_SESSION).await.with_context(|| format!("at member {id}"))
}

/// Writes at each of these members, so many times.
async fn write_at(servers: &Ensemble, ids: &[u64], path: &str, times: u32) -> Result<()> {
    for id in ids {
        let client = at(servers, *id).await?;
        client.create(format!("{path}-{id}"), "").await.with_context(|| format!("at member {id}"))?;
        let sets = (0..times)
            .map(|number| client.set_data(format!("{path}-{id}"), number.to_string(), Version::ANY));
        let sets: Vec<_> = sets.collect();
        for set in sets {
            soon("a write", set).await?.with_context(|| format!("at member {id}"))?;
        }
        client.close().await?;
    }
    Ok(())
}

/// A client at `one` and a client at `other` see each other's ephemeral nodes, and their watches fire for each other.
async fn watches_and_ephemerals(servers: &Ensemble, one: u64, other: u64, path: &str) -> Result<()> {
    let (left, right) = (at(servers, one).await?, at(servers, other).await?);
    left.create(path, "").await?;
    right.sync(path).await?;
    for (mine, theirs) in [(&left, &right), (&right, &left)] {
        let (_, watch) = theirs.get_children_and_watch(path).await?;
        let child = format!("{path}/e");
        mine.create(&child, "").ephemeral().await?;
        soon("the event of a created child", watch).await??;
        theirs.sync(path).await?;
        let stat = theirs.exists(&child).await?.context("an ephemeral node of the other member")?;
        ensure!(stat.ephemeral_owner == mine.session()?.id());
        let (_, gone) = theirs.exists_and_watch(&child).await?;
        mine.delete(&child, Version::ANY).await?;
        soon("the event of a deleted node", gone).await??;
        let (_, changed) = theirs.get_data_and_watch(path).await?;
        mine.set_data(path, "new", Version::ANY).await?;
        soon("the event of a changed node", changed).await??;
    }
    // An ephemeral node goes with its session, wherever the session is.
    let child = format!("{path}/last");
    left.create(&child, "").ephemeral().await?;
    right.sync(path).await?;
    let (found, gone) = right.exists_and_watch(&child).await?;
    ensure!(found.is_some(), "{child} is not seen");
    left.close().await?;
    soon("the end of an ephemeral node", gone).await??;
    ensure!(right.exists(&child).await?.is_none());
    right.close().await?;
    Ok(())
}

/// A session is taken up at another member, with its ephemeral nodes, and back.
async fn session_moves(servers: &Ensemble, one: u64, other: u64, path: &str) -> Result<()> {
    // Behind a proxy that is cut before the session moves: the client that had it would take it back otherwise.
    let mut proxy = Proxy::start(servers.address(one)?).await?;
    let mut holder = connect(&proxy.connect_string(), LONG_SESSION).await?;
    holder.create(path, "").ephemeral().await?;
    let (session, password) = holder.credentials().context("a session")?;
    for id in [other, one, other] {
        drop_connections(&proxy);
        proxy = Proxy::start(servers.address(id)?).await?;
        let builder = Client::builder(proxy.connect_string()).session_timeout(LONG_SESSION);
        let moved = builder.resume(session, password).renew_session(false).connect().await;
        holder = moved.with_context(|| format!("moving to member {id}"))?;
        ensure!(holder.session()?.id() == session, "member {id} gave another session");
        // A server of Apache's that is told of the session may still have the node to apply.
        holder.sync(path).await?;
        let stat = holder.exists(path).await?.context("the ephemeral node of the moved session")?;
        ensure!(stat.ephemeral_owner == session);
        holder.set_data(path, id.to_string(), Version::ANY).await?;
    }
    holder.close().await?;
    let witness = at(servers, one).await?;
    eventually("the node goes with its session", async || Ok(witness.exists(path).await?.is_none())).await?;
    witness.close().await?;
    Ok(())
}

/// Everything above, between each pair of a member of ours and one of theirs.
async fn across(servers: &mut Ensemble) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for id in servers.ids() {
        if servers.kind(id)? == DocentBinary { ours.push(id) } else { theirs.push(id) }
    }
    let all = servers.ids();
    write_at(servers, &all, "/written", 50).await?;
    for (one, other) in ours.iter().flat_map(|one| theirs.iter().map(move |other| (*one, *other))) {
        let context = || format!("between member {one} and member {other}\n{}", servers.logs());
        watches_and_ephemerals(servers, one, other, &format!("/w-{one}-{other}"))
            .await
            .with_context(context)?;
        session_moves(servers, one, other, &format!("/s-{one}-{other}")).await.with_context(context)?;
    }
    Ok(())
}

/// A member that is killed leaves a quorum that needs whom the test is about; it comes back and all are level.
async fn quorum_needs(servers: &mut Ensemble, killed: u64, through: &[u64], path: &str) -> Result<()> {
    servers.kill(killed)?;
    write_at(servers, through, path, 100).await.with_context(|| format!("without member {killed}"))?;
    servers.start_member(killed).await
}

/// The leader is Apache's; our follower's ack is needed for every commit, and our observer has none to give.
#[tokio::test(flavor = "multi_thread")]
async fn docent_follows_apache() -> Result<()> {
    let Some(_suite) = begin("Docent under a leader of Apache", &[Apache38]) else { return Ok(()) };
    let seats = [
        Seat::voter(DocentBinary),
        Seat::voter(Apache38),
        Seat::voter(Apache38),
        Seat::observer(DocentBinary),
    ];
    let mut servers = Ensemble::start_led_by(3, &seats, &[]).await?;
    ensure!(servers.srvr_soon(1).await?.role == Role::Follower);
    ensure!(servers.srvr_soon(4).await?.role == Role::Observer);
    across(&mut servers).await?;
    quorum_needs(&mut servers, 2, &[1, 3, 4], "/needed").await?;
    ensure!(servers.leader().await? == 3, "the leader has changed");
    let compared = servers.same_everywhere().await?;
    ensure!(compared > 0, "no digest was compared");
    Ok(())
}

/// The leader is ours; each of Apache's followers is needed in turn.
#[tokio::test(flavor = "multi_thread")]
async fn docent_leads_apache() -> Result<()> {
    let Some(_suite) = begin("Docent over followers of Apache", &[Apache38, ApacheNewer]) else {
        return Ok(());
    };
    let seats = [
        Seat::voter(Apache38),
        Seat::voter(ApacheNewer),
        Seat::voter(DocentBinary),
        Seat::observer(Apache38),
    ];
    let mut servers = Ensemble::start_led_by(3, &seats, &[]).await?;
    across(&mut servers).await?;
    quorum_needs(&mut servers, 1, &[2, 3, 4], "/without-1").await?;
    quorum_needs(&mut servers, 2, &[1, 3, 4], "/without-2").await?;
    ensure!(servers.leader().await? == 3, "the leader has changed");
    let compared = servers.same_everywhere().await?;
    ensure!(compared > 0, "no digest was compared");
    Ok(())
}

/// Apache's follower lines up the writes and syncs of all its clients, and answers none that its leader lets overtake
/// another: under a leader of ours that answered syncs behind all commits of a turn, writes behind a sync hung for ever.
#[tokio::test(flavor = "multi_thread")]
async fn syncs_between_writes_are_answered_in_order() -> Result<()> {
    let Some(_suite) = begin("syncs between writes at followers of Apache", &[Apache38, ApacheNewer]) else {
        return Ok(());
    };
    let seats = [
        Seat::voter(Apache38),
        Seat::voter(ApacheNewer),
        Seat::voter(DocentBinary),
        Seat::observer(Apache38),
        Seat::observer(DocentBinary),
    ];
    let servers = Ensemble::start_led_by(3, &seats, &[]).await?;
    for id in [1, 2, 4, 5] {
        let (writer, reader) = (at(&servers, id).await?, at(&servers, id).await?);
        let path = format!("/synced-{id}");
        writer.create(&path, "").await?;
        for round in 0..60 {
            let mut writes = Vec::new();
            let mut syncs = Vec::new();
            for number in 0..6 {
                writes.push(writer.set_data(&path, format!("{round}-{number}"), Version::ANY));
                syncs.push(reader.sync(&path));
            }
            for write in writes {
                soon("a write between syncs", write).await.with_context(|| format!("at member {id}"))??;
            }
            for sync in syncs {
                soon("a sync between writes", sync).await.with_context(|| format!("at member {id}"))??;
            }
        }
        writer.close().await?;
        reader.close().await?;
    }
    Ok(())
}
