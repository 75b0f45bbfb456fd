//! Docent as it is deployed: the static binary in an image that holds nothing else, several containers on one network,
//! each found by its name.
//!
//! Clients stand outside, at published ports, which stay the same over restarts. Containers, with their volumes, and the
//! network go away with the value that holds them, also when a test fails; they need a runtime with several threads for
//! that. What a killed test leaves behind is listed by
//! `docker ps --all --filter label=org.testcontainers.managed-by=testcontainers`.

mod image;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use testcontainers::bollard::models::{
    ContainerInspectResponse, NetworkConnectRequest, NetworkDisconnectRequest,
};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{CmdWaitFor, ExecCommand, IntoContainerPort as _};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, CopyTargetOptions, GenericImage, ImageExt as _};

use crate::ensemble::{Role, Srvr, tree};
use crate::four_letter;
use crate::recipe_kit::{LONG_SESSION, connect};
use crate::server_process::free_address;

pub use image::{Image, missing};

/// Nothing takes longer, unless it stands still.
const SETTLE_BOUND: Duration = Duration::from_secs(60);
/// A frozen container's port still accepts.
const ANSWER_BOUND: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);
/// Somebody else may take a port between its choice and its use.
const START_TRIES: usize = 3;
/// Seconds from `TERM` to `KILL`.
const STOP_SECONDS: i32 = 20;
const CLIENT_PORT: u16 = 2181;
/// Silence is noticed after two seconds, and no session ends because a machine is slow. The ports for other servers listen
/// everywhere: a container that comes back to its network may have another address.
const LINES: &str = "tickTime=400\ninitLimit=10\nsyncLimit=5\nleaderSilenceMs=2000\nmaxSessionTimeout=60000\n\
                     dataDir=/data\nclientPort=2181\nmaxClientCnxns=0\n4lw.commands.whitelist=*\nquorumListenOnAllIPs=true\n";

/// A container of the image, and where the host finds it.
#[derive(Debug)]
pub struct Member {
    container: ContainerAsync<GenericImage>,
    address: SocketAddr,
}

impl Member {
    /// A server that is alone, with the configuration that the image brings along.
    ///
    /// # Errors
    /// When the container cannot be started.
    pub async fn alone(image: &Image) -> Result<Member> {
        let address = free_address()?;
        let request = image.container().with_mapped_port(address.port(), CLIENT_PORT.tcp());
        Ok(Member { container: request.start().await?, address })
    }

    /// The published client port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&self) -> Result<()> {
        docker_client_instance().await?.kill_container(self.container.id(), None).await.context("killing")?;
        self.ended().await
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// When it had to be killed, or its server ended with an error.
    pub async fn stop(&self) -> Result<()> {
        self.container.stop_with_timeout(Some(STOP_SECONDS)).await?;
        self.ended().await?;
        let code = self.container.exit_code().await?;
        ensure!(code == Some(0), "it ended with {code:?}:\n{}", self.log().await);
        Ok(())
    }

    async fn ended(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLE_BOUND;
        while self.container.is_running().await? {
            ensure!(Instant::now() < deadline, "the container runs on");
            // The pause of a bounded wait.
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Starts it again on its own data, and does not wait until it serves.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub async fn start(&self) -> Result<()> {
        Ok(self.container.start().await?)
    }

    /// All its processes stand still, and their connections stay open.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn pause(&self) -> Result<()> {
        Ok(self.container.pause().await?)
    }

    /// They go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub async fn unpause(&self) -> Result<()> {
        Ok(self.container.unpause().await?)
    }

    /// Runs the binary inside the container; gives what it printed, and whether it ended well.
    ///
    /// # Errors
    /// When the container is not running.
    pub async fn inside(&self, arguments: &[&str]) -> Result<(String, bool)> {
        let command = std::iter::once("/docent").chain(arguments.iter().copied());
        let command = ExecCommand::new(command).with_cmd_ready_condition(CmdWaitFor::exit());
        let mut ran = self.container.exec(command).await?;
        let printed = ran.stdout_to_vec().await?;
        Ok((String::from_utf8_lossy(&printed).into_owned(), ran.exit_code().await? == Some(0)))
    }

