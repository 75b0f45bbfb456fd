//! The servers, the participants, and how they speak: one line each, with the time since the start.

use std::fmt::Display;
use std::future::IntoFuture;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use docent::{Client, SessionId};
use docent_server::testing::TestEnsemble;
use tokio::time::{Instant, timeout};

/// How long anything on stage may take. What takes longer has failed; usually it is milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at that nobody announces.
const LOOK: Duration = Duration::from_millis(5);

/// Where the acts are played.
pub(crate) struct Stage {
    ensemble: TestEnsemble,
    begun: Instant,
}

/// A participant: a name, and a client with a session of its own.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    begun: Instant,
}

impl Stage {
    pub(crate) async fn open() -> Result<Stage> {
        let begun = Instant::now();
        let ensemble = TestEnsemble::start(3).await.context("starting the servers")?;
        let stage = Stage { ensemble, begun };
        stage.say(format!("three of them on {}, in this process", stage.ensemble.connect_string()));
        stage.name_leader().await?;
        Ok(stage)
    }

    /// Three participants with sessions of their own.
    pub(crate) async fn cast(&self, act: &str) -> Result<[Actor; 3]> {
        println!("\n{act}");
        Ok([self.actor("ash").await?, self.actor("birch").await?, self.actor("cedar").await?])
    }

    pub(crate) async fn actor(&self, name: &'static str) -> Result<Actor> {
        // The servers tick ten times as fast as servers usually do, and so may leases be proved. Sessions are long: what
        // ends here is ended on purpose, and not by a machine that stands still.
        let client = Client::builder(self.ensemble.connect_string())
            .session_timeout(Duration::from_secs(30))
            .server_tick(Duration::from_millis(200));
        Ok(Actor { name, client: client.connect().await?, begun: self.begun })
    }

    fn say(&self, what: impl Display) {
        speak(self.begun, "servers", what);
    }

    /// Cuts the connection of each of these, and waits until all have noticed and are back in the same session.
    pub(crate) async fn cut(&self, actors: &[&Actor]) -> Result<()> {
        let mut cut = Vec::new();
        for actor in actors {
            cut.push((actor, actor.session()?, actor.client.state(), actor.client.state().current()));
        }
        let names: Vec<&str> = actors.iter().map(|actor| actor.name).collect();
        self.say(format!("cut the connection of {}", names.join(", ")));
        for (_, session, ..) in &cut {
            for server in self.ensemble.servers() {
                server.cut_connection(*session).await;
            }
        }
        for (actor, session, mut state, before) in cut {
            let back = async {
                // A short absence may be over before we look; its end has a new deadline, and so is no equal.
                while state.changed().await == before {}
                state.wait_for(|now| now.is_connected()).await
            };
            within("the way back", back).await?.context("the client has ended")?;
            ensure!(actor.session()? == session, "{} lost its session to a cut connection", actor.name);
            actor.say("was cut off and is back, in the same session");
        }
        Ok(())
    }

    async fn leader(&self) -> Result<usize> {
        self.ensemble.wait_for_leader().await.context("nobody leads the ensemble")
    }

    pub(crate) async fn name_leader(&self) -> Result<()> {
        let leader = self.leader().await?;
        self.say(format!("have elected server {}", leader + 1));
        Ok(())
    }

    /// Kills the server that leads, as a crash would, and says which one that was.
    pub(crate) async fn kill_leader(&mut self) -> Result<usize> {
        let leader = self.leader().await?;
        self.say(format!("lose their leader: server {} is killed", leader + 1));
        self.ensemble.kill(leader).await;
        Ok(leader)
    }

    /// Starts a killed server again, and waits until it is level with the others.
    pub(crate) async fn bring_back(&mut self, index: usize) -> Result<()> {
        self.ensemble.restart(index).await?;
        ensure!(self.ensemble.wait_until_serving().await, "server {} does not come back", index + 1);
        self.say(format!("have server {} back, level with the others", index + 1));
        Ok(())
    }

    /// Ends a participant's session as if it had been silent for too long.
    pub(crate) async fn expire(&self, actor: &Actor) -> Result<()> {
        let session = actor.session()?;
        self.say(format!("end the session of {}", actor.name));
        self.ensemble.expire_session(session).await;
        Ok(())
    }

    /// How many sessions and watches there are.
    async fn left_behind(&self) -> Result<(usize, usize)> {
        let leader = self.leader().await?;
        let sessions = self.ensemble.servers()[leader].sessions().await.len();
        let mut watches = 0;
        for server in self.ensemble.servers() {
            watches += server.watch_count().await;
        }
        Ok((sessions, watches))
    }

    /// Ends the servers; nobody may have left anything alive behind.
    pub(crate) async fn close(mut self) -> Result<()> {
        let gone = async {
            // A server may hear of the end of a connection a moment after its client.
            while self.left_behind().await? != (0, 0) {
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        match within("the end of all sessions and watches", gone).await {
            Ok(looked) => looked?,
            Err(_) => {
                let (sessions, watches) = self.left_behind().await?;
                bail!("{sessions} sessions and {watches} watches were left behind");
            }
        }
        for index in 0..self.ensemble.servers().len() {
            self.ensemble.stop(index).await;
        }
        println!();
        self.say("have stopped: no session and no watch was left, and everything held that was shown");
        Ok(())
    }
}

impl Actor {
    pub(crate) fn say(&self, what: impl Display) {
        speak(self.begun, self.name, what);
    }

    pub(crate) fn session(&self) -> Result<SessionId> {
        Ok(self.client.session()?.id())
    }

    /// Ends the session on the server.
    pub(crate) async fn go(self) -> Result<()> {
        Ok(within("the goodbye", self.client.close()).await??)
    }
}

fn speak(begun: Instant, who: &str, what: impl Display) {
    println!("{:7.3} s  {who:9} {what}", begun.elapsed().as_secs_f64());
}

/// Waits, but not for ever.
pub(crate) async fn within<F: IntoFuture>(what: &str, future: F) -> Result<F::Output> {
    timeout(PATIENCE, future).await.with_context(|| format!("{what} did not come within {PATIENCE:?}"))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) -> Result<()> {
    let look = async {
        while !so() {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(what, look).await
}
