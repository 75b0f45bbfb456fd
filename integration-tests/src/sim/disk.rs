//! One server's disk: the storage room's own code, called in one thread, on a disk in memory that loses and tears.
//!
//! It does what the writer's thread does – gather, write, sync, report – as steps that the world times: first the write,
//! then, after a while, the sync and the report. Between the two the machine may stop. What is durable is kept a second
//! time as plain numbers, so that a promise can be checked at the moment when it is given, and recovery against it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use docent::Zxid;
use docent_server::config::{Config, Dynamic};
use docent_server::load::{LoadOptions, give_owners_sessions, load};
use docent_server::node::{Boot, State};
use docent_server::storage::{
    Compression, Dirs, Disk, Epochs, Errand, Group, Log, LogOptions, LogReader, MemDisk, Record,
    RecoverOptions, SnapshotDigest, SnapshotWriter, purge,
};
use docent_server::tree::{Tree, TreeOptions};
use docent_server::zab::{LinkId, Members, PeerId};
use docent_server::{LogSource, MembersFile};

use super::checks::hash;
use super::crash_points::Pending;
use super::plan::{Fault, Plan};
use super::roster::zoo_cfg;

/// The file that names the members.
const ZOO_CFG: &str = "/conf/zoo.cfg";
/// The file with those that are under way.
const NEXT: &str = "/conf/zoo.cfg.dynamic.next";

/// Snapshots that are kept, as many as may be removed down to.
const RETAINED: usize = 3;

/// What the disk is asked.
#[derive(Debug)]
pub(super) enum Job {
    Append {
        order: u64,
        zxid: Zxid,
        payload: Bytes,
    },
    Truncate {
        order: u64,
        after: Zxid,
        reload: bool,
    },
    SaveEpochs {
        order: u64,
        epochs: Epochs,
    },
    Roll,
    /// What is written beside the database.
    Errand(Errand),
    /// It is handed on to the snapshot lane: in its turn, so that a cut gives up what was begun before it and nothing else.
    Snapshot(SnapJob),
}

/// What the snapshot lane is asked.
#[derive(Debug)]
pub(super) enum SnapJob {
    Begin(Zxid),
    Piece(Bytes),
    End(Option<u64>),
}

/// What the disk says.
#[derive(Debug)]
pub(super) enum Said {
    Synced(u64),
    Reloaded {
        order: u64,
        state: Box<State>,
    },
    Progress(u64),
    SnapshotEnded(bool),
    /// The disk takes nothing more; the server must stop.
    Broken(String),
}

/// What is durable, as numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    /// Everything up to here is held by a snapshot.
    pub(super) floor: Zxid,
    /// The records behind or before it, by the hash of their payloads.
    pub(super) records: BTreeMap<Zxid, u64>,
    pub(super) epochs: Epochs,
}

impl Durable {
    pub(super) fn holds(&self, zxid: Zxid) -> bool {
        zxid <= self.floor || self.records.contains_key(&zxid)
    }

    fn truncate(&mut self, after: Zxid) {
        self.records.retain(|zxid, _| *zxid <= after);
        self.floor = self.floor.min(after);
    }

    /// The end of it.
    pub(super) fn last(&self) -> Zxid {
        self.records.last_key_value().map_or(self.floor, |(zxid, _)| (*zxid).max(self.floor))
    }

    /// Whether all that another disk has is here, too.
    pub(super) fn covers(&self, other: &Durable) -> bool {
        let (ours, theirs) = (self.epochs, other.epochs);
        let holds = |(zxid, hash): (&Zxid, &u64)| {
            *zxid <= self.floor || self.records.get(zxid).is_some_and(|found| found == hash)
        };
        ours.accepted >= theirs.accepted
            && ours.current >= theirs.current
            && self.last() >= other.floor
            && other.records.iter().all(holds)
    }
}

/// A leader's state that was taken in.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) writer: SnapshotWriter,
    pub(super) state: Box<State>,
}