    /// What it tells about itself.
    ///
    /// # Errors
    /// When it does not answer within a second, or does not serve.
    pub async fn srvr(&self) -> Result<Srvr> {
        Srvr::parse(&four_letter::ask(self.address, "srvr", ANSWER_BOUND).await?)
    }

    /// Everything that it has printed.
    pub async fn log(&self) -> String {
        // Only for messages: a log that cannot be had is none.
        let log = self.container.stderr_to_vec().await.unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    async fn inspect(&self) -> Result<ContainerInspectResponse> {
        Ok(docker_client_instance().await?.inspect_container(self.container.id(), None).await?)
    }
}

/// Containers on one network that are one ensemble. They are called by their `myid`, from 1.
#[derive(Debug)]
pub struct Containers {
    network: String,
    members: BTreeMap<u64, Member>,
}

impl Containers {
    /// Starts so many, and waits until they have a leader and all serve.
    ///
    /// # Errors
    /// When a container cannot be started, ends by itself, or they do not agree in time.
    pub async fn start(image: &Image, count: u64) -> Result<Containers> {
        let mut last = None;
        for _ in 0..START_TRIES {
            match Containers::create(image, count).await {
                Ok(containers) => {
                    containers.leader().await?;
                    return Ok(containers);
                }
                Err(error) if format!("{error:#}").contains("port is already allocated") => {
                    last = Some(error)
                }
                Err(error) => return Err(error),
            }
        }
        Err(last
            .map_or_else(|| anyhow::anyhow!("no try was made"), |error| error.context("ports were taken")))
    }

    async fn create(image: &Image, count: u64) -> Result<Containers> {
        let run = format!("{:016x}", fastrand::u64(..));
        let network = format!("docent-{run}");
        let name = |id: u64| format!("docent-{run}-{id}");
        let servers: String = (1..=count).map(|id| format!("server.{id}={}:2888:3888\n", name(id))).collect();
        let config = format!("{LINES}{servers}");
        let mut members = BTreeMap::new();
        for id in 1..=count {
            let address = free_address()?;
            let container = image
                .container()
                .with_mapped_port(address.port(), CLIENT_PORT.tcp())
                .with_network(&network)
                .with_container_name(name(id))
                .with_copy_to(
                    CopyTargetOptions::new("/conf/zoo.cfg").with_mode(0o644),
                    config.clone().into_bytes(),
                )
                .with_copy_to(
                    CopyTargetOptions::new("/data/myid").with_mode(0o644),
                    id.to_string().into_bytes(),
                )
                .start()
                .await
                .with_context(|| format!("starting container {id}"))?;
            members.insert(id, Member { container, address });
        }
        Ok(Containers { network, members })
    }

    /// The members' names.
    pub fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    /// All but one of the members' names.
    pub fn others(&self, id: u64) -> Vec<u64> {
        self.ids().into_iter().filter(|other| *other != id).collect()
    }

    /// One member.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn member(&self, id: u64) -> Result<&Member> {
        self.members.get(&id).with_context(|| format!("no member {id}"))
    }

    /// All members, for a client on the host.
    pub fn connect_string(&self) -> String {
        let hosts: Vec<String> = self.members.values().map(|member| member.address.to_string()).collect();
        hosts.join(",")
    }

    /// Waits until these members serve, and one of them leads; gives the leader.
    ///
    /// # Errors
    /// When they do not in time; the message holds the end of every log.
    pub async fn serving(&self, ids: &[u64]) -> Result<u64> {
        let deadline = Instant::now() + SETTLE_BOUND;
        loop {
            let mut roles = BTreeMap::new();
            for id in ids {
                roles.insert(*id, self.member(*id)?.srvr().await.map(|srvr| srvr.role).ok());
            }
            let leaders: Vec<u64> =
                roles.iter().filter(|(_, role)| **role == Some(Role::Leader)).map(|(id, _)| *id).collect();
            if let [leader] = leaders.as_slice()
                && roles.values().all(Option::is_some)
            {
                return Ok(*leader);
            }
            if Instant::now() > deadline {
                bail!("no agreement within {SETTLE_BOUND:?}: {roles:?}\n{}", self.logs().await);
            }
            // The pause of a bounded wait.
            tokio::time::sleep(POLL).await;
        }
    }

