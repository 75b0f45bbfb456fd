//! Unique names and blocks of numbers: nothing is given out twice, whatever is cut, lost, ended or dropped.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{OpCode, SessionId, Version};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::{Backend, Options};
use docent_integration_tests::differential::worn;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, children, connect, drop_connections, eventually, expire,
    expire_if_any, heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{CounterLayout, Error, Outcome, Recipes};
use docent_server::testing::TestServer;
use tokio::task::JoinSet;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    a_name_is_one_lasting_node,
    many_take_and_nobody_gets_anothers,
    nodes_are_reclaimed_and_names_never_come_again,
    whatever_is_lost_one_name_is_one_node,
    a_name_is_found_in_the_next_session,
    a_name_dropped_at_any_poll_is_given_back,
    a_name_dropped_at_any_time_is_given_back,
    cuts_during_taking_leave_one_node_for_each_name,
    a_closed_client_takes_no_name,
    blocks_lie_as_curator_lays_them,
    many_owners_never_share_a_number,
    a_lost_answer_gives_up_its_block,
    exactly_once_gives_up_no_block,
    numbers_go_on_while_nobody_answers,
    a_counter_that_was_set_back_is_noticed,
    a_counter_at_its_end_gives_no_more,
    a_number_dropped_at_any_poll_is_given_to_nobody_else,
    cuts_and_expiries_give_no_number_twice,
];

on_every_server!("names", SCENARIOS);

async fn a_name_is_one_lasting_node(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let names = client.unique_names(ground.path("ids")).prefix("order-").data("by us");
    ensure!(names.taken().await?.is_empty());
    let first = names.take().await?;
    ensure!(first.as_str() == "order-0000000000" && first.number() == 0, "{first}");
    let node = other.get_data(first.path()).await?;
    ensure!(node.bytes() == "by us" && node.stat.czxid == first.czxid());
    ensure!(node.stat.ephemeral_owner == SessionId::NONE, "it goes with its session");
    let (_, name) = first.path().rsplit_once('/').context("a name")?;
    let shape = name.strip_prefix("_c_").and_then(|name| name.get(36..));
    ensure!(shape == Some("-order-0000000000"), "{name} is not as Curator names it");
    // Other prefixes are counted along.
    let second = other.unique_names(ground.path("ids")).take().await?;
    ensure!(second.as_str() == "name-0000000001" && second.czxid() > first.czxid(), "{second}");
    client.close().await?;
    // It is taken still, although nobody is there who took it.
    let taken = other.unique_names(ground.path("ids")).taken().await?;
    ensure!(taken == ["order-0000000000", "name-0000000001"], "{taken:?}");
    Ok(())
}

async fn many_take_and_nobody_gets_anothers(ground: Ground) -> Result<()> {
    let mut takers = JoinSet::new();
    for _ in 0..4 {
        let client = ground.client().await?;
        let names = client.unique_names(ground.path("ids"));
        takers.spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..25 {
                mine.push(names.take().await?);
            }
            ensure!(mine.is_sorted_by_key(|name| name.number()), "numbers do not rise");
            Ok(mine)
        });
    }
    let mut all = BTreeSet::new();
    while let Some(mine) = takers.join_next().await {
        for name in mine?? {
            ensure!(all.insert(name.to_string()), "{name} was given out twice");
        }
    }
    let client = ground.client().await?;
    ensure!(client.unique_names(ground.path("ids")).taken().await? == all.into_iter().collect::<Vec<_>>());
    Ok(())
}

async fn nodes_are_reclaimed_and_names_never_come_again(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let names = client.unique_names(ground.path("ids"));
    let first = names.take().await?;
    let (number, again) = (first.number(), first.clone());
    first.reclaim().await?;
    ensure!(names.taken().await?.is_empty());
    // It is gone already, which is what is wanted.
    again.reclaim().await?;
    ensure!(names.take().await?.number() == number + 1, "a number came again");
    let passing = names.clone().keep_no_nodes();
    for more in 2..6 {
        let name = passing.take().await?;
        ensure!(name.number() == number + more, "{name}");
        eventually("no node", async || Ok(names.taken().await?.len() == 1)).await?;
    }
    Ok(())
}