#[derive(Debug)]
struct Writing {
    writer: SnapshotWriter,
    zxid: Zxid,
    pieces: u64,
}

/// The disk of one server, over all its lives.
#[derive(Debug)]
pub(super) struct SimDisk {
    mem: MemDisk,
    dirs: Dirs,
    options: LoadOptions,
    log_options: LogOptions,
    log: Option<Log>,
    epochs: Option<Epochs>,
    jobs: VecDeque<Job>,
    /// Records that are written and not synced, with the order of the last.
    unsynced: Option<(u64, Vec<(Zxid, u64)>)>,
    snap_jobs: VecDeque<SnapJob>,
    writing: Option<Writing>,
    purge: bool,
    /// The files about the members, where they may change.
    files: Option<MembersFile>,
    pub(super) durable: Durable,
}

type Failed<T> = Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl SimDisk {
    pub(super) fn new(peer: PeerId, plan: &Plan) -> Self {
        let mem = MemDisk::new();
        if plan.has(Fault::Reconfig) {
            mem.put(Path::new(ZOO_CFG), zoo_cfg(peer, &plan.first_members()));
        }
        SimDisk {
            mem,
            dirs: Dirs::new(Path::new("/data"), None),
            options: LoadOptions {
                tree: TreeOptions { hash_seed: plan.seed, extended_types: true },
                recover: RecoverOptions::default(),
                compression: Compression::None,
                digest: true,
                member: plan.servers > 1,
            },
            log_options: LogOptions {
                prealloc_bytes: plan.prealloc_bytes,
                size_limit_bytes: Some(plan.segment_bytes),
                ..LogOptions::default()
            },
            log: None,
            epochs: None,
            jobs: VecDeque::new(),
            unsynced: None,
            snap_jobs: VecDeque::new(),
            writing: None,
            purge: plan.purge,
            files: None,
            durable: Durable::default(),
        }
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.mem.clone())
    }

    /// Starts from what is there, and checks that nothing is missing that was durable. Answers the records behind the
    /// snapshot, too.
    pub(super) fn boot(&mut self) -> Failed<(Boot, Zxid, BTreeMap<Zxid, Bytes>)> {
        let disk = self.disk();
        let boot = load(&disk, &self.dirs, &self.options).map_err(text)?;
        let floor = boot.log.floor();
        let records = self.records_after(floor, None)?;
        let last = boot.state.tree.last_zxid();
        if let Some(files) = &self.files {
            files.forget_cut(last);
        }
        for (zxid, hash) in self.durable.records.range(next(floor)..) {
            let found = records.get(zxid).map(|payload| super::checks::hash(payload));
            if found != Some(*hash) {
                return Err(format!("record {zxid} was durable and is gone after the restart: {found:?}"));
            }
        }
        if last < self.durable.floor {
            return Err(format!(
                "the snapshot {} was durable, and the server starts at {last}",
                self.durable.floor
            ));
        }
        if self.options.member {
            let (was, is) = (self.durable.epochs, boot.epochs);
            if is.accepted < was.accepted || is.current < was.current {
                return Err(format!("the epochs were {was:?}, and the server starts with {is:?}"));
            }
        }
        self.durable.floor = self.durable.floor.max(floor);
        self.durable.records.retain(|zxid, _| *zxid <= floor);
        self.durable.records.extend(records.iter().map(|(zxid, payload)| (*zxid, hash(payload))));
        self.durable.epochs = boot.epochs;
        self.epochs = self.options.member.then_some(boot.epochs);
        self.log = Some(Log::new(disk, self.dirs.clone(), self.log_options.clone(), last));
        Ok((boot, floor, records))
    }

    fn records_after(&self, after: Zxid, until: Option<Zxid>) -> Failed<BTreeMap<Zxid, Bytes>> {
        let payload_max = self.log_options.payload_max;
        let mut reader =
            LogReader::after(self.disk(), &self.dirs.logs, after, until, payload_max).map_err(text)?;
        let mut records = BTreeMap::new();
        while let Some(Record { zxid, payload }) = reader.next_record().map_err(text)? {
            records.insert(zxid, payload);
        }
        Ok(records)
    }

    /// The process is gone, and with `power` what the machine had not synced.
    pub(super) fn crash(&mut self, power: bool, chance: &mut fastrand::Rng) {
        self.jobs.clear();
        self.snap_jobs.clear();
        self.unsynced = None;
        self.log = None;
        // The file of an unfinished snapshot stays: on a machine that has stopped nobody removes it.
        self.mem.stop_after(0);
        self.writing = None;
        self.mem =
            if power { self.mem.after_crash(chance) } else { self.mem.after_crash_keeping(|most| most) };
    }

    /// From now on so many operations succeed, then the machine stops.
    pub(super) fn stop_after(&self, operations: u64) {
        self.mem.stop_after(operations);
    }

    /// From now on so many syncs succeed, then one fails.
    pub(super) fn fail_sync_after(&self, syncs: u64) {
        self.mem.fail_sync_after(syncs);
    }

    /// From now on there is room for so many bytes.
    pub(super) fn leave_room(&self, bytes: usize) {
        self.mem.leave_room(bytes);
    }

    /// Nothing goes wrong from now on.
    pub(super) fn calm(&mut self) {
        self.mem.stop_after(u64::MAX);
        self.mem.fail_sync_after(u64::MAX);
        self.mem.set_capacity(None);
    }

    /// The folder of the database is gone, and with it what the server promised. What it knows of the members stands
    /// elsewhere.
    pub(super) fn wipe(&mut self) {
        let kept = [ZOO_CFG, NEXT].map(|path| (path, self.mem.contents(Path::new(path))));
        let dynamic = self.config().ok().flatten().and_then(|config| config.ensemble.dynamic_config_file);
        let dynamic = dynamic.and_then(|path| Some((self.mem.contents(&path)?, path)));
        self.mem = MemDisk::new();
        for (path, bytes) in kept {
            if let Some(bytes) = bytes {
                self.mem.put(Path::new(path), bytes);
            }
        }
        if let Some((bytes, path)) = dynamic {
            self.mem.put(&path, bytes);
        }
        self.durable = Durable::default();
    }

    /// Somebody writes a `zoo.cfg` for this server.
    pub(super) fn put_zoo_cfg(&self, text: &str) {
        self.mem.put(Path::new(ZOO_CFG), text);
    }

    fn config(&self) -> Failed<Option<Config>> {
        let Some(text) = self.mem.contents(Path::new(ZOO_CFG)) else { return Ok(None) };
        let (mut config, _) = Config::parse(&text).map_err(|error| error.to_string())?;
        if let Some(file) = config.ensemble.dynamic_config_file.clone() {
            let text = self.mem.contents(&file).ok_or_else(|| format!("{} is gone", file.display()))?;
            config.add_dynamic(&text).map_err(|error| error.to_string())?;
        }
        Ok(Some(config))
    }

    /// What a start finds about the members: what was committed last, and what is under way.
    pub(super) fn members(&mut self, peer: PeerId) -> Failed<Option<(Members, Option<Members>)>> {
        let Some(config) = self.config()? else { return Ok(None) };
        let members = Dynamic::of(&config.ensemble).to_members().map_err(text)?;
        let files = MembersFile::new(self.disk(), Path::new(ZOO_CFG), peer, members.version);
        let under_way = files.read_next();
        self.files = Some(files);
        Ok(Some((members, under_way)))
    }

    /// What is to be done to write the members down.
    pub(super) fn write_members(
        &mut self,
        committed: &Members,
        under_way: Option<&Members>,
    ) -> Option<Errand> {
        self.files.as_mut().map(|files| files.write(committed, under_way))
    }

    /// What [`step`](Self::step) will do.
    pub(super) fn pending(&self) -> Option<Pending> {
        if let Some((_, records)) = &self.unsynced {
            return records.last().map(|(zxid, _)| Pending::Sync(*zxid));
        }
        match self.jobs.front()? {
            Job::Append { zxid, .. } => Some(Pending::Write(*zxid)),
            Job::Truncate { after, .. } => Some(Pending::Cut(*after)),
            Job::SaveEpochs { epochs, .. } => Some(Pending::Save(*epochs)),
            Job::Roll | Job::Errand(_) | Job::Snapshot(_) => None,
        }
    }

    pub(super) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    pub(super) fn push_snapshot(&mut self, job: SnapJob) {
        self.jobs.push_back(Job::Snapshot(job));
    }

    pub(super) fn has_work(&self) -> bool {
        !self.jobs.is_empty() || self.unsynced.is_some()
    }

    pub(super) fn has_snapshot_work(&self) -> bool {
        !self.snap_jobs.is_empty()
    }

    /// One step of the log: a write, or the sync behind it, or another job.
    pub(super) fn step(&mut self) -> Vec<Said> {
        match self.try_step() {
            Ok(said) => said,
            Err(error) => vec![Said::Broken(error)],
        }
    }

    fn try_step(&mut self) -> Failed<Vec<Said>> {
        if let Some((order, records)) = self.unsynced.take() {
            self.log()?.sync().map_err(text)?;
            self.durable.records.extend(records);
            return Ok(vec![Said::Synced(order)]);
        }
        match self.jobs.front() {
            None => Ok(Vec::new()),
            Some(Job::Append { .. }) => self.write_group().map(|()| Vec::new()),
            Some(_) => {
                let job = self.jobs.pop_front();
                job.map_or(Ok(Vec::new()), |job| self.carry_out(job))
            }
        }
    }

    fn log(&mut self) -> Failed<&mut Log> {
        self.log.as_mut().ok_or_else(|| "the disk is used before the start".to_owned())
    }

    fn write_group(&mut self) -> Failed<()> {
        let payload_max = self.log_options.payload_max;
        let mut group = Group::new(self.log()?.last(), payload_max);
        let (mut last_order, mut records) = (0, Vec::new());
        while let Some(Job::Append { .. }) = self.jobs.front() {
            let Some(Job::Append { order, zxid, payload }) = self.jobs.pop_front() else { break };
            records.push((zxid, hash(&payload)));
            group.push(&Record { zxid, payload }).map_err(text)?;
            last_order = order;
        }
        self.log()?.append(&group).map_err(text)?;
        self.unsynced = Some((last_order, records));
        Ok(())
    }

    fn carry_out(&mut self, job: Job) -> Failed<Vec<Said>> {
        match job {
            Job::Append { .. } => Ok(Vec::new()),
            Job::Errand(errand) => {
                (errand.0)();
                Ok(Vec::new())
            }
            Job::Roll => self.log()?.roll().map_err(text).map(|()| Vec::new()),
            Job::Snapshot(job) => {
                self.snap_jobs.push_back(job);
                Ok(Vec::new())
            }
            Job::SaveEpochs { order, epochs } => {
                let disk = self.disk();
                epochs.save(&*disk, &self.dirs.snapshots, self.epochs.replace(epochs)).map_err(text)?;
                self.durable.epochs = epochs;
                Ok(vec![Said::Synced(order)])
            }
            Job::Truncate { order, after, reload } => self.truncate(order, after, reload),
        }
    }

    fn truncate(&mut self, order: u64, after: Zxid, reload: bool) -> Failed<Vec<Said>> {
        self.writing = None;
        self.snap_jobs.clear();
        // However far it gets: what is behind `after` is promised to nobody any more.
        self.durable.truncate(after);
        self.log()?.truncate_after(after).map_err(text)?;
        if !reload {
            return Ok(vec![Said::Synced(order)]);
        }
        let boot = load(&self.disk(), &self.dirs, &self.options).map_err(text)?;
        Ok(vec![Said::Reloaded { order, state: Box::new(boot.state) }])
    }

    /// Takes a leader's state in: into memory, and onto the disk under a name that no start looks at.
    pub(super) fn receive(&self, zxid: Zxid, pieces: &[Bytes]) -> Failed<Received> {
        let (disk, dir) = (self.disk(), &self.dirs.snapshots);
        let mut writer =
            SnapshotWriter::create_received(disk, dir, zxid, self.options.compression).map_err(text)?;
        pieces.iter().try_for_each(|piece| writer.write(piece)).map_err(text)?;
        let body = pieces.concat();
        let mut input = body.as_slice();
        let (mut tree, sessions) = Tree::load_with(&mut input, self.options.tree).map_err(text)?;
        if !input.is_empty() {
            return Err(format!("{} bytes of the snapshot {zxid} are left", input.len()));
        }
        tree.finish_load(zxid);
        writer.complete(Some(SnapshotDigest::new(zxid, tree.digest())), None).map_err(text)?;
        let sessions = give_owners_sessions(&tree, sessions.into_iter().collect());
        Ok(Received { writer, state: Box::new(State { tree, sessions }) })
    }

    /// The state that was taken in is ours from now on: its file gets its name. What the log holds behind it is promised
    /// to nobody any more.
    pub(super) fn publish(&mut self, zxid: Zxid, writer: SnapshotWriter) -> Failed<()> {
        self.durable.truncate(zxid);
        writer.publish().map_err(text)?;
        self.durable.floor = self.durable.floor.max(zxid);
        Ok(())
    }

    /// The durable records right behind `after`; `None` when the log cannot show that none is missing in between.
    pub(super) fn read(&self, link: LinkId, after: Zxid, max_bytes: usize) -> Option<Vec<(Zxid, Bytes)>> {
        let last = self.durable.records.last_key_value().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
        let source = LogSource::new(self.disk(), self.dirs.clone(), self.log_options.payload_max);
        source.read(link, after, last.max(self.durable.floor), max_bytes)
    }

    /// One step of the snapshot lane.
    pub(super) fn step_snapshot(&mut self) -> Vec<Said> {
        let Some(job) = self.snap_jobs.pop_front() else { return Vec::new() };
        match self.try_snapshot(job) {
            Ok(said) => said,
            Err(_) => {
                self.writing = None;
                vec![Said::SnapshotEnded(false)]
            }
        }
    }

    fn try_snapshot(&mut self, job: SnapJob) -> Failed<Vec<Said>> {
        match job {
            SnapJob::Begin(zxid) => {
                self.writing = None;
                let writer =
                    SnapshotWriter::create(self.disk(), &self.dirs.snapshots, zxid, self.options.compression);
                self.writing = Some(Writing { writer: writer.map_err(text)?, zxid, pieces: 0 });
                Ok(Vec::new())
            }
            SnapJob::Piece(piece) => {
                let Some(writing) = &mut self.writing else { return Ok(Vec::new()) };
                writing.writer.write(&piece).map_err(text)?;
                writing.pieces += 1;
                Ok(vec![Said::Progress(writing.pieces)])
            }
            SnapJob::End(digest) => {
                let Some(Writing { writer, zxid, .. }) = self.writing.take() else {
                    return Ok(Vec::new());
                };
                let digest = digest.map(|digest| SnapshotDigest::new(zxid, digest));
                writer.finish(digest, None).map_err(text)?;
                if self.purge {
                    purge::purge(&self.mem, &self.dirs, RETAINED).map_err(text)?;
                }
                Ok(vec![Said::SnapshotEnded(true)])
            }
        }
    }
}

/// The smallest zxid behind this one.
pub(super) fn next(zxid: Zxid) -> Zxid {
    Zxid(zxid.0 + 1)
}
