//! Elections: cancelled anywhere, contended, expired, deleted, cut, with lost replies; and those who only look.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, ErrorCode, OpCode, Version, path};
use docent_integration_tests::recipe_kit::register::FencedRegister;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, children, drop_connections, eventually, expire, heal,
    polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{
    Election, Error, Layout, Leader, LeaderInfo, LossCause, ObservedLeader, OnSuspend, Recipes, Requeue,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    work_is_done_as_leader_and_only_then,
    kazoo_s_layout_is_made_on_request,
    a_run_dropped_at_any_poll_leaves_nothing,
    a_run_dropped_at_any_time_leaves_nothing,
    leaders_follow_each_other_with_rising_epochs,
    an_expired_leader_is_stopped_and_leads_again,
    a_deleted_leader_stands_again_at_the_end,
    without_requeue_a_loss_is_the_end,
    who_resigns_goes_behind_the_others,
    who_resigns_leads_until_its_work_is_down,
    work_that_overstays_its_grace_is_dropped,
    tenures_of_one_process_never_overlap,
    a_strict_leader_is_stopped_by_a_blip,
    a_calm_leader_is_not,
    a_leader_cut_one_way_is_stopped_before_the_next_begins,
    lost_replies_make_no_second_candidate,
    cuts_during_everything_lose_nothing,
    a_closed_client_ends_the_run,
    an_observer_sees_every_leader_and_makes_nothing,
    an_observer_sees_latches_too,
    an_observer_outlives_its_session,
];

on_every_server!("election", SCENARIOS);

fn election(client: &Client, ground: &Ground, id: &str) -> Election {
    client.election(ground.path("election")).id(id.to_owned())
}

/// Runs an election whose work hands out its leadership and goes on until it is stopped.
fn reign(election: Election) -> (UnboundedReceiver<Leader>, JoinHandle<Result<(), Error>>) {
    let (told, leads) = unbounded_channel();
    let run = async move {
        let work = |leader: Leader| {
            // Nobody may listen any more.
            drop(told.send(leader));
            std::future::pending::<()>()
        };
        election.run(work).await
    };
    (leads, tokio::spawn(run))
}

async fn next(leads: &mut UnboundedReceiver<Leader>) -> Result<Leader> {
    soon("leading", leads.recv()).await?.context("the run has ended")
}

async fn ended(run: JoinHandle<Result<(), Error>>) -> Result<()> {
    run.abort();
    soon("the end of the run", run).await?.err().context("a reign has no end")?;
    Ok(())
}

async fn work_is_done_as_leader_and_only_then(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let (mut leads, run) = reign(election(&client, &ground, "a"));
    let leader = next(&mut leads).await?;
    leader.check()?;
    let name = children(&client, &ground.path("election")).await?.pop().context("the node is there")?;
    let (tag, number) = name.rsplit_once("-lock-").context("Curator's name")?;
    ensure!(tag.strip_prefix("_c_").is_some_and(|uuid| uuid::Uuid::try_parse(uuid).is_ok()), "{name}");
    ensure!(number.len() == 10, "{name}");
    ensure!(leader.path() == path::join(&ground.path("election"), &name));
    let node = client.get_data(leader.path()).await?;
    ensure!(node.bytes() == "a" && leader.epoch() == node.stat.czxid.into());

    let b = election(&client, &ground, "b");
    let second = tokio::spawn(async move { b.run(|leader: Leader| async move { leader.epoch() }).await });
    eventually("two in line", async || Ok(election(&client, &ground, "").candidates().await?.len() == 2))
        .await?;
    ensure!(!second.is_finished());
    ended(run).await?;
    ensure!(leader.check().is_err());
    let epoch = soon("b to lead", second).await???;
    ensure!(epoch > leader.epoch());
    ground.nothing_left(&client).await
}

async fn kazoo_s_layout_is_made_on_request(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let (mut leads, run) = reign(election(&client, &ground, "a").layout(Layout::Kazoo));
    let leader = next(&mut leads).await?;
    let (tag, number) = path::name(leader.path()).split_once("__lock__").context("kazoo's name")?;
    ensure!(tag.len() == 32 && number.len() == 10, "{}", leader.path());
    ended(run).await?;
    ground.nothing_left(&client).await
}

