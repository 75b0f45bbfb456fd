//! The checks of watches: an event comes once, for a change that happened, and before any answer that shows the change.

use docent::proto::{EventType, ReplyHeader, Request, WatcherEvent};
use docent::{ErrorCode, Zxid};

use super::checks::{Checked, Checks, Violation, ensure};
use super::clients::{Armed, Asked, Client, Watching};
use super::model::{Happened, is_below};

/// The folder that clients follow with one watch that stays.
pub(super) const FOLLOWED: &str = "/d0";

/// What a client that follows has heard.
#[derive(Clone, Debug)]
pub(super) struct Following {
    /// Up to here it has heard everything; `None` until the watch is set again.
    complete: Option<Zxid>,
    /// What it has heard behind that.
    heard: Vec<(Zxid, String, Happened)>,
}

impl Following {
    fn since(zxid: Zxid) -> Self {
        Following { complete: Some(zxid), heard: Vec::new() }
    }

    /// The connection is gone, and what happens now is not told later.
    pub(super) fn lose(&mut self) {
        *self = Following { complete: None, heard: Vec::new() };
    }
}

fn happened(kind: Option<EventType>) -> Option<Happened> {
    match kind? {
        EventType::NodeCreated => Some(Happened::Created),
        EventType::NodeDeleted => Some(Happened::Deleted),
        EventType::NodeDataChanged => Some(Happened::Changed),
        _ => None,
    }
}

impl Checks {
    /// **A watch that stays tells what happened, once and with its zxid**, in the order in which it did.
    fn heard(&self, number: u32, following: &mut Following, event: (Zxid, String, Happened)) -> Checked {
        let Following { complete, heard } = following;
        let after = complete.unwrap_or(Zxid(i64::MAX));
        let last = heard.last().map_or(after, |(zxid, ..)| *zxid);
        let (zxid, before) = (event.0, Zxid(event.0.0 - 1));
        let is_true = self.model.heard_below(&event.1, before, zxid).contains(&event);
        let fits = zxid > after && zxid >= last && is_true && !heard.contains(&event);
        heard.push(event);
        ensure(fits, "a watch that stays tells what happened, once and with its zxid", || {
            format!("client {number}, which has heard all up to {complete:?}, hears {heard:?}")
        })
    }

    /// **A watch that stays misses nothing**: when an answer at some zxid arrives, everything up to there was told.
    pub(super) fn followed(&self, client: &mut Client, header: ReplyHeader) -> Checked {
        let Some(Following { complete: Some(complete), heard }) = &mut client.following else {
            return Ok(());
        };
        let upto = header.zxid;
        if upto <= *complete {
            return Ok(());
        }
        let mut expected = self.model.heard_below(FOLLOWED, *complete, upto);
        let told = heard.partition_point(|(zxid, ..)| *zxid <= upto);
        let mut told: Vec<_> = heard.drain(..told).collect();
        // What one transaction does has no order.
        expected.sort();
        told.sort();
        *complete = upto;
        ensure(told == expected, "a watch that stays misses nothing", || {
            format!("client {} gets {header:?} and has heard {told:?} instead of {expected:?}", client.number)
        })
    }

