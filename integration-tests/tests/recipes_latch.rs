//! The leader latch: cancelled anywhere, contended, expired, deleted, cut, with lost replies.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, OpCode, Version, path};
use docent_integration_tests::recipe_kit::register::FencedRegister;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, children, drop_connections, eventually, expire, heal,
    polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{CloseMode, Error, Latch, Leadership, LossCause, OnSuspend, Recipes, Released};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    the_first_leads_and_all_know,
    a_join_dropped_at_any_poll_leaves_nothing,
    a_join_dropped_at_any_time_leaves_nothing,
    leaders_follow_each_other_with_rising_epochs,
    an_expired_leader_is_told_and_joins_again,
    an_expired_follower_joins_again,
    a_deleted_leader_joins_again_at_the_end,
    a_blip_costs_a_calm_leader_nothing,
    a_strict_leader_pauses_and_leads_again_with_its_epoch,
    a_leader_cut_one_way_is_lost_before_the_next_leads,
    a_leader_that_hears_nothing_leads_again_when_it_does,
    lost_replies_make_no_second_participant,
    cuts_during_everything_lose_nothing,
    a_latch_is_closed_loudly_or_silently,
    a_closed_client_ends_the_latch,
];

on_every_server!("latch", SCENARIOS);

async fn join(client: &Client, ground: &Ground, id: &str) -> Result<Latch> {
    Ok(soon("joining", client.leader_latch(ground.path("latch")).id(id).join()).await??)
}

/// Waits until this participant says that somebody leads.
async fn sees(latch: &Latch, leader: &str) -> Result<()> {
    let mut leadership = latch.leadership();
    let wanted = |now: &Leadership| matches!(now, Leadership::Other { id, .. } if id == leader);
    soon(&format!("{leader} seen as leader"), leadership.wait_for(wanted)).await??;
    Ok(())
}

async fn the_first_leads_and_all_know(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let a = join(&client, &ground, "a").await?;
    let fence = soon("a to lead", a.wait_to_lead()).await??;
    fence.check()?;
    ensure!(a.is_leader() && a.fence().is_some());
    let mine = a.leadership().borrow().clone();
    ensure!(matches!(mine, Leadership::Mine { epoch, .. } if epoch == fence.token()), "{mine:?}");

    let name = children(&client, &ground.path("latch")).await?.pop().context("the node is there")?;
    let (tag, number) = name.rsplit_once("-latch-").context("Curator's name")?;
    ensure!(tag.strip_prefix("_c_").is_some_and(|uuid| uuid::Uuid::try_parse(uuid).is_ok()), "{name}");
    ensure!(number.len() == 10, "{name}");
    ensure!(client.get_data(path::join(&ground.path("latch"), &name)).await?.bytes() == "a");

    let b = join(&client, &ground, "b").await?;
    let c = join(&client, &ground, "c").await?;
    sees(&b, "a").await?;
    sees(&c, "a").await?;
    let line: Vec<_> = b.participants().await?.into_iter().map(|one| (one.id, one.leads)).collect();
    ensure!(line == [("a".into(), true), ("b".into(), false), ("c".into(), false)], "{line:?}");
    ensure!(!b.is_leader());
    ensure!(a.leave().await? == Released::Deleted);
    ensure!(fence.check().is_err());
    let next = soon("b to lead", b.wait_to_lead()).await??;
    ensure!(next.token() > fence.token());
    sees(&c, "b").await?;
    drop((b, c));
    ground.nothing_left(&client).await
}

async fn a_join_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let latch = client.leader_latch(ground.path("latch"));
    let mut done = false;
    for polls in 0..1_000 {
        done = polled(polls, latch.join()).await.transpose()?.is_some();
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
        if done {
            break;
        }
    }
    ensure!(done, "join never completed");
    let fresh = join(&client, &ground, "fresh").await?;
    for polls in 0..5 {
        drop(polled(polls, latch.join()).await.transpose()?);
        eventually("one in line", async || Ok(fresh.participants().await?.len() == 1)).await?;
    }
    soon("the fresh one to lead", fresh.wait_to_lead()).await??;
    drop(fresh);
    ground.nothing_left(&client).await
}

