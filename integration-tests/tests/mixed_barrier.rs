//! Our barriers beside Curator's and kazoo's, on one path each, on our server and on Apache's; see
//! `peers/java/BarrierContender.java` for what everybody does and demands. We lift the gates.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, ErrorCode, ParentMode};
use docent_integration_tests::availability::{Need, Suite};
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::peers::{java, python};
use docent_integration_tests::suites::BOUND;
use docent_recipes::Recipes;
use futures::future::{join_all, try_join_all};

const BASE: &str = "/peer";
/// Ours; Curator's are the other members of the double barrier.
const OURS: usize = 2;

/// One of ours.
struct Ours {
    client: Client,
    id: String,
    rounds: usize,
    members: usize,
}

impl Ours {
    async fn play(self) -> Result<()> {
        for round in 0..self.rounds {
            if self.id == "r0" {
                // The gate is closed as yet: whoever passes it sees that it was lifted.
                self.make(&format!("lifted-{round}")).await?;
                ensure!(self.client.barrier(format!("{BASE}/gate-{round}")).lift().await?, "no gate {round}");
            }
            self.client.barrier(format!("{BASE}/gate-{round}")).wait().await?;
            let lifted = self.client.exists(format!("{BASE}/lifted-{round}")).await?;
            ensure!(lifted.is_some(), "{} came early through gate {round}", self.id);

            let meet = self.client.double_barrier(format!("{BASE}/meet-{round}"), self.members);
            self.make(&format!("came-{round}/{}", self.id)).await?;
            let inside = meet.enter_within(BOUND).await?;
            self.all(&format!("came-{round}")).await?;
            inside.fence().check()?;
            self.make(&format!("inside-{round}/{}", self.id)).await?;
            self.until_all(&format!("inside-{round}")).await?;
            self.make(&format!("goes-{round}/{}", self.id)).await?;
            inside.leave_within(BOUND).await?;
            self.all(&format!("goes-{round}")).await?;
        }
        Ok(())
    }

    async fn make(&self, node: &str) -> Result<()> {
        let path = format!("{BASE}/{node}");
        self.client.create_parents(&path, ParentMode::Persistent).await?;
        self.client.create(path, "").await?;
        Ok(())
    }

    async fn until_all(&self, place: &str) -> Result<()> {
        while let (children, changed) = self.client.get_children_and_watch(format!("{BASE}/{place}")).await?
            && children.names.len() < self.members
        {
            changed.await?;
        }
        Ok(())
    }

    async fn all(&self, place: &str) -> Result<()> {
        let here = self.client.get_children(format!("{BASE}/{place}")).await?.names.len();
        ensure!(here == self.members, "{} sees {here} of {} at {place}", self.id, self.members);
        Ok(())
    }
}

async fn play(backend: Backend, curators: &[JavaClient], kazoos: usize, rounds: usize) -> Result<()> {
    let mut needs = backend.needs();
    needs.extend(curators.iter().flat_map(|client| client.needs()));
    needs.extend((0..kazoos).map(|_| Need::Kazoo));
    let name = format!("barriers beside {curators:?} and {kazoos} of kazoo on {backend:?}");
    let Some(_suite) = Suite::begin(&name, &needs) else { return Ok(()) };
    let server = backend.start(&[]).await?;
    let (connect, members) = (server.connect_string(), OURS + curators.len());
    let client = Client::connect(&*connect).await?;
    for round in 0..rounds {
        ensure!(client.barrier(format!("{BASE}/gate-{round}")).set().await?);
    }
    // Curator's contenders wait for as many as the double barrier has members; ours are there from the beginning.
    for number in 0..OURS {
        client.create_parents(format!("{BASE}/ready/r{number}"), ParentMode::Persistent).await?;
        client.create(format!("{BASE}/ready/r{number}"), "").await?;
    }
    let (times, all) = (rounds.to_string(), members.to_string());
    let mut playing = Vec::new();
    for (number, curator) in curators.iter().enumerate() {
        let args = [&connect, BASE, &times, &format!("c{number}"), &all];
        playing.push(java::program(*curator, "BarrierContender", args)?.spawn()?);
    }
    for number in 0..kazoos {
        let args = [&connect, BASE, &times, &format!("k{number}"), &all];
        playing.push(python::program("barrier_contender.py", args).spawn()?);
    }
    let ours = (0..OURS)
        .map(|number| Ours { client: client.clone(), id: format!("r{number}"), rounds, members }.play());
    let ours = tokio::time::timeout(BOUND + Duration::from_secs(10), try_join_all(ours));
    let (ours, theirs) = tokio::join!(ours, join_all(playing.into_iter().map(|peer| peer.finish(BOUND))));
    for output in theirs {
        output?.success()?;
    }
    ours.context("ours took too long")??;
    for round in 0..rounds {
        let left = client.get_children(format!("{BASE}/meet-{round}")).await;
        match left {
            // Curator makes a container, which may be gone.
            Err(error) => ensure!(error.code() == Some(ErrorCode::NO_NODE), "{error}"),
            Ok(left) => ensure!(left.names.is_empty(), "left behind in round {round}: {:?}", left.names),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_and_kazoo_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, &[JavaClient::Debian, JavaClient::Debian], 1, 30).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_and_kazoo_on_apache() -> Result<()> {
    play(Backend::Apache38, &[JavaClient::Debian], 1, 30).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_newer_curator_on_the_newer_apache() -> Result<()> {
    play(Backend::ApacheNewer, &[JavaClient::Newer], 0, 30).await
}