    /// **A watch event comes before the answer that shows the change**: when an answer at some zxid arrives, all watches
    /// for changes up to there have fired.
    pub(super) fn watches_come_first(&self, client: &Client, header: ReplyHeader) -> Checked {
        for armed in client.watches.iter().filter(|armed| !armed.rearming) {
            if let Some(missed) = self.change_for(armed, header.zxid) {
                return Err(Violation::new(
                    "a watch event comes before the answer that shows the change",
                    format!(
                        "client {} gets {header:?}, and {armed:?} did not fire for {missed}",
                        client.number
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The first change up to `upto` for which the watch has to fire.
    fn change_for(&self, armed: &Armed, upto: Zxid) -> Option<Zxid> {
        let model = &self.model;
        let own = model.event_between(&armed.path, armed.after, upto).map(|(zxid, _)| zxid);
        match armed.what {
            Watching::Data | Watching::Absence => own,
            Watching::Children => {
                let events = model.events_between(&armed.path, armed.after, upto);
                let deleted =
                    events.iter().find(|(_, what)| *what == Happened::Deleted).map(|(zxid, _)| *zxid);
                let children = model.children_changed(&armed.path, armed.after, upto);
                [deleted, children].into_iter().flatten().min()
            }
        }
    }

    /// **A watch fires once, for a change of its kind that happened since it was set.**
    pub(super) fn watch_event(&self, client: &mut Client, zxid: Zxid, event: &WatcherEvent) -> Checked {
        let kind = event.event();
        if let (Some(following), true, Some(happened)) =
            (&mut client.following, is_below(FOLLOWED, &event.path), happened(kind))
        {
            return self.heard(client.number, following, (zxid, event.path.clone(), happened));
        }
        let fits = |armed: &Armed| {
            armed.path == event.path
                && match kind {
                    Some(EventType::NodeChildrenChanged) => armed.what == Watching::Children,
                    Some(EventType::NodeDeleted) => true,
                    _ => armed.what != Watching::Children,
                }
        };
        let upto = self.last();
        let mut explained = false;
        for armed in client.watches.iter().filter(|armed| fits(armed)) {
            explained |= self.change_for(armed, upto).is_some();
        }
        client.watches.retain(|armed| !fits(armed));
        if explained {
            return Ok(());
        }
        Err(Violation::new(
            "a watch fires once, for a change that happened",
            format!("client {} gets {event:?} and waits for nothing like it", client.number),
        ))
    }

    /// Sets the watch that an answered read asked for.
    pub(super) fn arm(&self, client: &mut Client, asked: &Asked, header: ReplyHeader) {
        let (path, what) = match (&asked.request, header.error) {
            (Request::AddWatch { .. }, ErrorCode::OK) => {
                client.following.get_or_insert_with(|| Following::since(header.zxid));
                return;
            }
            (Request::SetWatches(_) | Request::SetWatches2(_), _) => {
                if let Some(following) = &mut client.following {
                    *following = Following::since(header.zxid);
                }
                for armed in client.watches.iter_mut().filter(|armed| armed.rearming) {
                    armed.rearming = false;
                    armed.after = header.zxid;
                }
                return;
            }
            (
                Request::GetData { path, watch: true } | Request::Exists { path, watch: true },
                ErrorCode::OK,
            ) => (path, Watching::Data),
            (Request::Exists { path, watch: true }, ErrorCode::NO_NODE) => (path, Watching::Absence),
            (Request::GetChildren { path, watch: true }, ErrorCode::OK) => (path, Watching::Children),
            _ => return,
        };
        let children = |what: Watching| what == Watching::Children;
        if !client.watches.iter().any(|armed| armed.path == *path && children(armed.what) == children(what)) {
            client.watches.push(Armed { path: path.clone(), what, after: header.zxid, rearming: false });
        }
    }

    /// **A watch that is set again misses nothing**: right before the answer to `setWatches` those have fired whose change
    /// can still be seen.
    pub(super) fn rearmed(&self, client: &Client, asked: &Asked, header: ReplyHeader) -> Checked {
        let (Request::SetWatches(again) | Request::SetWatches2(again)) = &asked.request else {
            return Ok(());
        };
        for armed in client.watches.iter().filter(|armed| armed.rearming) {
            let known = self.model.at(&armed.path, header.zxid);
            let missed = match (armed.what, known) {
                (Watching::Data | Watching::Children, None) => true,
                (Watching::Data, Some(known)) => known.mzxid > again.relative_zxid,
                (Watching::Absence, known) => known.is_some(),
                (Watching::Children, Some(_)) => {
                    self.model.children_changed(&armed.path, again.relative_zxid, header.zxid).is_some()
                }
            };
            if missed {
                return Err(Violation::new(
                    "a watch that is set again misses nothing",
                    format!("client {} gets {header:?}, and {armed:?} did not fire", client.number),
                ));
            }
        }
        Ok(())
    }
}
