//! The whole tree of a server, as the keeper reads it, and how it is emptied between programs.

use std::collections::BTreeMap;

use anyhow::Result;
use docent::proto::{Request, Response};
use docent::{Acl, Version, path};

use super::heard::Heard;
use super::side::Side;

/// Nodes that every server has of its own; they stay.
const RESERVED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// All that can be read of each node: data, ACL, children, and the Stat three times.
pub(super) type Picture = BTreeMap<String, Vec<Heard>>;

/// Reads everything.
pub(super) fn read(side: &mut Side) -> Result<Picture> {
    let mut picture = Picture::new();
    let mut level = vec!["/".to_owned()];
    while !level.is_empty() {
        level = read_level(side, &level, &mut picture)?;
    }
    Ok(picture)
}

/// Reads some nodes and answers the paths of their children.
fn read_level(side: &mut Side, level: &[String], picture: &mut Picture) -> Result<Vec<String>> {
    let requests = level.iter().flat_map(|path| {
        [
            Request::GetData { path: path.clone(), watch: false },
            Request::GetAcl { path: path.clone() },
            Request::GetChildren2 { path: path.clone(), watch: false },
        ]
    });
    let heard = side.keep(requests.collect())?;
    let mut below = Vec::new();
    for (path, answers) in level.iter().zip(heard.chunks(3)) {
        if let Some(Response::Children { names, .. }) = answers.last().and_then(Heard::response) {
            below.extend(names.iter().map(|name| path::join(path, name)));
        }
        picture.insert(path.clone(), answers.to_vec());
    }
    Ok(below)
}

/// Deletes what is not the server's own, and lets everybody do everything again where that was changed.
pub(super) fn empty(side: &mut Side, picture: &Picture) -> Result<()> {
    // Children come before their parents.
    let doomed = picture.keys().rev().filter(|path| !RESERVED.contains(&path.as_str()));
    let mut requests: Vec<Request> =
        doomed.map(|path| Request::Delete { path: path.clone(), version: Version::ANY }).collect();
    for path in RESERVED {
        let wanted = if path == "/zookeeper/config" { Acl::read_only() } else { Acl::open() };
        let heard = picture.get(path).map_or(&[][..], Vec::as_slice);
        for response in heard.iter().filter_map(Heard::response) {
            match response {
                Response::Acl { acl, .. } if *acl != wanted => {
                    let acl = Some(wanted.clone());
                    requests.push(Request::SetAcl { path: path.to_owned(), acl, version: Version::ANY });
                }
                Response::Data { data, .. } if data.as_ref().is_none_or(|data| !data.is_empty()) => {
                    let (path, data) = (path.to_owned(), Some(bytes::Bytes::new()));
                    requests.push(Request::SetData { path, data, version: Version::ANY });
                }
                _ => {}
            }
        }
    }
    // Never an empty batch.
    requests.push(Request::Ping);
    side.keep(requests)?;
    Ok(())
}

/// Whether nothing but the server's own nodes is there.
pub(super) fn is_empty(picture: &Picture) -> bool {
    picture.keys().all(|path| RESERVED.contains(&path.as_str()))
}
