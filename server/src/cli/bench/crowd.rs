//! Crowds: what a session costs that only lives, and what one change costs that many watch.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use docent::proto::ops::SetWatches;
use docent::proto::{MultiOp, Request};
use docent::{Version, Xid, Zxid};

use super::control::{Control, Target, open_session, read_frame};
use super::frames::Template;
use super::usage::Process;

/// Heartbeats that each session of a crowd has answered before memory is read.
const BEATS: i32 = 3;
/// While a crowd gathers, those who are there say so at least so often.
const BEAT_EVERY: Duration = Duration::from_secs(3);
/// Sessions that share the watches of a burst.
const WATCHERS: usize = 100;
/// How long writes are timed before and after a burst.
const QUIET: Duration = Duration::from_secs(2);

/// What many silent sessions cost.
pub(crate) struct SessionsUse {
    /// Sessions that were open together.
    pub(crate) sessions: u64,
    /// Resident memory of the server before and with them, bytes.
    pub(crate) server: (u64, u64),
    /// Resident memory of this process before and with them, bytes.
    pub(crate) own: (u64, u64),
}

impl SessionsUse {
    /// Bytes of the server's memory for each session.
    pub(crate) fn per_session(&self) -> f64 {
        (self.server.1 as f64 - self.server.0 as f64) / self.sessions as f64
    }

    /// Bytes of this process's memory for each session.
    pub(crate) fn own_per_session(&self) -> f64 {
        (self.own.1 as f64 - self.own.0 as f64) / self.sessions as f64
    }
}

/// Opens so many sessions, each on a connection of its own, lets all of them send heartbeats, and reads both memories.
///
/// # Errors
/// A connection breaks (`maxClientCnxns`, or the limit of open files of either side), a process cannot be read, or the run
/// is stopped.
pub(crate) fn sessions(
    target: &Target,
    count: u64,
    server: Process,
    stop: &AtomicBool,
) -> Result<SessionsUse> {
    let mut crowd = vec![open_session(target.host(0))?];
    beat(&mut crowd)?;
    crowd.reserve(count as usize);
    let before = (server.resident()?, Process::own().resident()?);
    let mut beaten = Instant::now();
    for index in 0..count {
        if stop.load(Ordering::Relaxed) {
            bail!("stopped with {index} sessions");
        }
        crowd.push(open_session(target.host(index as usize)).with_context(|| format!("session {index}"))?);
        if beaten.elapsed() > BEAT_EVERY {
            beat(&mut crowd)?;
            beaten = Instant::now();
        }
    }
    for _ in 0..BEATS {
        beat(&mut crowd)?;
    }
    let after = (server.resident()?, Process::own().resident()?);
    say(&mut crowd, &Request::CloseSession)?;
    Ok(SessionsUse { sessions: count, server: (before.0, after.0), own: (before.1, after.1) })
}

fn say(crowd: &mut [TcpStream], request: &Request) -> Result<()> {
    let mut frame = Vec::new();
    Template::new(request).put(&mut frame, 1, 0);
    for stream in crowd {
        stream.write_all(&frame)?;
    }
    Ok(())
}

/// One heartbeat of everybody, and its answers.
fn beat(crowd: &mut [TcpStream]) -> Result<()> {
    say(crowd, &Request::Ping)?;
    for stream in crowd {
        read_frame(stream).context("waiting for the answer to a heartbeat")?;
    }
    Ok(())
}

/// What a change costs that many watches wait for.
pub(crate) struct Burst {
    /// Watches that fired.
    pub(crate) watches: u64,
    /// From sending the change to reading the last event.
    pub(crate) took: Duration,
    /// The longest write of somebody else before, and how many there were.
    pub(crate) before: (Duration, u64),
    /// The longest write of somebody else that began before the last event was read, and how many there were.
    pub(crate) during: (Duration, u64),
}

/// Sets about so many watches on nodes of its own, changes all of the nodes in one transaction, and times the writes of
/// another session meanwhile.
///
/// # Errors
/// A connection breaks or a request is refused.
pub(crate) fn burst(target: &Target, base: &str, watches: u64) -> Result<Burst> {
    let mut control = Control::open(target)?;
    let nodes = (watches as usize).div_ceil(WATCHERS);
    let paths: Vec<String> = (0..nodes).map(|n| format!("{base}/n{n:06}")).collect();
    control.create_all(&[base.to_owned(), format!("{base}/other")], &Bytes::new())?;
    control.create_all(&paths, &Bytes::new())?;
    let outcome = fire(target, base, &paths, &mut control);
    control.delete_all(base)?;
    control.close()?;
    outcome
}

fn fire(target: &Target, base: &str, paths: &[String], control: &mut Control) -> Result<Burst> {
    let set = SetWatches { relative_zxid: Zxid(i64::MAX), data: paths.to_vec(), ..SetWatches::default() };
    let mut crowd = Vec::new();
    for index in 0..WATCHERS {
        crowd.push(open_session(target.host(index))?);
    }
    say(&mut crowd, &Request::SetWatches(set))?;
    for stream in &mut crowd {
        read_frame(stream).context("waiting for watches to be set")?;
    }
    let done = AtomicBool::new(false);
    let other = format!("{base}/other");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(target, &other, &done));
        std::thread::sleep(QUIET);
        let began = Instant::now();
        let data = Some(Bytes::from_static(b"changed"));
        let changes = paths.iter().map(|path| MultiOp::SetData {
            path: path.clone(),
            data: data.clone(),
            version: Version::ANY,
        });
        let changed = control.call(Request::Multi(changes.collect()));
        let heard = changed.and_then(|_| {
            crowd.iter_mut().try_for_each(|stream| {
                for _ in paths {
                    let frame = read_frame(stream).context("waiting for an event")?;
                    if frame.first_chunk::<4>() != Some(&Xid::EVENT.0.to_be_bytes()) {
                        bail!("something else than an event came");
                    }
                }
                Ok(())
            })
        });
        let ended = Instant::now();
        std::thread::sleep(QUIET);
        done.store(true, Ordering::Relaxed);
        let writes = match writer.join() {
            Ok(writes) => writes?,
            Err(_) => bail!("the writing thread panicked"),
        };
        heard?;
        let of = |wanted: &dyn Fn(&Instant) -> bool| {
            let chosen = writes.iter().filter(|(at, _)| wanted(at));
            let longest = chosen.clone().map(|(_, took)| *took).max().unwrap_or_default();
            (longest, chosen.count() as u64)
        };
        // A write that waits when the change comes belongs to it.
        let longest = writes.iter().map(|(_, took)| *took).max().unwrap_or_default();
        Ok(Burst {
            watches: (paths.len() * WATCHERS) as u64,
            took: ended - began,
            before: of(&|at| *at + longest < began),
            during: of(&|at| *at + longest >= began && *at <= ended),
        })
    })
}

/// Sets one node again and again, one write at a time, and says when each began and how long it took.
fn write_on(target: &Target, path: &str, done: &AtomicBool) -> Result<Vec<(Instant, Duration)>> {
    let mut control = Control::open(target)?;
    let mut writes = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        let request = Request::SetData { path: path.to_owned(), data: None, version: Version::ANY };
        if let Err(code) = control.call(request)? {
            bail!("a write was refused: {code}");
        }
        writes.push((began, began.elapsed()));
    }
    control.close()?;
    Ok(writes)
}