async fn a_join_dropped_at_any_time_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let latch = client.leader_latch(ground.path("latch"));
    for _ in 0..150 {
        let limit = Duration::from_micros(fastrand::u64(0..4_000));
        if let Ok(joined) = tokio::time::timeout(limit, latch.join()).await {
            drop(joined?);
        }
    }
    ground.nothing_left(&client).await?;
    let fresh = join(&client, &ground, "fresh").await?;
    soon("the fresh one to lead", fresh.wait_to_lead()).await??;
    drop(fresh);
    ground.nothing_left(&client).await
}

/// P7: at most one leader per epoch, epochs rise.
async fn leaders_follow_each_other_with_rising_epochs(ground: Ground) -> Result<()> {
    let register = Arc::new(FencedRegister::default());
    let mut participants = JoinSet::new();
    for number in 0..8 {
        let (register, ground) = (Arc::clone(&register), ground.clone());
        participants.spawn(async move {
            let client = ground.client().await?;
            for round in 0..10 {
                let latch = join(&client, &ground, &format!("{number}")).await?;
                let fence = soon("the turn", latch.wait_to_lead()).await??;
                fence.check()?;
                register.write(fence.token(), &format!("{number}/{round}"))?;
                latch.leave().await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(participant) = participants.join_next().await {
        participant??;
    }
    register.check()?;
    let writes = register.writes();
    ensure!(writes.len() == 80 && writes.windows(2).all(|pair| pair[0].0 < pair[1].0));
    ground.nothing_left(&ground.client().await?).await
}

async fn an_expired_leader_is_told_and_joins_again(ground: Ground) -> Result<()> {
    let (one, two) = (ground.client().await?, ground.client().await?);
    let a = join(&one, &ground, "a").await?;
    let old = soon("a to lead", a.wait_to_lead()).await??;
    let b = join(&two, &ground, "b").await?;
    sees(&b, "a").await?;
    expire(&ground.connect, &one).await?;
    ensure!(soon("the loss", old.lost()).await? == LossCause::SessionEnded);
    let fence = soon("b to lead", b.wait_to_lead()).await??;
    ensure!(fence.token() > old.token());
    sees(&a, "b").await?;
    eventually("both in line", async || Ok(b.participants().await?.len() == 2)).await?;
    b.leave().await?;
    let again = soon("a to lead again", a.wait_to_lead()).await??;
    ensure!(again.token() > fence.token() && again.session() != old.session());
    drop(a);
    ground.nothing_left(&two).await
}

async fn an_expired_follower_joins_again(ground: Ground) -> Result<()> {
    let (one, two) = (ground.client().await?, ground.client().await?);
    let a = join(&one, &ground, "a").await?;
    let fence = soon("a to lead", a.wait_to_lead()).await??;
    let b = join(&two, &ground, "b").await?;
    sees(&b, "a").await?;
    let before = b.participants().await?;
    expire(&ground.connect, &two).await?;
    eventually("b in line anew", async || {
        let now = a.participants().await?;
        Ok(now.len() == 2 && now[1].epoch > before[1].epoch)
    })
    .await?;
    sees(&b, "a").await?;
    fence.check()?;
    a.leave().await?;
    soon("b to lead", b.wait_to_lead()).await??;
    drop(b);
    ground.nothing_left(&one).await
}

async fn a_deleted_leader_joins_again_at_the_end(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let a = join(&client, &ground, "a").await?;
    let old = soon("a to lead", a.wait_to_lead()).await??;
    let b = join(&client, &ground, "b").await?;
    admin.delete(old.path(), Version::ANY).await?;
    ensure!(soon("the loss", old.lost()).await? == LossCause::NodeDeleted);
    soon("b to lead", b.wait_to_lead()).await??;
    sees(&a, "b").await?;
    // The waiting one's node goes too.
    eventually("a in line again", async || Ok(a.participants().await?.len() == 2)).await?;
    let mine = a.participants().await?.pop().context("a is last")?;
    ensure!(mine.id == "a", "{mine:?}");
    let mut names = children(&admin, &ground.path("latch")).await?;
    names.sort_by_key(|name| name.rsplit_once('-').map(|(_, number)| number.to_owned()));
    let name = names.pop().context("a is last")?;
    admin.delete(path::join(&ground.path("latch"), &name), Version::ANY).await?;
    eventually("a in line anew", async || {
        let now = b.participants().await?;
        Ok(now.len() == 2 && now[1].epoch > mine.epoch)
    })
    .await?;
    drop((a, b));
    ground.nothing_left(&client).await
}

/// P21: a healthy node is never deleted and made again.
async fn a_blip_costs_a_calm_leader_nothing(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let a = join(&client, &ground, "a").await?;
    let fence = soon("a to lead", a.wait_to_lead()).await??;
    let b = join(&other, &ground, "b").await?;
    sees(&b, "a").await?;
    let before = other.exists(ground.path("latch")).await?.context("the line")?;
    for _ in 0..3 {
        drop_connections(&proxy);
        soon("the suspension", fence.suspended()).await?;
        fence.check()?;
        ensure!(a.is_leader() && a.leadership().borrow().is_mine());
        heal(&proxy);
        eventually("connected", async || Ok(client.state().current().is_connected())).await?;
        client.exists("/").await?;
    }
    fence.check()?;
    let after = other.exists(ground.path("latch")).await?.context("the line")?;
    ensure!(before.cversion == after.cversion, "nodes came or went: {before:?} {after:?}");
    ensure!(!b.is_leader());
    drop((a, b));
    ground.nothing_left(&other).await
}

async fn a_strict_leader_pauses_and_leads_again_with_its_epoch(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let latch = client.leader_latch(ground.path("latch")).id("a").on_suspend(OnSuspend::StopAtOnce);
    let a = latch.join().await?;
    let fence = soon("a to lead", a.wait_to_lead()).await??;
    let mut leadership = a.leadership();
    drop_connections(&proxy);
    ensure!(soon("the pause", fence.lost()).await? == LossCause::Suspended);
    soon("not leading", leadership.wait_for(|now| *now == Leadership::Unknown)).await??;
    ensure!(!a.is_leader());
    heal(&proxy);
    let again = soon("a to lead again", a.wait_to_lead()).await??;
    ensure!(again.token() == fence.token(), "the node was made anew");
    ensure!(fence.check().is_err(), "an ended tenure came back");
    drop(a);
    ground.nothing_left(&client).await
}

async fn a_leader_cut_one_way_is_lost_before_the_next_leads(ground: Ground) -> Result<()> {
    for direction in ["to server", "server gone"] {
        let (one, proxy) = ground.proxied(SHORT_SESSION).await?;
        let two = ground.client().await?;
        let a = join(&one, &ground, "a").await?;
        let old = soon("a to lead", a.wait_to_lead()).await??;
        // The proved lease is what counts, also after the leadership is lost.
        let _proved = one.hold_lease();
        let b = join(&two, &ground, "b").await?;
        if direction == "to server" {
            proxy.stall_up(true)
        } else {
            drop_connections(&proxy)
        };
        let fence = soon("b to lead", b.wait_to_lead()).await??;
        let began = Instant::now();
        ensure!(old.check().is_err() && !a.is_leader(), "{direction}: two leaders");
        // Told by its own clock, since nobody else can tell it.
        soon("the loss", old.lost()).await?;
        let until = one.lease().until;
        ensure!(until < began, "{direction}: the lease ended {:?} after the next began", until - began);
        ensure!(fence.token() > old.token());
        heal(&proxy);
        sees(&a, "b").await?;
        drop((a, b));
        ground.nothing_left(&two).await?;
    }
    Ok(())
}

async fn a_leader_that_hears_nothing_leads_again_when_it_does(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(SHORT_SESSION).await?;
    let a = join(&client, &ground, "a").await?;
    let old = soon("a to lead", a.wait_to_lead()).await??;
    proxy.stall_down(true);
    ensure!(soon("the loss", old.lost()).await? == LossCause::LeaseEnded);
    heal(&proxy);
    let again = soon("a to lead again", a.wait_to_lead()).await??;
    // What was sent kept the session alive, so the node is the same; if it did not, the node is a later one.
    ensure!(again.token() >= old.token());
    ensure!(old.check().is_err(), "an ended tenure came back");
    drop(a);
    ground.nothing_left(&client).await
}

async fn lost_replies_make_no_second_participant(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let first = join(&ground.client().await?, &ground, "first").await?;
    for round in 0..5 {
        proxy.drop_reply_of(OpCode::Create2, 1);
        let a = join(&client, &ground, "a").await?;
        ensure!(a.participants().await?.len() == 2, "{:?}", a.participants().await?);
        proxy.drop_reply_of(OpCode::Delete, 1);
        ensure!(soon("leaving", a.leave()).await?? == Released::AlreadyGone);
        ensure!(proxy.counts().swallowed == 2 * (round + 1), "nothing was lost");
    }
    drop(first);
    ground.nothing_left(&client).await
}

async fn cuts_during_everything_lose_nothing(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let register = FencedRegister::default();
    let cutting = tokio::spawn({
        let until = Instant::now() + Duration::from_secs(8);
        async move {
            while Instant::now() < until {
                // A random moment for the next cut, in a bounded wait until the faults end.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..150))).await;
                proxy.cut();
            }
            proxy
        }
    });
    while !cutting.is_finished() {
        let a = join(&client, &ground, "a").await?;
        let b = join(&other, &ground, "b").await?;
        register.write(soon("a to lead", a.wait_to_lead()).await??.token(), "a")?;
        a.leave().await?;
        register.write(soon("b to lead", b.wait_to_lead()).await??.token(), "b")?;
        drop(b);
    }
    let _proxy = cutting.await?;
    register.check()?;
    ground.nothing_left(&client).await
}

async fn a_latch_is_closed_loudly_or_silently(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for (mode, last) in [(CloseMode::Notify, Leadership::Left), (CloseMode::Silent, Leadership::Unknown)] {
        let latch = join(&client, &ground, "a").await?;
        let fence = soon("a to lead", latch.wait_to_lead()).await??;
        let mut seen = latch.leadership();
        soon("the announcement", seen.wait_for(Leadership::is_mine)).await??;
        latch.close(mode).await?;
        ensure!(fence.check().is_err());
        while soon("the end of the channel", seen.changed()).await?.is_ok() {}
        let now = seen.borrow().clone();
        match mode {
            CloseMode::Silent => ensure!(now.is_mine(), "{now:?}"),
            _ => ensure!(now == last, "{now:?}"),
        }
    }
    ground.nothing_left(&client).await
}

async fn a_closed_client_ends_the_latch(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let latch = join(&client, &ground, "a").await?;
    let fence = soon("a to lead", latch.wait_to_lead()).await??;
    client.close().await?;
    ensure!(soon("the loss", fence.lost()).await? == LossCause::Closed);
    let mut leadership = latch.leadership();
    while soon("the end of the channel", leadership.changed()).await?.is_ok() {}
    let waiting = soon("the end of waiting", latch.wait_to_lead()).await?;
    ensure!(matches!(waiting, Err(Error::Closed)), "{:?}", waiting.map(|fence| fence.state()));
    ground.nothing_left(&ground.client().await?).await
}