async fn whatever_is_lost_one_name_is_one_node(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let names = client.unique_names(ground.path("ids"));
    names.take().await?;
    let mut taken = 1;
    for op in [OpCode::Create2, OpCode::Sync, OpCode::GetChildren2, OpCode::Exists] {
        for request in [false, true] {
            // The create is lost in any case, so that all the others are sent.
            let also = (op != OpCode::Create2).then_some(op);
            proxy.drop_reply_of(OpCode::Create2, 1);
            if op == OpCode::Create2 && request {
                proxy.drop_request_of(OpCode::Create2, 1);
            }
            let before = proxy.counts().swallowed;
            let taking = tokio::spawn({
                let names = names.clone();
                async move { names.take().await }
            });
            if let Some(op) = also {
                let lost = async || Ok(proxy.counts().swallowed > before);
                eventually("the create is lost", lost).await?;
                if request { proxy.drop_request_of(op, 1) } else { proxy.drop_reply_of(op, 1) }
            }
            let name = soon("the name", taking).await???;
            taken += 1;
            ensure!(proxy.counts().swallowed > before, "nothing was lost");
            let nodes = children(&other, &ground.path("ids")).await?;
            ensure!(nodes.len() == taken, "{op:?}: {taken} names and {nodes:?}");
            ensure!(other.exists(name.path()).await?.is_some_and(|stat| stat.czxid == name.czxid()));
            // What was not lost this time must not be lost the next.
            proxy.drop_reply_of(OpCode::Create2, usize::MAX);
        }
    }
    Ok(())
}

async fn a_name_is_found_in_the_next_session(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(SHORT_SESSION).await?;
    let other = ground.client().await?;
    let names = client.unique_names(ground.path("ids"));
    names.take().await?;
    for round in 2..5 {
        proxy.drop_reply_of(OpCode::Create2, 1);
        let taking = tokio::spawn({
            let names = names.clone();
            async move { names.take().await }
        });
        eventually("made", async || Ok(children(&other, &ground.path("ids")).await?.len() == round)).await?;
        drop_connections(&proxy);
        // The session ends while nobody can ask what became of the create.
        let session = expire(&ground.connect, &client).await?;
        heal(&proxy);
        let name = soon("the name", taking).await???;
        let nodes = children(&other, &ground.path("ids")).await?;
        ensure!(nodes.len() == round, "{round} names and {nodes:?}");
        ensure!(name.path().ends_with(&format!("{:010}", round - 1)), "{}", name.path());
        let next = async || Ok(soon("a session", client.session_ready()).await??.id() != session);
        eventually("the next session", next).await?;
    }
    Ok(())
}

async fn a_name_dropped_at_any_poll_is_given_back(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let names = client.unique_names(ground.path("ids"));
    let mut done = false;
    for polls in 0..1_000 {
        done = polled(polls, names.take()).await.transpose()?.is_some();
        if done {
            ensure!(names.taken().await?.len() == 1, "a name that was taken was given back");
            break;
        }
        let none = async || Ok(children(&client, &ground.path("ids")).await?.is_empty());
        eventually("given back", none).await.with_context(|| format!("after {polls} polls"))?;
    }
    ensure!(done, "no name was ever taken");
    ground.nothing_left(&client).await
}

async fn a_name_dropped_at_any_time_is_given_back(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let names = client.unique_names(ground.path("ids"));
    let mut taken = BTreeSet::new();
    for _ in 0..150 {
        let limit = Duration::from_micros(fastrand::u64(0..4_000));
        if let Ok(name) = tokio::time::timeout(limit, names.take()).await {
            ensure!(taken.insert(name?.to_string()), "given out twice");
        }
    }
    let taken: Vec<_> = taken.into_iter().collect();
    eventually("only what was taken", async || Ok(names.taken().await? == taken)).await
}

async fn cuts_during_taking_leave_one_node_for_each_name(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let names = client.unique_names(ground.path("ids"));
    let cutting = tokio::spawn({
        let (until, client, connect) =
            (Instant::now() + Duration::from_secs(6), client.clone(), ground.connect.clone());
        async move {
            while Instant::now() < until {
                // A random moment for the next cut, in a bounded wait until the faults end.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..100))).await;
                if fastrand::u8(0..10) == 0 {
                    expire_if_any(&connect, &client).await?;
                } else {
                    proxy.cut();
                }
            }
            anyhow::Ok(proxy)
        }
    });
    let mut taken = BTreeSet::new();
    while !cutting.is_finished() {
        let name = soon("a name", names.take()).await??;
        ensure!(taken.insert(name.to_string()), "{name} was given out twice");
    }
    let _proxy = cutting.await??;
    let taken: Vec<_> = taken.into_iter().collect();
    let nodes = other.unique_names(ground.path("ids")).taken().await?;
    ensure!(nodes == taken, "{} names and {} nodes", taken.len(), nodes.len());
    Ok(())
}

async fn a_closed_client_takes_no_name(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let names = client.unique_names(ground.path("ids"));
    let name = names.take().await?;
    client.close().await?;
    ensure!(matches!(names.take().await, Err(Error::Closed)));
    ensure!(matches!(names.taken().await, Err(Error::Closed)));
    ensure!(matches!(name.reclaim().await, Err(Error::Closed)));
    ensure!(children(&ground.client().await?, &ground.path("ids")).await?.len() == 1);
    Ok(())
}

