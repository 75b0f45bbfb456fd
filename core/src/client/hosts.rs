//! PURE: the list of servers, and which one is tried next.

use super::error::Error;

/// The port that a host without one gets.
const DEFAULT_PORT: u16 = 2181;

/// One server as it is named in the list. Its addresses are looked up at each attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// The servers of an ensemble; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostList {
    hosts: Vec<Host>,
    next: usize,
    current: usize,
}

impl HostList {
    /// Takes `h1:2181,[::1]:2182/chroot` apart; the second part is the path, `/` when there is none.
    pub(super) fn parse(text: &str) -> Result<(HostList, String), Error> {
        let (list, chroot) = match text.find('/') {
            Some(at) => (&text[..at], &text[at..]),
            None => (text, "/"),
        };
        let mut hosts = Vec::new();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            hosts.push(parse_host(item)?);
        }
        if hosts.is_empty() {
            return Err(Error::InvalidArgument(format!(
                "no host in {text:?}; write host:port,host:port/path"
            )));
        }
        Ok((HostList { hosts, next: 0, current: 0 }, chroot.to_owned()))
    }

    /// Mixes the order once, so that clients spread over the servers.
    pub(super) fn shuffle(&mut self, random: &mut fastrand::Rng) {
        random.shuffle(&mut self.hosts);
    }

    /// The next server, round robin.
    pub(super) fn advance(&mut self) -> Host {
        self.current = self.next;
        self.next = (self.next + 1) % self.hosts.len();
        self.hosts[self.current].clone()
    }

    /// The place in the list of the server that was handed out last.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The servers other than the one that was handed out last, in turn; `None` when there is only one.
    pub(super) fn other(&mut self) -> Option<(usize, Host)> {
        if self.hosts.len() < 2 {
            return None;
        }
        if self.next == self.current {
            self.next = (self.next + 1) % self.hosts.len();
        }
        let index = self.next;
        self.next = (self.next + 1) % self.hosts.len();
        Some((index, self.hosts[index].clone()))
    }

    /// The server at this place is the next.
    pub(super) fn prefer(&mut self, index: usize) {
        self.next = index % self.hosts.len();
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }
}

impl std::fmt::Display for HostList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

fn parse_host(item: &str) -> Result<Host, Error> {
    let wrong = || Error::InvalidArgument(format!("{item:?} is not host, host:port or [address]:port"));
    let (name, port) = if let Some(rest) = item.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or_else(wrong)?;
        (address, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(wrong)?) })
    } else {
        match item.matches(':').count() {
            0 => (item, None),
            1 => item.split_once(':').map(|(name, port)| (name, Some(port))).ok_or_else(wrong)?,
            // A bare IPv6 address.
            _ => (item, None),
        }
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().map_err(|_| wrong())?,
    };
    if name.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok(Host { name: name.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, String) {
        let (hosts, chroot) = HostList::parse(text).unwrap();
        (hosts.to_string(), chroot)
    }

    #[test]
    fn lists_come_apart_as_in_apache() {
        assert_eq!(parsed("a"), ("a:2181".into(), "/".into()));
        assert_eq!(parsed("a:1, b:2,/x/y"), ("a:1,b:2".into(), "/x/y".into()));
        assert_eq!(
            parsed("[::1]:2182,::1,[fe80::1]/"),
            ("[::1]:2182,[::1]:2181,[fe80::1]:2181".into(), "/".into())
        );
        for wrong in ["", "/x", ",", "a:", "a:0", "a:x", "[::1", "[::1]2181", ":2181", "a:70000"] {
            assert!(HostList::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_host_gets_its_turn() {
        let (mut hosts, _) = HostList::parse("a,b,c").unwrap();
        hosts.shuffle(&mut fastrand::Rng::with_seed(1));
        let mut names: Vec<String> = (0..6).map(|_| hosts.advance().name).collect();
        assert_eq!(names[..3], names[3..]);
        names.truncate(3);
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn the_others_are_looked_at_in_turn() {
        let (mut hosts, _) = HostList::parse("a,b,c").unwrap();
        assert_eq!(hosts.advance().name, "a");
        let others: Vec<String> = (0..4).filter_map(|_| hosts.other()).map(|(_, host)| host.name).collect();
        assert_eq!(others, ["b", "c", "b", "c"]);
        hosts.prefer(2);
        assert_eq!(hosts.advance().name, "c");
        assert_eq!(HostList::parse("a").unwrap().0.other(), None);
    }
}
