//! An ensemble of real processes on the loopback address, each member of whatever make: started, killed, frozen, wiped,
//! and replaced by a server of another make on the same data.
//!
//! The ticks are short, so that what a server notices by time it notices soon. Every wait is bounded by [`SETTLE_BOUND`],
//! and its error carries the end of every member's log.

mod change;
mod compare;
mod level;
mod report;
pub mod sure;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use docent::Client;

use crate::availability::Need;
use crate::backend::Backend;
use crate::server_process::{Home, ServerProcess, free_address, write_config};

pub use compare::{Seen, tree};
pub use level::{Level, LogMark};
pub use report::{Role, Srvr};

/// Three JVMs that start at once on a busy machine of two cores were seen to take 20 s until they had a leader.
pub const SETTLE_BOUND: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(10);
/// Two tests may be handed the same free port at once; the loser starts again with others.
const START_TRIES: usize = 3;

/// The lines that every member has. A session may be long, whatever the tick is: no session of a test may end because a
/// machine was slow. Nor may members leave a leader for that, of whatever make: ten seconds of silence are borne. A killed
/// member is noticed by its connections; a test that freezes one says how soon its silence counts.
const LINES: [&str; 5] =
    ["tickTime=400", "initLimit=10", "syncLimit=25", "leaderSilenceMs=10000", "maxSessionTimeout=60000"];

/// JVMs of members start faster without the second compiler, and tell how they bring followers up to date.
const JVM: [&str; 5] = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.log.org.apache.zookeeper.server.quorum.Learner=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.zookeeper.server.quorum.LearnerHandler=debug",
];

/// One member as it is planned.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Which server.
    pub kind: Backend,
    /// Whether it has no vote.
    pub observer: bool,
}

impl Seat {
    /// A member with a vote.
    pub const fn voter(kind: Backend) -> Seat {
        Seat { kind, observer: false }
    }

    /// A member without one.
    pub const fn observer(kind: Backend) -> Seat {
        Seat { kind, observer: true }
    }
}

/// What must be installed for these members.
pub fn needs(kinds: &[Backend]) -> Vec<Need> {
    kinds.iter().flat_map(|kind| kind.needs()).collect()
}

#[derive(Debug)]
struct Member {
    seat: Seat,
    process: ServerProcess,
    config: PathBuf,
    /// Its line in the configuration of all.
    server: String,
}

/// Servers that run until this value goes away. Members are called by their `myid`, from 1.
#[derive(Debug)]
pub struct Ensemble {
    members: BTreeMap<u64, Member>,
    jvm: &'static [&'static str],
    /// What was added to every configuration.
    lines: Vec<String>,
}

impl Ensemble {
    /// Starts voters of these kinds, as members 1, 2, …, and waits until all serve.
    ///
    /// # Errors
    /// When a member cannot be started, ends by itself, or they do not agree on a leader in time.
    pub async fn start(kinds: &[Backend]) -> Result<Ensemble> {
        let seats: Vec<Seat> = kinds.iter().map(|kind| Seat::voter(*kind)).collect();
        Ensemble::start_with(&seats, &[]).await
    }

    /// Starts members in these seats, with further lines of `zoo.cfg`, and waits until all serve.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(seats: &[Seat], lines: &[&str]) -> Result<Ensemble> {
        let mut last = None;
        for _ in 0..START_TRIES {
            let mut ensemble = Ensemble::prepare(seats, lines)?;
            match ensemble.start_all().await {
                Ok(()) => return Ok(ensemble),
                Err(error) if format!("{error:#}").contains("in use") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last
            .map_or_else(|| anyhow::anyhow!("no try was made"), |error| error.context("ports were taken")))
    }

    /// Writes folders and configurations, and starts nothing.
    ///
    /// # Errors
    /// When the files cannot be written or our binary cannot be built.
    pub fn prepare(seats: &[Seat], lines: &[&str]) -> Result<Ensemble> {
        Ensemble::prepare_with(seats, lines, &JVM)
    }

