//! Requests over connections that are kept.

use std::cell::{Cell, OnceCell};
use std::io::Read;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::sleep_until;

use crate::figures::Tally;
use crate::people::token;
use crate::{Failure, On};

/// One connection with one request at a time.
pub(crate) struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Line {
    pub(crate) async fn open(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1 << 16) })
    }

    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>, Failure> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some((status, body)) = whole(&self.buffer) {
                let body = self.buffer.get(body..).unwrap_or_default();
                return Ok(Answer { status, body });
            }
        }
    }
}

/// The status of an answer that is whole, and where its body begins.
fn whole(answer: &[u8]) -> Option<(u16, usize)> {
    let head = answer.windows(4).position(|it| it == b"\r\n\r\n")?;
    let text = std::str::from_utf8(answer.get(..head)?).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let body = head + 4;
    (answer.len() >= body + length.unwrap_or(0)).then_some((status, body))
}

/// The bytes of a request, to be sent any number of times.
pub(crate) fn request(method: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{kind}\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A line of standard input.
#[derive(Deserialize)]
struct Wanted {
    method: String,
    path: String,
    user: String,
    #[serde(default)]
    body: String,
}

/// The moments at which requests are due, one after the other; without a rate, at once.
#[derive(Clone)]
pub(crate) struct Pace(Option<Rc<Clock>>);

struct Clock {
    /// When the first was asked for: what it takes to make all ready does not count.
    began: OnceCell<Instant>,
    every: Duration,
    number: Cell<u32>,
}

impl Pace {
    pub(crate) fn new(rate: Option<f64>) -> Self {
        let clock = |rate: f64| {
            let every = Duration::from_secs_f64(1.0 / rate);
            Rc::new(Clock { began: OnceCell::new(), every, number: Cell::new(0) })
        };
        Self(rate.map(clock))
    }

    /// Waits until the next is due: what counts as its beginning, also where it had to wait for others.
    pub(crate) async fn next(&self) -> Instant {
        let Some(clock) = &self.0 else { return Instant::now() };
        let began = *clock.began.get_or_init(Instant::now);
        let due = began + clock.every * clock.number.replace(clock.number.get() + 1);
        sleep_until(due.into()).await;
        due
    }
}

pub(crate) async fn requests(on: On, connections: usize) -> Result<Value, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut requests = Vec::new();
    for line in text.lines() {
        let it: Wanted = serde_json::from_str(line)?;
        requests.push(request(&it.method, &it.path, &token(&on.secret, &it.user)?, &it.body));
    }
    let (requests, tally) = (Rc::new(requests), Tally::default());
    let pace = Pace::new(on.span.rate);
    let local = LocalSet::new();
    for index in 0..connections {
        let (requests, tally, pace) = (Rc::clone(&requests), tally.clone(), pace.clone());
        let mut line = Line::open(&on.address).await?;
        local.spawn_local(async move {
            let asked = ask_on(&mut line, &requests, index, (&tally, &pace));
            asked.await.unwrap_or_else(|error| fail(&error));
        });
    }
    local.run_until(tally.measure(&[on.pid], &on.span)).await
}

async fn ask_on(
    line: &mut Line,
    requests: &[Vec<u8>],
    index: usize,
    (tally, pace): (&Tally, &Pace),
) -> Result<(), Failure> {
    for request in requests.iter().cycle().skip(index % requests.len()) {
        let since = pace.next().await;
        if tally.is_over() {
            break;
        }
        let answer = line.ask(request).await?;
        if answer.status >= 300 {
            return Err(String::from_utf8_lossy(answer.body).into());
        }
        tally.done(since);
    }
    Ok(())
}

/// A figure of a run in which something failed would be none.
#[expect(clippy::exit, clippy::print_stderr, reason = "whatever else runs, it is over")]
pub(crate) fn fail(error: &Failure) {
    eprintln!("{error}");
    std::process::exit(1);
}
