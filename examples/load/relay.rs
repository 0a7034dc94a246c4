//! Messages from one of each pair to the other, each checked: whole, once, in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use clap::Args;
use futures_util::SinkExt;
use futures_util::stream::{SplitSink, SplitStream, StreamExt};
use serde_json::{Value, json};
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;

use crate::figures::Tally;
use crate::http::{Line, Pace, fail, request};
use crate::people::{token, user};
use crate::sockets::{Socket, authenticated, bare, connected};
use crate::{Failure, On};

#[derive(Args, Clone)]
pub(crate) struct Messages {
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// On their way in each direction of a pair, where there is no rate.
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// Bytes of each, about.
    #[arg(long, default_value_t = 330)]
    bytes: usize,
    /// Over the floor.
    #[arg(long)]
    bare: bool,
    /// Over another Socket.IO server, which knows no calls.
    #[arg(long)]
    peer: bool,
    /// Where the second of each pair is, instead of with the first: host and port, and the process there.
    #[arg(long, requires = "away_pid")]
    away: Option<String>,
    #[arg(long)]
    away_pid: Option<u32>,
}

/// When each message that is on its way was sent, or due.
type Sent = Rc<RefCell<VecDeque<Instant>>>;

/// One direction: what is sent, around its number.
struct Way {
    head: String,
    tail: String,
    /// How what arrives has to begin, up to the number.
    sender: String,
    sent: Sent,
}