    /// The member that leads; waits until all serve.
    ///
    /// # Errors
    /// As [`serving`](Self::serving).
    pub async fn leader(&self) -> Result<u64> {
        self.serving(&self.ids()).await
    }

    /// A member that follows; waits until all serve.
    ///
    /// # Errors
    /// As [`serving`](Self::serving).
    pub async fn follower(&self) -> Result<u64> {
        let leader = self.leader().await?;
        self.others(leader).first().copied().context("the leader is alone")
    }

    /// Takes a member off the network; its published port goes, too.
    ///
    /// # Errors
    /// When it is not on the network.
    pub async fn disconnect(&self, id: u64) -> Result<()> {
        let container = self.member(id)?.container.id().to_owned();
        let request = NetworkDisconnectRequest { container, force: Some(true) };
        Ok(docker_client_instance().await?.disconnect_network(&self.network, request).await?)
    }

    /// Brings a member back to the network, under whatever address.
    ///
    /// # Errors
    /// When it is on the network.
    pub async fn reconnect(&self, id: u64) -> Result<()> {
        let container = self.member(id)?.container.id().to_owned();
        let request = NetworkConnectRequest { container, ..NetworkConnectRequest::default() };
        Ok(docker_client_instance().await?.connect_network(&self.network, request).await?)
    }

    /// The address that a member has on the network.
    ///
    /// # Errors
    /// When it has none.
    pub async fn inner_address(&self, id: u64) -> Result<String> {
        let settings =
            self.member(id)?.inspect().await?.network_settings.context("a container has networks")?;
        let networks = settings.networks.unwrap_or_default();
        let own = networks.get(&self.network).context("it is not on the network")?;
        own.ip_address.clone().filter(|address| !address.is_empty()).context("it has no address")
    }

    /// A container on the network that has nothing to do with the ensemble: it takes the next free address.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn stranger(&self, image: &Image) -> Result<Member> {
        let address = free_address()?;
        let request = image
            .container()
            .with_mapped_port(address.port(), CLIENT_PORT.tcp())
            .with_network(&self.network)
            .with_cmd(["serve", "--config", "/conf/zoo.cfg"]);
        Ok(Member { container: request.start().await?, address })
    }

    /// Checks that all members hold the same tree. Nobody else may write meanwhile. Gives its number of nodes.
    ///
    /// # Errors
    /// With the first difference.
    pub async fn same_everywhere(&self) -> Result<usize> {
        self.leader().await?;
        let mut trees = Vec::new();
        for (id, member) in &self.members {
            let client = connect(&member.address.to_string(), LONG_SESSION).await?;
            client.sync("/").await?;
            trees.push((id, tree(&client).await.with_context(|| format!("the tree of member {id}"))?));
            client.close().await?;
        }
        for pair in trees.windows(2) {
            let [(one, first), (other, second)] = pair else { continue };
            for (left, right) in first.iter().zip(second) {
                ensure!(left == right, "member {one} shows {left:?}, member {other} shows {right:?}");
            }
            let (many, more) = (first.len(), second.len());
            ensure!(many == more, "member {one} has {many} nodes, member {other} {more}");
        }
        Ok(trees.first().map_or(0, |(_, nodes)| nodes.len()))
    }

    /// What every member has printed.
    pub async fn logs(&self) -> String {
        let mut text = String::new();
        for (id, member) in &self.members {
            text.push_str(&format!("--- container {id}\n{}", member.log().await));
        }
        text
    }
}
