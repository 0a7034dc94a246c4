//! Messages through a Redis, by its client alone: one SPUBLISH and one delivery each.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::Config;
use fred::types::{Builder, RespVersion};
use serde_json::Value;
use tokio::task::LocalSet;

use crate::figures::Tally;
use crate::http::{Pace, fail};
use crate::{Failure, Span};

/// Messages that wait for whoever drains them, at most.
const MESSAGES_MAX: usize = 65_536;
const CHANNEL: &str = "load:{bus}";

/// A client that sends, and one that is subscribed.
async fn ends(redis: &str) -> Result<(Client, Client), Error> {
    let mut config = Config::from_url(redis)?;
    config.version = RespVersion::RESP3;
    let mut builder = Builder::from_config(config);
    builder.with_connection_config(|it| it.tcp.nodelay = Some(true));
    builder.with_performance_config(|it| it.broadcast_channel_capacity = MESSAGES_MAX);
    let (sends, hears) = (builder.build()?, builder.build()?);
    drop(sends.init().await?);
    drop(hears.init().await?);
    Box::pin(hears.ssubscribe(CHANNEL)).await?;
    Ok((sends, hears))
}

/// What one is measured with.
#[derive(Clone)]
struct Way {
    client: Client,
    body: Bytes,
    /// When each that is on its way was sent, or due.
    sent: Rc<RefCell<VecDeque<Instant>>>,
    tally: Tally,
}

impl Way {
    /// Hands one over; that Redis has taken it is waited for elsewhere, as messages are sent in order.
    fn send(&self, due: Instant) {
        self.sent.borrow_mut().push_back(due);
        let (client, body) = (self.client.clone(), self.body.clone());
        tokio::task::spawn_local(async move {
            let sent = client.spublish::<i64, _, _>(CHANNEL, fred::types::Value::Bytes(body));
            match Box::pin(sent).await {
                Ok(1) => {}
                Ok(_) => fail(&"nobody hears".into()),
                Err(error) => fail(&error.into()),
            }
        });
    }
}

pub(crate) async fn run(
    redis: &str,
    span: &Span,
    window: usize,
    bytes: usize,
) -> Result<Value, Failure> {
    let (client, hears) = Box::pin(ends(redis)).await?;
    let mut messages = hears.message_rx();
    let (tally, local) = (Tally::default(), LocalSet::new());
    let body = Bytes::from(vec![b'x'; bytes]);
    let way = Way { client, body, sent: Rc::default(), tally: tally.clone() };
    let paced = span.rate.is_some();
    let (pace, sender) = (Pace::new(span.rate), way.clone());
    local.spawn_local(async move {
        if !paced {
            (0..window).for_each(|_| sender.send(Instant::now()));
            return;
        }
        while !sender.tally.is_over() {
            sender.send(pace.next().await);
        }
    });
    local.spawn_local(async move {
        while messages.recv().await.is_ok() {
            let Some(sent) = way.sent.borrow_mut().pop_front() else { continue };
            way.tally.done(sent);
            if !paced && !way.tally.is_over() {
                way.send(Instant::now());
            }
        }
    });
    local.run_until(tally.measure(&[std::process::id()], span)).await
}
