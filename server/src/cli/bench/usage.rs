//! What a process costs: CPU time and resident memory, as the kernel counts them under `/proc`.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// A process whose cost is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    /// The process with this id.
    pub(crate) fn new(pid: u32) -> Process {
        Process(pid)
    }

    /// This very process.
    pub(crate) fn own() -> Process {
        Process(std::process::id())
    }

    /// CPU time used so far by all threads, in the program and in the kernel on its behalf. The kernel counts in
    /// ticks of 10 ms.
    ///
    /// # Errors
    /// The process has ended, or this is no Linux.
    pub(crate) fn cpu_time(self) -> Result<Duration> {
        let text = self.read("stat")?;
        let ticks = parse_ticks(&text).with_context(|| format!("/proc/{}/stat: {text:?}", self.0))?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Resident memory, bytes.
    ///
    /// # Errors
    /// As [`Process::cpu_time`].
    pub(crate) fn resident(self) -> Result<u64> {
        let text = self.read("status")?;
        parse_resident(&text).with_context(|| format!("/proc/{}/status has no VmRSS", self.0))
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        std::fs::read_to_string(&path)
            .with_context(|| format!("reading {path}; is the process running here?"))
    }
}

/// How many CPUs there are and how busy they are already: numbers from a busy machine are worth little.
pub(crate) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cpus} CPUs, load average {load} before the first round")
}

/// User and system ticks of a `stat` line. The name of the program comes first, in parentheses, and may itself hold
/// spaces and parentheses.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    // Behind the name: state is field 3 of proc(5), utime field 14, stime field 15.
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "77 (a b) c) S 1 77 77 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 30 0 1 2 3";
        assert_eq!(parse_ticks(stat), Some(300));
        assert_eq!(parse_ticks("77 (x) S 1"), None);
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_a_size() {
        assert!(Process::own().resident().unwrap() > 100_000);
        assert!(Process::own().cpu_time().unwrap() < Duration::from_secs(3600));
    }
}
