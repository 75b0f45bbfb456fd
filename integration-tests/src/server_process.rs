//! A server of whatever make as a child process: started, killed, frozen, and started again on its own port and folder.
//!
//! The process belongs to the value: it is killed when the value goes away, and its folder is removed. Its output goes
//! to `server.log` in that folder; every error of this module carries the end of it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use crate::four_letter;

/// A JVM on a loaded machine with two cores was seen to take 9 s.
const READY_BOUND: Duration = Duration::from_secs(60);
const STOP_BOUND: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const LOG_TAIL: usize = 4_000;
/// Below the range from which the kernel takes ports for outgoing connections, so that nobody takes the port of a server
/// while it is down.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const PORT_TRIES: usize = 1_000;
/// How many ports one process has to itself.
const RESERVED_MAX: usize = 512;

/// How to start a server; built by [`crate::apache`] and [`crate::docent_bin`].
#[derive(Debug)]
pub struct Launch {
    /// What messages call it.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where its clients find it.
    pub address: SocketAddr,
}

/// A server's folder: configuration, log, and by default its data.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
}

impl Home {
    /// Makes an empty folder that is removed with this value.
    ///
    /// # Errors
    /// When the folder for temporary files is not writable.
    pub fn new() -> Result<Home> {
        let dir =
            tempfile::Builder::new().prefix("docent-peer-").tempdir().context("making a server's folder")?;
        Ok(Home { dir })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The server's `dataDir`.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.path().join("server.log")
    }
}

/// One server process.
#[derive(Debug)]
pub struct ServerProcess {
    launch: Launch,
    child: Option<Child>,
    // Declared last: the folder goes after the process.
    home: Home,
}

impl ServerProcess {
    /// Starts the server and waits until it answers `srvr`.
    ///
    /// # Errors
    /// When the program cannot be run, ends by itself, or does not answer within a minute.
    pub async fn start(launch: Launch, home: Home) -> Result<ServerProcess> {
        let mut server = ServerProcess::new(launch, home);
        server.start_again().await?;
        Ok(server)
    }

    /// A server that is not started yet.
    pub fn new(launch: Launch, home: Home) -> ServerProcess {
        ServerProcess { launch, child: None, home }
    }

    /// What is started from now on in this folder: a server of another make takes over the data.
    ///
    /// # Errors
    /// When the server is still running.
    pub fn replace(&mut self, launch: Launch) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is still running: kill or stop it first", self.launch.name);
        }
        self.launch = launch;
        Ok(())
    }

    /// Starts the server again after [`kill`](Self::kill) or [`stop`](Self::stop), on the same port and data.
    ///
    /// # Errors
    /// As [`start`](Self::start); also when it is still running.
    pub async fn start_again(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts the server and does not wait: a member of an ensemble serves only when others have come.
    ///
    /// # Errors
    /// When the program cannot be run, or the server is still running.
    pub fn spawn(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is still running: kill or stop it first", self.launch.name);
        }
        let log =
            OpenOptions::new().create(true).append(true).open(self.home.log()).context("opening the log")?;
        let [program, arguments @ ..] = self.launch.command.as_slice() else {
            bail!("{} has an empty command", self.launch.name);
        };
        let child = Command::new(program)
            .args(arguments)
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("running {program} for {}", self.launch.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the server serves clients.
    ///
    /// # Errors
    /// When it ends by itself, or does not serve within a minute; the message holds the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_BOUND;
        loop {
            if let Some(status) = self.ended()? {
                bail!("{} ended by itself, {status}:\n{}", self.launch.name, self.log_tail());
            }
            // While it starts, Apache answers that it is not serving requests.
            match four_letter::ask(self.launch.address, "srvr", Duration::from_secs(2)).await {
                Ok(answer) if four_letter::field(&answer, "Mode").is_some() => return Ok(()),
                seen if Instant::now() > deadline => {
                    bail!("{} is not ready ({seen:?}):\n{}", self.launch.name, self.log_tail());
                }
                // The pause of a bounded wait.
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Whether the process has ended by itself, and how.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        match &mut self.child {
            Some(child) => child.try_wait().context("asking for a process"),
            None => Ok(None),
        }
    }

    /// Ends the process at once, as `kill -9` does.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().with_context(|| format!("killing {}", self.launch.name))?;
            child.wait().with_context(|| format!("waiting for {}", self.launch.name))?;
        }
        Ok(())
    }

    /// Asks the process to end (`TERM`) and waits until it has.
    ///
    /// # Errors
    /// When it has not ended within 20 s; it is killed then.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + STOP_BOUND;
        while self.child.is_some() {
            if self.ended()?.is_some() {
                self.child = None;
            } else if Instant::now() > deadline {
                self.kill()?;
                bail!("{} did not end within {STOP_BOUND:?} of TERM:\n{}", self.launch.name, self.log_tail());
            } else {
                // The pause of a bounded wait.
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Freezes the process (`STOP`): its connections stay open and nobody answers.
    ///
    /// Waits until the kernel reports the whole process as stopped. The signal alone is not enough: until each thread has
    /// noticed it, one that runs on another processor may still answer a request.
    ///
    /// # Errors
    /// When it is not running, or has not stopped within 20 s.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let Some(child) = &self.child else { bail!("{} is not running", self.launch.name) };
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let deadline = Instant::now() + STOP_BOUND;
        loop {
            let status =
                waitid(WaitId::Pid(Pid::from_child(child)), options).context("asking for a process")?;
            if status.is_some_and(|status| status.stopped()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} has not stopped within {STOP_BOUND:?} of STOP", self.launch.name);
            }
            // The pause of a bounded wait.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets a frozen process go on (`CONT`).
    ///
    /// # Errors
    /// When it is not running.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.child else { bail!("{} is not running", self.launch.name) };
        kill_process(Pid::from_child(child), signal)
            .with_context(|| format!("{signal:?} to {}", self.launch.name))
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.launch.address
    }

    /// Its folder.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Whether a process is there that was not killed or stopped by us; it may have ended by itself.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Everything that it has printed, over all its starts.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.home.log()).unwrap_or_default()).into_owned()
    }

    /// The last few kilobytes of what it has printed.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.home.log()).unwrap_or_default();
        let start = text.len().saturating_sub(LOG_TAIL);
        String::from_utf8_lossy(&text[start..]).into_owned()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Nobody is left to be told, and a process that cannot be killed has ended.
        let _ = self.kill();
    }
}

