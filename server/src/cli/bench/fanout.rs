//! Watch fan-out: many sessions watch one node, one session sets it, and the time to the last event is what counts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use docent::proto::Request;
use docent::{ErrorCode, Version, Xid};

use super::control::{Control, open_session};
use super::frames::{Template, next_reply};
use super::histogram::Histogram;
use super::load::Tally;
use super::usage::Process;
use super::workload::{Length, Outcome, Run};

/// How long one round may take before the run is given up.
const ROUND_MAX: Duration = Duration::from_secs(30);
/// A watcher has at most a reply and an event in its buffer, and the node's data.
const BUFFER: usize = 4096;

/// One watching session. It blocks: all watchers of a round are due anyway, so the last one read is the last event.
struct Watcher {
    stream: TcpStream,
    get: Template,
    input: Vec<u8>,
    filled: usize,
    xid: i32,
}

/// What a watcher waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Reply,
    Event,
}

impl Watcher {
    fn open(host: &str, path: &str) -> Result<Watcher> {
        let stream = open_session(host)?;
        stream.set_read_timeout(Some(ROUND_MAX))?;
        let get = Template::new(&Request::Exists { path: path.to_owned(), watch: true });
        Ok(Watcher { stream, get, input: vec![0; BUFFER], filled: 0, xid: 0 })
    }

    /// Asks for the next watch.
    fn arm(&mut self) -> Result<()> {
        self.xid = self.xid % i32::MAX + 1;
        let mut out = Vec::with_capacity(BUFFER);
        self.get.put(&mut out, self.xid, 0);
        self.stream.write_all(&out).context("setting a watch")
    }

    /// Waits for what is due.
    fn wait(&mut self, due: Due) -> Result<()> {
        loop {
            if let Some((reply, taken)) = next_reply(&self.input[..self.filled])? {
                let came = if reply.xid == Xid::EVENT { Due::Event } else { Due::Reply };
                if came != due {
                    bail!("a watcher received {came:?} where {due:?} is due");
                }
                if due == Due::Reply && (reply.xid != Xid(self.xid) || reply.error != ErrorCode::OK) {
                    bail!("setting a watch: reply to xid {} with {}", reply.xid.0, reply.error);
                }
                self.input.copy_within(taken..self.filled, 0);
                self.filled -= taken;
                return Ok(());
            }
            match self.stream.read(&mut self.input[self.filled..]).context("waiting for an event")? {
                0 => bail!("the server closed a watcher's connection"),
                bytes => self.filled += bytes,
            }
        }
    }
}

/// Runs rounds of arming all watches, setting the node, and waiting for the last event.
///
/// # Errors
/// A connection breaks, or a round takes longer than [`ROUND_MAX`].
pub(crate) fn measure(run: &Run<'_>) -> Result<Outcome> {
    let mut control = Control::open(run.target)?;
    let data = Bytes::from(vec![b'x'; run.size]);
    control.create_all(&[run.base.to_owned()], &data)?;
    let outcome = rounds(run, &mut control, &data);
    let cleared = control.delete_all(run.base).and_then(|()| control.close());
    let outcome = outcome?;
    cleared.with_context(|| format!("clearing {} away", run.base))?;
    Ok(outcome)
}

fn rounds(run: &Run<'_>, control: &mut Control, data: &Bytes) -> Result<Outcome> {
    let mut watchers = Vec::with_capacity(run.shape.sessions);
    for index in 0..run.shape.sessions {
        watchers.push(Watcher::open(run.target.host(index), run.base)?);
    }
    let resident_before = run.server.map(Process::resident).transpose()?;
    let server_before = run.server.map(Process::cpu_time).transpose()?;
    let own_before = Process::own().cpu_time()?;
    let begin = Instant::now();
    let (end, mut left) = match run.length {
        Length::Time { counted, .. } => (Some(begin + counted), u64::MAX),
        Length::Count(count) => (None, count),
    };
    let mut latency = Histogram::default();
    while left > 0 && end.is_none_or(|end| Instant::now() < end) && !run.stop.load(Ordering::Relaxed) {
        left -= 1;
        latency
            .record(u64::try_from(round(run, &mut watchers, control, data)?.as_nanos()).unwrap_or(u64::MAX));
    }
    let elapsed = begin.elapsed();
    let server_cpu = run.server.map(Process::cpu_time).transpose()?.zip(server_before);
    Ok(Outcome {
        tally: Tally { latency, last_reply: None },
        elapsed,
        server_cpu: server_cpu.map(|(after, before)| after.saturating_sub(before)),
        own_cpu: Process::own().cpu_time()?.saturating_sub(own_before),
        resident: run.server.map(Process::resident).transpose()?.zip(resident_before).map(|(a, b)| (b, a)),
    })
}

fn round(run: &Run<'_>, watchers: &mut [Watcher], control: &mut Control, data: &Bytes) -> Result<Duration> {
    for watcher in watchers.iter_mut() {
        watcher.arm()?;
    }
    for watcher in watchers.iter_mut() {
        watcher.wait(Due::Reply)?;
    }
    let set = Request::SetData { path: run.base.to_owned(), data: Some(data.clone()), version: Version::ANY };
    let begin = Instant::now();
    control.send(&[set])?;
    for watcher in watchers.iter_mut() {
        watcher.wait(Due::Event)?;
    }
    let took = begin.elapsed();
    for reply in control.receive()? {
        reply.map_err(|code| anyhow::anyhow!("setting the watched node: {code}"))?;
    }
    Ok(took)
}
