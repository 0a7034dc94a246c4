//! A real Postgres of one's own, and what time of the processor is spent by whom.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

/// Where Debian keeps Postgres' own programs, a folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How often, and how many times, a server that starts is asked whether it is there.
const LOOK: (Duration, u32) = (Duration::from_millis(50), 400);
/// Microseconds of a tick of the kernel's accounts: a hundredth of a second, on every Linux.
const TICK_MICROS: f64 = 10_000.0;

/// A server on a free port of this machine with its data in a temporary folder.
pub(crate) struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Makes and starts one; `None` where there is no Postgres on this machine.
    pub(crate) async fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().expect("a folder");
        let user = is_root().then_some("postgres");
        if let Some(user) = user {
            let owner = Command::new("chown").arg(user).arg(folder.path()).status();
            assert!(owner.is_ok_and(|it| it.success()), "{user} gets the folder");
        }
        let data = folder.path().join("data");
        let mut init = as_user(user, &programs.join("initdb"));
        init.args(["-U", "calls", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"]).arg(&data);
        let made = init.current_dir(folder.path()).output().expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr());
        let port = free.expect("a free port").port();
        let sockets = format!("unix_socket_directories={}", folder.path().display());
        let mut run = as_user(user, &programs.join("postgres"));
        // What tells when a row was committed; all else is as it comes.
        run.args(["-c", "track_commit_timestamp=on", "-c", "listen_addresses=127.0.0.1"])
            .args(["-p", &port.to_string(), "-c", &sockets, "-D"])
            .arg(data)
            .current_dir(folder.path());
        let child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self { child: child.expect("postgres runs"), port, _folder: folder };
        for _ in 0..LOOK.1 {
            if server.connect().await.is_ok() {
                return Some(server);
            }
            tokio::time::sleep(LOOK.0).await;
        }
        panic!("Postgres does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("postgresql://calls@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// A connection, as simple as they come.
    pub(crate) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Processor time of the server and of all its sessions, those that are over too: microseconds.
    pub(crate) fn processor_micros(&self) -> f64 {
        let postmaster = self.child.id();
        let sessions = fs::read_dir("/proc").into_iter().flatten().flatten();
        let sessions = sessions.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
        let own = accounts(&postmaster.to_string()).map_or(0.0, |it| it.own + it.children);
        let live = sessions.filter_map(|it| accounts(&it.to_string()));
        own + live.filter(|it| it.parent == postmaster).map(|it| it.own).sum::<f64>()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not SIGKILL: its sessions and what it shares with them are to go too.
        let told = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        if !told.is_ok_and(|it| it.success()) {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}

/// Processor time of this process so far, microseconds.
pub(crate) fn own_processor_micros() -> f64 {
    accounts("self").map_or(0.0, |it| it.own)
}

/// Microseconds that the kernel has counted for one process.
struct Accounts {
    parent: u32,
    own: f64,
    children: f64,
}

fn accounts(process: &str) -> Option<Accounts> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may hold anything, comes the third field.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let both = |field: usize| Some((ticks(field)? + ticks(field + 1)?) * TICK_MICROS);
    Some(Accounts { parent: fields.get(1)?.parse().ok()?, own: both(14)?, children: both(16)? })
}

/// The folder of Postgres' programs: the newest version's, or one of the search path.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|it| Some((it.file_name().to_str()?.parse().ok()?, it.path().join("bin"))))
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let all = versions.into_iter().rev().map(|(_, folder)| folder).chain(path);
    all.into_iter().find(|it| it.join("initdb").is_file())
}

/// Postgres refuses to run as root: then it runs as the user that its package made.
fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}
