//! Nothing that was acknowledged is lost: a process writes calls and says which are durable, is
//! killed at some moment, and the next one must find all of them.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use crate::call::state::State;
use crate::store::Record;
use crate::store::error::Kind;
use crate::store::fixture;
use crate::store::journal::Journal;
use crate::store::options::JournalOptions;
use crate::store::sqlite::Sqlite;

/// Where the child writes; set by the test that starts it.
const FOLDER: &str = "STORE_DURABILITY_FOLDER";
/// The number of the child's first call.
const FIRST: &str = "STORE_DURABILITY_FIRST";
const ROUNDS: u64 = 20;
/// Calls in flight at once in the child.
const CALLS: u64 = 16;
/// Changes of a child's call before it ends and the next begins.
const CHANGES: u64 = 5;

/// Not a test of its own: what the test below starts, and kills.
#[test]
#[ignore = "started by the test below"]
fn child() {
    let (Some(folder), Some(first)) = (std::env::var_os(FOLDER), std::env::var_os(FIRST)) else {
        return;
    };
    let first: u64 = first.to_str().unwrap().parse().unwrap();
    let store = Sqlite::open(Path::new(&folder)).unwrap();
    // What is acknowledged is said after the commit, in its order, by the journal itself.
    let acknowledge = |durable: Vec<(u64, u64)>| {
        let mut out = std::io::stdout().lock();
        for (call, seq) in durable {
            writeln!(out, "ack {call} {seq}").unwrap();
        }
        out.flush().unwrap();
    };
    let journal = Journal::open(&store, JournalOptions::default(), acknowledge).unwrap();
    for step in 0.. {
        let (group, seq) = (step / CHANGES, step % CHANGES + 1);
        for index in 0..CALLS {
            let number = first + group * CALLS + index;
            let change = if seq == CHANGES {
                fixture::ended(number, seq, 60_000, 3)
            } else {
                fixture::change(number, seq)
            };
            let record = Record::Change(Box::new(change));
            // A full queue only means that this loop is faster than the disk.
            if let Ok(permit) = journal.reserve() {
                drop(permit.send(record, (number, seq)));
            }
        }
        while journal.pending() > 256 {
            thread::yield_now();
        }
    }
}

/// When a child is killed.
enum Moment {
    /// So long after its start: it may not even have opened the store.
    Start(Duration),
    /// So long after it first acknowledged something.
    Work(Duration),
}

/// Starts the child, kills it, and gives back the greatest acknowledged seq of each of its calls.
fn killed_at(folder: &Path, first: u64, moment: &Moment) -> HashMap<u64, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::durability::child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (first_ack, at_work) = sync_channel(1);
    let reader = thread::spawn(move || {
        let mut acknowledged = HashMap::new();
        // A killed process may leave half a line: that one was not acknowledged in whole.
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ').skip_while(|it| *it != "ack").skip(1);
            if let (Some(Ok(call)), Some(Ok(seq))) =
                (words.next().map(str::parse), words.next().map(str::parse))
            {
                acknowledged.insert(call, seq);
                _ = first_ack.try_send(());
            }
        }
        acknowledged
    });
    match *moment {
        Moment::Start(alive) => thread::park_timeout(alive),
        Moment::Work(alive) => {
            at_work.recv_timeout(Duration::from_secs(20)).unwrap();
            thread::park_timeout(alive);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<u64, u64> = HashMap::new();
    let mut lived = 0;
    for round in 0..ROUNDS {
        let alive = Duration::from_millis((round * 37) % 120);
        let moment = if round % 2 == 0 { Moment::Work(alive) } else { Moment::Start(alive) };
        let of_round = killed_at(folder.path(), round * 1_000_000, &moment);
        lived += u64::from(!of_round.is_empty());
        acknowledged.extend(of_round);
        let store = Sqlite::open(folder.path()).unwrap();
        let live = store.live_snapshots().unwrap();
        for (&number, &seq) in acknowledged.iter().filter(|it| *it.0 >= round * 1_000_000) {
            let stored = store.call(fixture::call(number)).await.unwrap();
            let stored = stored.unwrap_or_else(|| panic!("call {number} is lost"));
            assert!(stored.call.seq >= seq, "call {number} went back to {}", stored.call.seq);
            assert_eq!(stored.participants.len(), 2);
            let snapshot = format!("{{\"call\":{number},\"seq\":{}}}", stored.call.seq);
            let is_live = stored.call.state != State::Ended;
            assert_eq!(live.contains(&snapshot), is_live, "call {number}");
        }
    }
    // At the end all rounds' calls are there.
    let store = Sqlite::open(folder.path()).unwrap();
    let alice = fixture::user("alice");
    let page = store.history(&alice, crate::store::history::HistoryQuery::default()).await.unwrap();
    let least = u64::try_from(acknowledged.len()).unwrap();
    assert!(page.total >= least, "{} of {least}", page.total);
    assert!(lived >= ROUNDS / 2, "only {lived} children acknowledged anything");
    // No database was ever found damaged on the way.
    let names = std::fs::read_dir(folder.path()).unwrap();
    assert!(!names.into_iter().any(|it| it.unwrap().path().to_string_lossy().contains("damaged")));
}

/// A folder on a file system of a few MiB, such as a tmpfs.
const SMALL_DISK: &str = "STORE_SMALL_DISK";

#[tokio::test]
#[ignore = "needs a small file system: mount a tmpfs of 4 MiB and set STORE_SMALL_DISK to it"]
async fn a_disk_that_is_really_full_heals_without_a_restart() {
    let disk = std::env::var_os(SMALL_DISK).unwrap();
    let folder = tempfile::tempdir_in(disk).unwrap();
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 * 1024 * 1024]).unwrap();
    let options = JournalOptions { full_retry: Duration::from_millis(20), ..Default::default() };
    let (store, journal) = fixture::journal(folder.path(), options);
    let mut number = 0;
    let error = loop {
        number += 1;
        if let Err(error) = fixture::send(&journal, fixture::change(number, 1)).await {
            break error;
        }
        assert!(number < 100_000, "the disk never got full");
    };
    assert_eq!(error.kind, Kind::Full);
    assert!(journal.is_full() && !journal.has_failed());
    std::fs::remove_file(&ballast).unwrap();
    let healed = async {
        while journal.is_full() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), healed).await.unwrap();
    assert_eq!(store.live_snapshots().unwrap().len(), usize::try_from(number).unwrap());
    journal.close();
    drop((store, journal));
    let store = Sqlite::open(folder.path()).unwrap();
    assert_eq!(store.live_snapshots().unwrap().len(), usize::try_from(number).unwrap());
}