impl Way {
    fn new((from, to): (&str, &str), call: Option<&str>, bytes: usize) -> Self {
        let call = call.map_or_else(String::new, |it| format!(r#""callId":"{it}","#));
        let head = format!(
            r#"42["webrtc:ice_candidate",{{{call}"targetUserId":"{to}","candidate":{{"candidate":"candidate:842163049 1 udp 1677729535 #"#
        );
        let end = r#"","sdpMid":"0","sdpMLineIndex":0}}]"#;
        let filled = bytes.saturating_sub(head.len() + 9 + end.len());
        let tail = format!(" {:x<filled$}{end}", "");
        Self { head, tail, sender: from.to_owned(), sent: Sent::default() }
    }

    fn text(&self, number: u64) -> String {
        format!("{}{number:09}{}", self.head, self.tail)
    }
}

/// Makes the call that a pair is in.
async fn call(on: &On, a: &str, b: &str) -> Result<String, Failure> {
    let mut line = Line::open(&on.address).await?;
    let body = json!({ "type": "audio", "participantIds": [b] }).to_string();
    let start = request("POST", "/api/v1/calls/start", &token(&on.secret, a)?, &body);
    let answer = line.ask(&start).await?;
    let told: Value = serde_json::from_slice(answer.body)?;
    let id = told.pointer("/data/call/id").and_then(Value::as_str).ok_or("no call")?.to_owned();
    let path = format!("/api/v1/calls/{id}/join");
    let joined = line.ask(&request("POST", &path, &token(&on.secret, b)?, "")).await?;
    if joined.status == 200 { Ok(id) } else { Err("a call can't be joined".into()) }
}

pub(crate) async fn run(on: On, messages: Messages) -> Result<Value, Failure> {
    let (tally, local) = (Tally::default(), LocalSet::new());
    let pace = Pace::new(on.span.rate);
    let away =
        messages.away.clone().map_or_else(|| on.clone(), |it| On { address: it, ..on.clone() });
    let pids: Vec<u32> = std::iter::once(on.pid).chain(messages.away_pid).collect();
    let mut sides = Vec::new();
    for pair in 0..messages.pairs {
        let [a, b] = [user(2 * pair), user(2 * pair + 1)];
        let call =
            if messages.bare || messages.peer { None } else { Some(call(&on, &a, &b).await?) };
        let open = async |on: &On, me: &str, to: &str| {
            if messages.bare {
                bare(on, me, to).await
            } else if messages.peer {
                connected(on, me).await
            } else {
                authenticated(on, me).await
            }
        };
        let (at_a, at_b) = (open(&on, &a, &b).await?, open(&away, &b, &a).await?);
        let there = Rc::new(Way::new((&a, &b), call.as_deref(), messages.bytes));
        let back = Rc::new(Way::new((&b, &a), call.as_deref(), messages.bytes));
        sides.push((at_a, Rc::clone(&there), Rc::clone(&back)));
        sides.push((at_b, back, there));
    }
    for (index, (socket, out, back)) in sides.into_iter().enumerate() {
        let is_first = index % 2 == 0;
        let (tally, pace) = (tally.clone(), on.span.rate.map(|_| pace.clone()));
        let window = if is_first { messages.window } else { 0 };
        let (is_bare, is_peer) = (messages.bare, messages.peer);
        local.spawn_local(async move {
            let side =
                Side { out, back, tally, is_bare, is_peer, paced: pace.is_some(), number: 0 };
            let done = match pace {
                Some(pace) if is_first => side.speak(socket, &pace).await,
                _ => side.answer(socket, window).await,
            };
            done.unwrap_or_else(|error| fail(&error));
        });
    }
    local.run_until(tally.measure(&pids, &on.span)).await
}

/// One of a pair.
struct Side {
    out: Rc<Way>,
    back: Rc<Way>,
    tally: Tally,
    is_bare: bool,
    is_peer: bool,
    paced: bool,
    number: u64,
}

type Writer = SplitSink<Socket, Message>;
type Reader = SplitStream<Socket>;

impl Side {
    async fn send(&mut self, writer: &mut Writer, due: Instant) -> Result<(), Failure> {
        self.out.sent.borrow_mut().push_back(due);
        writer.feed(Message::text(self.out.text(self.number))).await?;
        self.number += 1;
        Ok(())
    }

    /// Sends one whenever it is due.
    async fn speak(mut self, socket: Socket, pace: &Pace) -> Result<(), Failure> {
        let (mut writer, mut reader) = socket.split();
        loop {
            let due = pace.next().await;
            if self.tally.is_over() {
                return Ok(());
            }
            self.send(&mut writer, due).await?;
            writer.flush().await?;
            // What the service says meanwhile.
            while let Some(Some(text)) = futures_util::FutureExt::now_or_never(reader.next()) {
                if matches!(text?, Message::Text(it) if it.as_str() == "2") {
                    writer.send(Message::text("3")).await?;
                }
            }
        }
    }

    /// Sends one for each that comes, unless those are paced; takes all that is there before it writes.
    async fn answer(mut self, socket: Socket, window: usize) -> Result<(), Failure> {
        let (mut writer, mut reader): (Writer, Reader) = socket.split();
        for _ in 0..window {
            self.send(&mut writer, Instant::now()).await?;
        }
        writer.flush().await?;
        let mut arrived = 0;
        while let Some(mut message) = reader.next().await {
            loop {
                self.take(&mut writer, message?, &mut arrived).await?;
                match futures_util::FutureExt::now_or_never(reader.next()) {
                    Some(Some(more)) => message = more,
                    Some(None) | None => break,
                }
            }
            writer.flush().await?;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        writer: &mut Writer,
        message: Message,
        arrived: &mut u64,
    ) -> Result<(), Failure> {
        let Message::Text(text) = message else { return Ok(()) };
        if text.as_str() == "2" {
            return Ok(writer.feed(Message::text("3")).await?);
        }
        if !text.starts_with("42[\"webrtc:") {
            return Ok(());
        }
        self.check(&text, *arrived)?;
        *arrived += 1;
        let sent = self.back.sent.borrow_mut().pop_front().ok_or("nothing was on its way")?;
        self.tally.done(sent);
        if !self.paced && !self.tally.is_over() {
            self.send(writer, Instant::now()).await?;
        }
        Ok(())
    }

    fn check(&self, text: &str, number: u64) -> Result<(), Failure> {
        // Peers may let later ones overtake earlier ones.
        let number_of = if self.is_peer { String::new() } else { format!("#{number:09}") };
        let expected = format!("{number_of}{}", self.back.tail);
        let from = format!(r#""fromUserId":"{}""#, self.back.sender);
        let inner = expected.trim_end_matches("}}]");
        if text.contains(inner) && (self.is_bare || text.contains(&from)) {
            return Ok(());
        }
        Err(format!("not message {number} of {}: {text}", self.back.sender).into())
    }
}