    /// As [`prepare`](Self::prepare), with these flags for JVMs instead of those that make tests quick.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn prepare_with(seats: &[Seat], lines: &[&str], jvm: &'static [&'static str]) -> Result<Ensemble> {
        let mut servers = Vec::new();
        for (id, seat) in (1_u64..).zip(seats) {
            servers.push(server_line(id, *seat)?);
        }
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut ensemble = Ensemble { members: BTreeMap::new(), jvm, lines };
        for (id, seat) in (1_u64..).zip(seats) {
            ensemble.seat(id, *seat, &servers)?;
        }
        Ok(ensemble)
    }

    /// Prepares a server that is to be asked in: its list names all members and itself. It has the next name.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn prepare_joiner(&mut self, seat: Seat) -> Result<u64> {
        let id = self.members.keys().max().map_or(1, |last| last + 1);
        let mut servers: Vec<String> = self.members.values().map(|member| member.server.clone()).collect();
        servers.push(server_line(id, seat)?);
        self.seat(id, seat, &servers)?;
        Ok(id)
    }

    /// Prepares one member with this list of servers.
    fn seat(&mut self, id: u64, seat: Seat, servers: &[String]) -> Result<()> {
        let address = free_address()?;
        let home = Home::new()?;
        let mut all: Vec<&str> = LINES.to_vec();
        let key = |line: &str| line.split_once('=').map(|(key, _)| key.to_owned());
        all.retain(|line| !self.lines.iter().any(|other| key(other) == key(line)));
        all.extend(self.lines.iter().map(String::as_str));
        all.extend(servers.iter().map(String::as_str));
        if seat.observer {
            all.push("peerType=observer");
        }
        let config = write_config(&home, address, &all)?;
        std::fs::write(home.data().join("myid"), format!("{id}\n")).context("writing myid")?;
        let process = ServerProcess::new(seat.kind.launch(&config, address, self.jvm)?, home);
        let mine = format!("server.{id}=");
        let server = servers.iter().find(|line| line.starts_with(&mine)).context("its own line")?.clone();
        self.members.insert(id, Member { seat, process, config, server });
        Ok(())
    }

    /// How a client asks for a server in the ensemble, with this role.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn joining(&self, id: u64, role: &str) -> Result<String> {
        let member = self.member(id)?;
        let server = member.server.trim_end_matches(":observer");
        Ok(format!("{server}:{role};{}", member.process.address()))
    }

    /// A member's `zoo.cfg`.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn config(&self, id: u64) -> Result<&Path> {
        Ok(&self.member(id)?.config)
    }

    /// As [`start_with`](Self::start_with), and the voter with this name leads at first: it starts beside as many voters
    /// with lower names as make a quorum, and the others find it leading.
    ///
    /// # Errors
    /// As [`start`](Self::start); also when another leads.
    pub async fn start_led_by(leader: u64, seats: &[Seat], lines: &[&str]) -> Result<Ensemble> {
        let mut ensemble = Ensemble::prepare(seats, lines)?;
        let voters: Vec<u64> =
            (1_u64..).zip(seats).filter(|(_, seat)| !seat.observer).map(|(id, _)| id).collect();
        let mut first: Vec<u64> = voters.iter().copied().filter(|id| *id < leader).collect();
        first.truncate(voters.len() / 2);
        first.push(leader);
        for id in &first {
            ensemble.spawn_member(*id)?;
        }
        let leads = ensemble.serving(&first).await?;
        ensure!(leads == leader, "member {leads} leads instead of {leader}\n{}", ensemble.logs());
        for id in ensemble.ids() {
            if !first.contains(&id) {
                ensemble.spawn_member(id)?;
            }
        }
        ensemble.all_serve().await?;
        Ok(ensemble)
    }

    /// Starts all members and waits until all serve.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_all(&mut self) -> Result<()> {
        for member in self.members.values_mut() {
            member.process.spawn()?;
        }
        self.all_serve().await
    }

    /// The members' names.
    pub fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    /// The members that were started and neither stopped nor killed.
    pub fn started(&self) -> Vec<u64> {
        self.members.iter().filter(|(_, member)| member.process.is_started()).map(|(id, _)| *id).collect()
    }

    /// Which server a member is.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn kind(&self, id: u64) -> Result<Backend> {
        Ok(self.member(id)?.seat.kind)
    }

    /// All members, for a client.
    pub fn connect_string(&self) -> String {
        let hosts: Vec<String> =
            self.members.values().map(|member| member.process.address().to_string()).collect();
        hosts.join(",")
    }

    /// Where clients find one member.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn address(&self, id: u64) -> Result<SocketAddr> {
        Ok(self.member(id)?.process.address())
    }

    /// A member's process, as long as it runs.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn pid(&self, id: u64) -> Result<Option<u32>> {
        Ok(self.member(id)?.process.pid())
    }

    /// Starts a member that was stopped or killed, and waits until it serves.
    ///
    /// # Errors
    /// When it ends by itself or does not serve in time.
    pub async fn start_member(&mut self, id: u64) -> Result<()> {
        self.member_mut(id)?.process.start_again().await
    }

    /// Starts a member and does not wait.
    ///
    /// # Errors
    /// When its program cannot be run.
    pub fn spawn_member(&mut self, id: u64) -> Result<()> {
        self.member_mut(id)?.process.spawn()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self, id: u64) -> Result<()> {
        self.member_mut(id)?.process.kill()
    }

    /// Asks a member to end, and waits until it has.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub async fn stop(&mut self, id: u64) -> Result<()> {
        self.member_mut(id)?.process.stop().await
    }

    /// `SIGSTOP`; returns when the whole process stands still.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn freeze(&self, id: u64) -> Result<()> {
        self.member(id)?.process.freeze().await
    }

    /// `SIGCONT`.
    ///
    /// # Errors
    /// When it is not running.
    pub fn thaw(&self, id: u64) -> Result<()> {
        self.member(id)?.process.thaw()
    }

    /// Removes everything that a member that does not run has on its disk, except its name.
    ///
    /// # Errors
    /// When it runs, or the folder cannot be removed.
    pub fn wipe(&mut self, id: u64) -> Result<()> {
        let member = self.member(id)?;
        ensure!(!member.process.is_started(), "member {id} is running: kill or stop it first");
        let version = member.process.home().data().join("version-2");
        std::fs::remove_dir_all(&version).with_context(|| format!("removing {}", version.display()))
    }

    /// Another make of server takes the seat and the data of a member that does not run.
    ///
    /// # Errors
    /// When it runs, or our binary cannot be built.
    pub fn replace(&mut self, id: u64, kind: Backend) -> Result<()> {
        let jvm = self.jvm;
        let member = self.member_mut(id)?;
        let launch = kind.launch(&member.config, member.process.address(), jvm)?;
        member.process.replace(launch)?;
        member.seat.kind = kind;
        Ok(())
    }

    /// Whether a started member has ended by itself.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn has_ended(&mut self, id: u64) -> Result<bool> {
        Ok(self.member_mut(id)?.process.ended()?.is_some())
    }

    /// A member's `dataDir`.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn data(&self, id: u64) -> Result<PathBuf> {
        Ok(self.member(id)?.process.home().data())
    }

    /// Everything that a member has printed.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn log_text(&self, id: u64) -> Result<String> {
        Ok(self.member(id)?.process.log_text())
    }

    /// Waits until the text stands in a file of the member's transaction log.
    ///
    /// # Errors
    /// When it does not get there in time.
    pub async fn logged(&self, id: u64, text: &str) -> Result<()> {
        let folder = self.data(id)?.join("version-2");
        self.until(&format!("{text} in the log of member {id}"), async || Ok(holds(&folder, text)?)).await
    }

    /// Waits until every member that was started serves, exactly one of them as leader; gives that one.
    ///
    /// # Errors
    /// When one has ended by itself, or they do not agree in time.
    pub async fn all_serve(&mut self) -> Result<()> {
        let ids = self.started();
        self.serving(&ids).await.map(drop)
    }

    /// Waits until these members serve, and one of the started ones leads; gives the leader.
    ///
    /// # Errors
    /// As [`all_serve`](Self::all_serve).
    pub async fn serving(&mut self, ids: &[u64]) -> Result<u64> {
        let deadline = Instant::now() + SETTLE_BOUND;
        loop {
            for (id, member) in &mut self.members {
                if member.process.is_started()
                    && let Some(status) = member.process.ended()?
                {
                    bail!("member {id} ended by itself, {status}:\n{}", member.process.log_tail());
                }
            }
            let mut roles = BTreeMap::new();
            for id in ids {
                // A frozen or starting member does not answer; it is asked again.
                roles.insert(*id, self.srvr(*id).await.map(|srvr| srvr.role).ok());
            }
            let leaders: Vec<u64> =
                roles.iter().filter(|(_, role)| **role == Some(Role::Leader)).map(|(id, _)| *id).collect();
            if let [leader] = leaders.as_slice()
                && roles.values().all(Option::is_some)
            {
                return Ok(*leader);
            }
            if Instant::now() > deadline {
                bail!("no agreement within {SETTLE_BOUND:?}: {roles:?}\n{}", self.logs());
            }
            // The pause of a bounded wait.
            tokio::time::sleep(POLL).await;
        }
    }

    /// The member that leads the started ones; waits until there is one.
    ///
    /// # Errors
    /// As [`all_serve`](Self::all_serve).
    pub async fn leader(&mut self) -> Result<u64> {
        let ids = self.started();
        self.serving(&ids).await
    }

    /// A started member that follows with a vote.
    ///
    /// # Errors
    /// When there is none.
    pub async fn follower(&mut self) -> Result<u64> {
        let leader = self.leader().await?;
        let voter = |id: &u64| *id != leader && self.members.get(id).is_some_and(|m| !m.seat.observer);
        self.started().into_iter().find(voter).context("no follower is running")
    }

    /// Waits until a condition holds.
    ///
    /// # Errors
    /// When it does not in time, or cannot be asked about; the message holds the end of every log.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + SETTLE_BOUND;
        while !holds().await? {
            ensure!(Instant::now() < deadline, "not within {SETTLE_BOUND:?}: {what}\n{}", self.logs());
            // The pause of a bounded wait.
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The end of every member's log.
    pub fn logs(&self) -> String {
        let tail = |(id, member): (&u64, &Member)| {
            let log = member.process.log_tail();
            // Java's traces hide what matters.
            let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("\tat ")).collect();
            format!("--- member {id}, {:?}\n{}", member.seat.kind, lines.join("\n"))
        };
        self.members.iter().map(tail).collect::<Vec<_>>().join("\n")
    }

    fn member(&self, id: u64) -> Result<&Member> {
        self.members.get(&id).with_context(|| format!("no member {id}"))
    }

    fn member_mut(&mut self, id: u64) -> Result<&mut Member> {
        self.members.get_mut(&id).with_context(|| format!("no member {id}"))
    }
}

impl Drop for Ensemble {
    /// `DOCENT_LOGS` names a folder for everything that the members have printed.
    fn drop(&mut self) {
        let Some(folder) = std::env::var_os("DOCENT_LOGS") else { return };
        for (id, member) in &self.members {
            let path = Path::new(&folder).join(format!("member-{id}.log"));
            // Whoever looks for a log that could not be written finds none.
            let _ = std::fs::write(path, member.process.log_text());
        }
    }
}

/// Ends a session that is of no more use. One that cannot be closed now, because there is an election, ends by itself.
async fn leave(client: Client) {
    let _ = client.close().await;
}

fn server_line(id: u64, seat: Seat) -> Result<String> {
    let (quorum, election) = (free_address()?, free_address()?);
    let kind = if seat.observer { ":observer" } else { "" };
    Ok(format!("server.{id}=127.0.0.1:{}:{}{kind}", quorum.port(), election.port()))
}

/// Whether a file of the transaction log in this folder holds the text.
fn holds(folder: &Path, text: &str) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("log.") {
            let bytes = std::fs::read(entry.path())?;
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