async fn blocks_lie_as_curator_lays_them(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let ids = client.counter(ground.path("n")).in_blocks(3);
    for number in 1..=7 {
        ensure!(ids.next().await? == number);
    }
    // The counter holds the last number that was taken, in eight bytes.
    ensure!(client.get_data(ground.path("n")).await?.bytes() == 9_i64.to_be_bytes().as_slice());
    ensure!(ids.next_block().await? == (10..=12));
    ensure!(ids.clone().next().await? == 8, "clones share a block");
    let text = client.counter(ground.path("t")).layout(CounterLayout::Text).seed(41).in_blocks(1);
    ensure!(text.next().await? == 42 && text.next().await? == 43);
    ensure!(client.get_data(ground.path("t")).await?.bytes() == "43");
    // A block has one number at least.
    ensure!(client.counter(ground.path("z")).in_blocks(0).next().await? == 1);
    ground.nothing_left(&client).await
}

async fn many_owners_never_share_a_number(ground: Ground) -> Result<()> {
    let mut owners = JoinSet::new();
    for size in [1, 2, 7, 10] {
        let client = ground.client().await?;
        let ids = client.counter(ground.path("n")).in_blocks(size);
        for _ in 0..2 {
            let ids = ids.clone();
            owners.spawn(async move {
                let mut mine = Vec::new();
                for _ in 0..40 {
                    mine.push(ids.next().await?);
                }
                ensure!(mine.is_sorted(), "numbers do not rise");
                Ok(mine)
            });
        }
    }
    let mut all = BTreeSet::new();
    while let Some(mine) = owners.join_next().await {
        for number in mine?? {
            ensure!(all.insert(number), "{number} was given out twice");
        }
    }
    let sum = ground.client().await?.counter(ground.path("n")).get().await?;
    ensure!(all.len() == 320 && all.last().is_some_and(|last| *last <= sum), "{sum}");
    Ok(())
}

async fn a_lost_answer_gives_up_its_block(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let ids = client.counter(ground.path("n")).in_blocks(10);
    ensure!(ids.next().await? == 1);
    for _ in 2..=10 {
        ids.next().await?;
    }
    proxy.drop_reply_of(OpCode::SetData, 1);
    ensure!(soon("a number", ids.next()).await?? == 21, "11 to 20 may be ours, and are given up");
    proxy.drop_request_of(OpCode::SetData, 1);
    ensure!(soon("a block", ids.next_block()).await?? == (31..=40));
    ensure!(proxy.counts().swallowed == 2, "nothing was lost");
    ensure!(client.counter(ground.path("n")).get().await? == 40);
    Ok(())
}

async fn exactly_once_gives_up_no_block(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let ids = client.counter(ground.path("n")).exactly_once().in_blocks(10);
    for round in 0..6 {
        if round % 2 == 0 {
            proxy.drop_reply_of(OpCode::Multi, 1);
        } else {
            proxy.drop_request_of(OpCode::Multi, 1);
        }
        let block = soon("a block", ids.next_block()).await??;
        ensure!(block == (round * 10 + 1..=round * 10 + 10), "{block:?}");
    }
    ensure!(proxy.counts().swallowed == 6, "nothing was lost");
    ground.nothing_left(&client).await
}

async fn numbers_go_on_while_nobody_answers(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let ids = client.counter(ground.path("n")).in_blocks(5);
    ensure!(ids.next().await? == 1);
    drop_connections(&proxy);
    for number in 2..=5 {
        ensure!(soon("a number of the block", ids.next()).await?? == number);
    }
    let next = tokio::spawn(async move { ids.next().await });
    heal(&proxy);
    ensure!(soon("a number of the next block", next).await??? >= 6);
    Ok(())
}

async fn a_counter_that_was_set_back_is_noticed(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let ids = client.counter(ground.path("n")).in_blocks(2);
    ensure!(ids.next().await? == 1 && ids.next().await? == 2 && ids.next().await? == 3);
    admin.delete(ground.path("n"), Version::ANY).await?;
    ensure!(ids.next().await? == 4, "the block is ours");
    let refused = ids.next().await;
    ensure!(matches!(&refused, Err(Error::Invalid { .. })), "{refused:?}");
    ensure!(matches!(admin.counter(ground.path("n")).set(100).await?, Outcome::Applied(100)));
    ensure!(ids.next().await? == 101);
    Ok(())
}

async fn a_counter_at_its_end_gives_no_more(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let ids = client.shared_count(ground.path("n")).seed(i64::from(i32::MAX) - 3).in_blocks(2);
    for number in i64::from(i32::MAX) - 2..i64::from(i32::MAX) {
        ensure!(ids.next().await? == number);
    }
    ensure!(matches!(ids.next().await, Err(Error::Encode(_))));
    ensure!(matches!(ids.next().await, Err(Error::Encode(_))));
    Ok(())
}