/// A port on the loopback address that nobody listens at, and that no other call here gives, in this process or another,
/// before this process ends or has asked for 512 more: a server takes a while to listen, and again when it is started
/// anew. What keeps others away is a UDP socket at the same number, which is in no server's way.
///
/// # Errors
/// When a thousand tries found none.
pub fn free_address() -> Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)?)))
}

/// The first of so many ports in a row, each of them as [`free_address`] gives one.
///
/// # Errors
/// When a thousand tries found none.
pub fn free_ports(count: u16) -> Result<u16> {
    static RESERVED: Mutex<VecDeque<UdpSocket>> = Mutex::new(VecDeque::new());
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..PORT_TRIES {
        let first = fastrand::u16(PORTS.start..PORTS.end - count);
        let Some(reservations) = (first..first + count).map(reserve).collect::<Option<Vec<_>>>() else {
            continue;
        };
        reserved.extend(reservations);
        let beyond = reserved.len().saturating_sub(RESERVED_MAX);
        reserved.drain(..beyond);
        return Ok(first);
    }
    bail!("no {count} free ports in a row in {PORTS:?}")
}

/// Keeps a port that nobody has; `None` when somebody has it.
fn reserve(port: u16) -> Option<UdpSocket> {
    let address = (Ipv4Addr::LOCALHOST, port);
    let reservation = UdpSocket::bind(address).ok()?;
    TcpListener::bind(address).is_ok().then_some(reservation)
}

/// Writes `zoo.cfg` into the folder: the base lines, each replaced by an `extra` line with the same key.
///
/// # Errors
/// When an extra line is not `key=value`, or the file cannot be written.
pub fn write_config(home: &Home, address: SocketAddr, extra: &[&str]) -> Result<PathBuf> {
    std::fs::create_dir_all(home.data()).context("making the data folder")?;
    let base = [
        "tickTime=1000".to_owned(),
        format!("dataDir={}", home.data().display()),
        format!("clientPort={}", address.port()),
        format!("clientPortAddress={}", address.ip()),
        "maxClientCnxns=0".to_owned(),
        "admin.enableServer=false".to_owned(),
        "4lw.commands.whitelist=*".to_owned(),
        // Apache turns a key that it does not know into the system property zookeeper.KEY.
        "extendedTypesEnabled=true".to_owned(),
    ];
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    for line in extra {
        key(line).with_context(|| format!("not a key=value line: {line}"))?;
    }
    let replaced = |line: &str| extra.iter().any(|other| key(other) == key(line));
    let mut text: String =
        base.iter().filter(|line| !replaced(line)).map(|line| format!("{line}\n")).collect();
    text.extend(extra.iter().map(|line| format!("{line}\n")));
    let path = home.path().join("zoo.cfg");
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    // The log exists before the server does, so that its end can always be read.
    File::create(home.log()).context("making the log")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let given: Vec<SocketAddr> =
            (0..RESERVED_MAX / 4).map(|_| free_address().expect("a free port")).collect();
        let first = free_ports(100).expect("free ports in a row");
        let row = (first..first + 100).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let given: Vec<SocketAddr> = given.into_iter().chain(row).collect();
        for address in &given {
            assert!(UdpSocket::bind(address).is_err(), "{address} would be given again");
            assert!(TcpListener::bind(address).is_ok(), "{address} is in its server's way");
        }
    }
}