async fn a_run_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let candidate = election(&client, &ground, "a");
    let mut done = false;
    for polls in 0..1_000 {
        let work = |leader: Leader| async move {
            tokio::task::yield_now().await;
            leader.check()
        };
        done = polled(polls, candidate.run(work)).await.transpose()?.is_some();
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
        if done {
            break;
        }
    }
    ensure!(done, "run never completed");
    let (mut leads, run) = reign(election(&client, &ground, "fresh"));
    next(&mut leads).await?;
    for polls in 0..5 {
        polled(polls, candidate.run(|_| async {})).await.transpose()?;
        eventually("one in line", async || Ok(candidate.candidates().await?.len() == 1)).await?;
    }
    ended(run).await?;
    ground.nothing_left(&client).await
}

async fn a_run_dropped_at_any_time_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let candidate = election(&client, &ground, "a").requeue(Requeue::Always);
    for _ in 0..150 {
        let limit = Duration::from_micros(fastrand::u64(0..8_000));
        let run = candidate.run(|_| tokio::task::yield_now());
        ensure!(tokio::time::timeout(limit, run).await.is_err(), "a run that always requeues has ended");
    }
    ground.nothing_left(&client).await?;
    soon("a fresh run", election(&client, &ground, "fresh").run(|_| async {})).await??;
    ground.nothing_left(&client).await
}