async fn a_number_dropped_at_any_poll_is_given_to_nobody_else(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for exactly_once in [false, true] {
        let counter = client.counter(ground.path("n"));
        let ids = if exactly_once { counter.exactly_once() } else { counter }.in_blocks(2);
        let (mut given, mut done) = (BTreeSet::new(), false);
        for polls in 0..1_000 {
            if let Some(number) = polled(polls, ids.next()).await.transpose()? {
                ensure!(given.insert(number), "{number} was given out twice");
                // The second number of a block comes with the first poll; done when a whole block was fetched.
                done = done || (polls > 1 && given.len() > 2);
            }
            let other = ground.path("n");
            ensure!(given.insert(client.counter(other).in_blocks(1).next().await?), "given to two");
            if done {
                break;
            }
        }
        ensure!(done, "no number was ever taken");
    }
    ground.nothing_left(&client).await
}

async fn cuts_and_expiries_give_no_number_twice(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let cutting = tokio::spawn({
        let (until, client, connect) =
            (Instant::now() + Duration::from_secs(6), client.clone(), ground.connect.clone());
        async move {
            while Instant::now() < until {
                // A random moment for the next cut, in a bounded wait until the faults end.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..200))).await;
                if fastrand::u8(0..10) == 0 {
                    expire_if_any(&connect, &client).await?;
                } else {
                    proxy.cut();
                }
            }
            anyhow::Ok(proxy)
        }
    });
    let shaken = client.counter(ground.path("n")).in_blocks(2);
    let calm = other.counter(ground.path("n")).in_blocks(3);
    let mut given = BTreeSet::new();
    while !cutting.is_finished() {
        for ids in [&shaken, &calm] {
            let number = soon("a number", ids.next()).await??;
            ensure!(given.insert(number), "{number} was given out twice");
        }
    }
    let _proxy = cutting.await??;
    for ids in [&shaken, &calm] {
        // Beyond the blocks that were begun under the faults.
        for _ in 0..5 {
            let number = soon("a number", ids.next()).await??;
            ensure!(given.insert(number), "{number} was given out twice");
        }
    }
    let sum = other.counter(ground.path("n")).get().await?;
    ensure!(given.last().is_some_and(|last| *last <= sum), "{sum} after {given:?}");
    ground.nothing_left(&other).await
}

/// A server counts to its end and not beyond: what comes then is refused, and leaves nothing behind.
async fn numbers_end(backend: Backend) -> Result<()> {
    let name = format!("the end of the numbers on {backend:?}");
    let Some(_suite) = Suite::begin(&name, &backend.needs()) else { return Ok(()) };
    let worn = worn::folder()?;
    let options = Options { data: Some(worn.path()), ..Options::default() };
    let server = backend.start_with(options).await?;
    let client = connect(&server.connect_string(), LONG_SESSION).await?;
    let before = children(&client, "/a").await?.len();
    let names = client.unique_names("/a");
    for number in 2_147_483_644_u32..2_147_483_647 {
        let name = names.take().await?;
        ensure!(name.number() == number, "{name}");
    }
    for _ in 0..3 {
        let refused = names.take().await;
        ensure!(matches!(&refused, Err(Error::NumbersUsedUp { path }) if path == "/a"), "{refused:?}");
    }
    ensure!(names.taken().await?.len() == 3);
    // A line says the same.
    let refused = client.lock("/a").acquire().await;
    ensure!(matches!(&refused, Err(Error::NumbersUsedUp { path }) if path == "/a"), "{refused:?}");
    ensure!(children(&client, "/a").await?.len() == before + 3, "something was left behind");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_end_apache_38() -> Result<()> {
    numbers_end(Backend::Apache38).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_end_apache_newer() -> Result<()> {
    numbers_end(Backend::ApacheNewer).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_end_docent_binary() -> Result<()> {
    numbers_end(Backend::DocentBinary).await
}

/// What is counted, and what was given out, outlives the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_gives_nothing_twice() -> Result<()> {
    let mut server = TestServer::start().await?;
    let ground = Ground { connect: server.connect_string(), root: "/restarted".into() };
    let client = ground.client().await?;
    let names = client.unique_names(ground.path("ids")).keep_no_nodes();
    let ids = client.counter(ground.path("n")).in_blocks(2);
    let (mut names_given, mut ids_given) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..4 {
        for _ in 0..3 {
            ensure!(names_given.insert(soon("a name", names.take()).await??.to_string()), "a name twice");
            ensure!(ids_given.insert(soon("a number", ids.next()).await??), "a number twice");
        }
        if round % 2 == 0 {
            server.restart().await?;
        } else {
            server.kill().await;
            server.restart().await?;
        }
    }
    Ok(())
}
