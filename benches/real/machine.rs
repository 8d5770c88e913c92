//! What the machine is, and what a process takes of it: from `/proc`, so Linux only.

use std::collections::HashSet;
use std::fs;
use std::time::Instant;

/// Ticks a second in which the kernel counts processor time, for all of Linux's platforms.
const TICKS: u32 = 100;

/// One line on the machine.
pub fn describe() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory: u64 = number(field("/proc/meminfo", "MemTotal").split_whitespace().next());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}), {} GiB, Linux {}",
        field("/proc/cpuinfo", "model name"),
        memory >> 20,
        kernel.trim()
    )
}

/// The load average of the last minute.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

/// Memory that a process holds now and held at most, in MiB.
pub fn memory(pid: u32) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mebibytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let kibibytes: u32 = number(line.split_whitespace().nth(1));
        f64::from(kibibytes) / 1024.0
    };
    (mebibytes("VmRSS:"), mebibytes("VmHWM:"))
}

/// Memory that a process held at most, in MiB; absent if it has ended.
pub fn peak_memory(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(f64::from(number::<u32>(line.split_whitespace().nth(1))) / 1024.0)
}

/// Processor time of a process since a moment.
pub struct Processor {
    pid: u32,
    ticks: u32,
    since: Instant,
}

impl Processor {
    pub fn of(pid: u32) -> Self {
        Self { pid, ticks: ticks(pid), since: Instant::now() }
    }

    /// Cores that were busy on average, in user and kernel mode together.
    pub fn cores(&self) -> f64 {
        let busy = f64::from(ticks(self.pid) - self.ticks) / f64::from(TICKS);
        busy / self.since.elapsed().as_secs_f64()
    }
}

/// `utime` and `stime` of a process.
fn ticks(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, the second field, may hold anything but ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    number::<u32>(Some(fields[11])) + number::<u32>(Some(fields[12]))
}

/// Open TCP connections of a process to these ports.
pub fn connections(pid: u32, ports: &[u16]) -> usize {
    const ESTABLISHED: &str = "01";
    let own = sockets(pid);
    let open = tcp().filter(|row| row.state == ESTABLISHED && own.contains(&row.inode));
    open.filter(|row| ports.contains(&row.remote)).count()
}

/// The process of this machine that listens on a port.
pub fn listener(port: u16) -> Option<u32> {
    const LISTEN: &str = "0A";
    let inode = tcp().find(|row| row.local == port && row.state == LISTEN)?.inode;
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| sockets(*pid).contains(&inode))
}

struct Socket {
    local: u16,
    remote: u16,
    state: String,
    inode: String,
}

fn tcp() -> impl Iterator<Item = Socket> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':').unwrap().1, 16).unwrap();
    tables.into_iter().flat_map(move |table| {
        let row = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (state, inode) = (fields[3].to_owned(), fields[9].to_owned());
            Socket { local: port(fields[1]), remote: port(fields[2]), state, inode }
        };
        table.lines().skip(1).map(row).collect::<Vec<_>>()
    })
}

/// Inodes of a process's sockets; none of a process that is gone.
fn sockets(pid: u32) -> HashSet<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let names = open.filter_map(|entry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned));
    names.filter_map(|name| Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: Option<&str>) -> T {
    text.unwrap_or_default().parse().unwrap()
}