/// P7: at most one leader per epoch, epochs rise.
async fn leaders_follow_each_other_with_rising_epochs(ground: Ground) -> Result<()> {
    let register = Arc::new(FencedRegister::default());
    let mut candidates = JoinSet::new();
    for number in 0..8 {
        let (register, ground) = (Arc::clone(&register), ground.clone());
        candidates.spawn(async move {
            let client = ground.client().await?;
            let candidate = election(&client, &ground, &format!("{number}"));
            for round in 0..10 {
                let work = |leader: Leader| {
                    let register = Arc::clone(&register);
                    async move {
                        leader.check()?;
                        register.write(leader.epoch(), &format!("{number}/{round}"))
                    }
                };
                soon("the turn", candidate.run(work)).await???;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(candidate) = candidates.join_next().await {
        candidate??;
    }
    register.check()?;
    let writes = register.writes();
    ensure!(writes.len() == 80 && writes.windows(2).all(|pair| pair[0].0 < pair[1].0));
    ground.nothing_left(&ground.client().await?).await
}

async fn an_expired_leader_is_stopped_and_leads_again(ground: Ground) -> Result<()> {
    let (one, two) = (ground.client().await?, ground.client().await?);
    let (mut leads_a, a) = reign(election(&one, &ground, "a"));
    let old = next(&mut leads_a).await?;
    let (mut leads_b, b) = reign(election(&two, &ground, "b"));
    // Or else a, who comes again, may come before b.
    eventually("both in line", async || Ok(election(&two, &ground, "").candidates().await?.len() == 2))
        .await?;
    expire(&ground.connect, &one).await?;
    ensure!(soon("the loss", old.lost()).await? == LossCause::SessionEnded);
    let middle = next(&mut leads_b).await?;
    ensure!(middle.epoch() > old.epoch());
    eventually("both in line", async || Ok(election(&two, &ground, "").candidates().await?.len() == 2))
        .await?;
    ended(b).await?;
    let again = next(&mut leads_a).await?;
    ensure!(again.epoch() > middle.epoch() && again.session() != old.session());
    ended(a).await?;
    ground.nothing_left(&two).await
}

async fn a_deleted_leader_stands_again_at_the_end(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let (mut leads_a, a) = reign(election(&client, &ground, "a"));
    let old = next(&mut leads_a).await?;
    let (mut leads_b, b) = reign(election(&client, &ground, "b"));
    eventually("both in line", async || Ok(election(&admin, &ground, "").candidates().await?.len() == 2))
        .await?;
    admin.delete(old.path(), Version::ANY).await?;
    ensure!(soon("the loss", old.lost()).await? == LossCause::NodeDeleted);
    let middle = next(&mut leads_b).await?;
    ended(b).await?;
    ensure!(next(&mut leads_a).await?.epoch() > middle.epoch());
    ended(a).await?;
    ground.nothing_left(&client).await
}

async fn without_requeue_a_loss_is_the_end(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let (mut leads, run) = reign(election(&client, &ground, "a").requeue(Requeue::Never));
    let leader = next(&mut leads).await?;
    client.delete(leader.path(), Version::ANY).await?;
    let end = soon("the end", run).await??;
    ensure!(matches!(end, Err(Error::Lost(LossCause::NodeDeleted))), "{end:?}");
    ground.nothing_left(&client).await
}

async fn who_resigns_goes_behind_the_others(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let (mut leads_a, a) = reign(election(&client, &ground, "a").requeue(Requeue::Always));
    let first = next(&mut leads_a).await?;
    let (mut leads_b, b) = reign(election(&client, &ground, "b"));
    eventually("both in line", async || Ok(election(&client, &ground, "").candidates().await?.len() == 2))
        .await?;
    first.resign();
    ensure!(first.check().is_err() && first.lost().await == LossCause::Released);
    let second = next(&mut leads_b).await?;
    second.resign();
    let end = soon("the end of b", b).await??;
    ensure!(matches!(end, Err(Error::Lost(LossCause::Released))), "{end:?}");
    let third = next(&mut leads_a).await?;
    ensure!(first.epoch() < second.epoch() && second.epoch() < third.epoch());
    ended(a).await?;
    ground.nothing_left(&client).await
}

async fn who_resigns_leads_until_its_work_is_down(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let graceful = election(&client, &ground, "a").grace(LONG_SESSION);
    let down = graceful
        .run(|leader: Leader| {
            let client = client.clone();
            async move {
                leader.resign();
                leader.cancel_token().cancelled().await;
                // The node still stands: nobody else begins.
                client.exists(leader.path()).await.map(|node| node.is_some())
            }
        })
        .await??;
    ensure!(down, "the node went before the work was down");
    ground.nothing_left(&client).await
}

async fn work_that_overstays_its_grace_is_dropped(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let graceful = election(&client, &ground, "a").grace(Duration::from_millis(100)).requeue(Requeue::Never);
    let work = |leader: Leader| {
        leader.resign();
        std::future::pending::<()>()
    };
    let begun = Instant::now();
    let end = soon("the end", graceful.run(work)).await?;
    ensure!(matches!(end, Err(Error::Lost(LossCause::Released))), "{end:?}");
    ensure!(begun.elapsed() >= Duration::from_millis(100), "dropped before its grace was over");
    ground.nothing_left(&client).await
}

/// Counts those that are at work: more than one is one too many.
struct AtWork(Arc<AtomicUsize>);

impl AtWork {
    fn begin(count: &Arc<AtomicUsize>, most: &AtomicUsize) -> AtWork {
        most.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        AtWork(Arc::clone(count))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// P8: the next tenure of a process begins after the one before it has ended.
async fn tenures_of_one_process_never_overlap(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let (count, most, tenures) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0), AtomicUsize::new(0));
    let graceful = election(&client, &ground, "a").grace(LONG_SESSION);
    let run = graceful.run(|leader: Leader| {
        let at_work = AtWork::begin(&count, &most);
        let (tenure, admin) = (tenures.fetch_add(1, Ordering::SeqCst), admin.clone());
        async move {
            let _at_work = at_work;
            if tenure < 5 {
                admin.delete(leader.path(), Version::ANY).await?;
                leader.lost().await;
                // Winding up takes its time.
                admin.sync("/").await?;
            }
            Ok::<_, docent::Error>(tenure)
        }
    });
    ensure!(soon("the last tenure", run).await??? == 5);
    ensure!(most.into_inner() == 1 && count.load(Ordering::SeqCst) == 0, "two tenures at once");
    ground.nothing_left(&client).await
}

async fn a_strict_leader_is_stopped_by_a_blip(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let (mut leads, run) = reign(election(&client, &ground, "a").on_suspend(OnSuspend::StopAtOnce));
    let first = next(&mut leads).await?;
    drop_connections(&proxy);
    soon("being told", first.cancel_token().cancelled()).await?;
    heal(&proxy);
    ensure!(next(&mut leads).await?.epoch() > first.epoch());
    ended(run).await?;
    ground.nothing_left(&client).await
}

async fn a_calm_leader_is_not(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let (mut leads, run) = reign(election(&client, &ground, "a"));
    let leader = next(&mut leads).await?;
    for _ in 0..3 {
        drop_connections(&proxy);
        soon("the suspension", leader.suspended()).await?;
        leader.check()?;
        heal(&proxy);
        eventually("connected", async || Ok(client.state().current().is_connected())).await?;
        client.exists("/").await?;
    }
    leader.check()?;
    ensure!(leads.try_recv().is_err(), "the work was begun again");
    ended(run).await?;
    ground.nothing_left(&client).await
}

async fn a_leader_cut_one_way_is_stopped_before_the_next_begins(ground: Ground) -> Result<()> {
    for direction in ["to server", "server gone"] {
        let (one, proxy) = ground.proxied(SHORT_SESSION).await?;
        let two = ground.client().await?;
        let (count, beside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let begun = Arc::new(Mutex::new(Vec::<Leader>::new()));
        let (told, mut leads) = unbounded_channel();
        let run = |client: &Client, id: &str| {
            let (candidate, told) = (election(client, &ground, id), told.clone());
            let (count, beside, begun) = (Arc::clone(&count), Arc::clone(&beside), Arc::clone(&begun));
            let work = move |leader: Leader| {
                let at_work = AtWork::begin(&count, &AtomicUsize::new(0));
                // By its clock, whether or not a busy machine has let it stop already.
                let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
                let leading = begun.iter().filter(|before| before.check().is_ok()).count();
                beside.fetch_add(leading, Ordering::SeqCst);
                begun.push(leader.clone());
                drop(told.send(leader));
                async move {
                    let _at_work = at_work;
                    std::future::pending::<()>().await;
                }
            };
            tokio::spawn(async move { candidate.run(work).await })
        };
        let a = run(&one, "a");
        let old = next(&mut leads).await?;
        let b = run(&two, "b");
        eventually("both in line", async || Ok(election(&two, &ground, "").candidates().await?.len() == 2))
            .await?;
        if direction == "to server" {
            proxy.stall_up(true)
        } else {
            drop_connections(&proxy)
        };
        let new = next(&mut leads).await?;
        ensure!(old.check().is_err() && new.epoch() > old.epoch(), "{direction}: two leaders");
        ensure!(beside.load(Ordering::SeqCst) == 0, "{direction}: two lead when the second begins");
        // Nobody but its own clock can have stopped it.
        eventually("the old work stopped", async || Ok(count.load(Ordering::SeqCst) == 1)).await?;
        heal(&proxy);
        ended(a).await?;
        ended(b).await?;
        ground.nothing_left(&two).await?;
    }
    Ok(())
}

async fn lost_replies_make_no_second_candidate(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    for round in 0..5 {
        proxy.drop_reply_of(OpCode::Create2, 1);
        let (mut leads, run) = reign(election(&client, &ground, "a"));
        let leader = next(&mut leads).await?;
        ensure!(election(&client, &ground, "").candidates().await?.len() == 1);
        proxy.drop_reply_of(OpCode::SetData, 1);
        soon("publishing", leader.publish(format!("round {round}"))).await??;
        ensure!(client.get_data(leader.path()).await?.bytes() == format!("round {round}"));
        proxy.drop_reply_of(OpCode::Delete, 1);
        ended(run).await?;
        eventually("nobody in line", async || {
            Ok(election(&client, &ground, "").candidates().await?.is_empty())
        })
        .await?;
        eventually("all was lost", async || Ok(proxy.counts().swallowed == 3 * (round + 1))).await?;
    }
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
        for (client, id) in [(&client, "a"), (&other, "b")] {
            let work = |leader: Leader| {
                let register = &register;
                async move {
                    leader.publish(format!("{id} at work")).await?;
                    register.write(leader.epoch(), id)
                }
            };
            soon("the turn", election(client, &ground, id).run(work)).await???;
        }
    }
    let _proxy = cutting.await?;
    register.check()?;
    ground.nothing_left(&client).await
}

async fn a_closed_client_ends_the_run(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let (mut leads, run) = reign(election(&client, &ground, "a").requeue(Requeue::Always));
    let leader = next(&mut leads).await?;
    client.close().await?;
    ensure!(soon("the loss", leader.lost()).await? == LossCause::Closed);
    let end = soon("the end", run).await??;
    ensure!(matches!(end, Err(Error::Closed)), "{end:?}");
    ground.nothing_left(&ground.client().await?).await
}

async fn sees(observer: &mut ObservedLeader, wanted: Option<&str>) -> Result<Option<LeaderInfo>> {
    let look = async {
        while let Some(leader) = observer.next().await {
            let leader = leader?;
            if leader.as_ref().map(|leader| leader.id().into_owned()).as_deref() == wanted {
                return Ok(leader);
            }
        }
        anyhow::bail!("the stream has ended")
    };
    soon(&format!("{wanted:?} seen"), look).await?
}

async fn an_observer_sees_every_leader_and_makes_nothing(ground: Ground) -> Result<()> {
    let (client, looking) = (ground.client().await?, ground.client().await?);
    let mut observer = looking.observe_leader(ground.path("election"));
    ensure!(soon("nobody", observer.next()).await?.context("an item")??.is_none());
    ensure!(looking.exists(ground.path("election")).await?.is_none(), "an observer has made a node");
    let (mut leads_a, a) = reign(election(&client, &ground, "a"));
    let first = next(&mut leads_a).await?;
    let seen = sees(&mut observer, Some("a")).await?.context("a leads")?;
    ensure!(seen.epoch == first.epoch());
    let (mut leads_b, b) = reign(election(&client, &ground, "b"));
    first.publish("a:80").await?;
    ensure!(sees(&mut observer, Some("a:80")).await?.context("a leads")?.epoch == seen.epoch);
    ended(a).await?;
    ensure!(sees(&mut observer, Some("b")).await?.context("b leads")?.epoch > seen.epoch);
    next(&mut leads_b).await?;
    ended(b).await?;
    sees(&mut observer, None).await?;
    // The line itself may go and come again; a server may have swept it already.
    match looking.delete(ground.path("election"), Version::ANY).await {
        Err(error) if error.code() != Some(ErrorCode::NO_NODE) => return Err(error.into()),
        _ => {}
    }
    soon("c", election(&client, &ground, "c").run(|_| async {})).await??;
    drop(observer);
    ground.nothing_left(&client).await
}

async fn an_observer_sees_latches_too(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let mut observer = client.observe_leader(ground.path("latch"));
    let latch = client.leader_latch(ground.path("latch")).id("a").join().await?;
    let fence = soon("a to lead", latch.wait_to_lead()).await??;
    ensure!(sees(&mut observer, Some("a")).await?.context("a leads")?.epoch == fence.token());
    latch.leave().await?;
    sees(&mut observer, None).await?;
    drop(observer);
    ground.nothing_left(&client).await
}

async fn an_observer_outlives_its_session(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let (mut leads, run) = reign(election(&other, &ground, "a"));
    next(&mut leads).await?;
    let mut observer = client.observe_leader(ground.path("election"));
    sees(&mut observer, Some("a")).await?;
    expire(&ground.connect, &client).await?;
    ended(run).await?;
    sees(&mut observer, None).await?;
    drop_connections(&proxy);
    let (mut leads, run) = reign(election(&other, &ground, "b"));
    next(&mut leads).await?;
    heal(&proxy);
    sees(&mut observer, Some("b")).await?;
    drop(observer);
    ended(run).await?;
    ground.nothing_left(&client).await
}
