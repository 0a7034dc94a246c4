//! The way over Redis.
//!
//! Three clients: one asks ([`script`](crate::bus::script)), one sends letters ([`sender`]), one is
//! subscribed to our mailbox ([`mailbox`]); each is replaced ([`mod@line`]) where it does not work any more.

mod health;
mod line;
mod mailbox;
mod options;
mod sender;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, LuaInterface, PubsubInterface};
use fred::types::Value;
use fred::util::sha1_hash;
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, timeout, timeout_at};

use self::health::Health;
use self::line::Line;
use self::mailbox::{Ears, Inbox, Keeper};
use self::options::{CONNECT_MAX, builder, failed, kind_of};
use self::sender::Outbox;
use crate::bus::directory::{Bus, Mailbox, Port};
use crate::bus::error::{BusError, Kind};
use crate::bus::node::NodeId;
use crate::bus::reply::Reply;
use crate::bus::script::Script;
use crate::config::redis::Redis as Settings;

/// Redirections of one command, at most: a slot may be on its way.
const REDIRECTIONS_MAX: u32 = 5;
/// How often a start looks whether it has connected.
const START_LOOK: Duration = Duration::from_millis(10);

/// The names by which Redis knows the scripts.
static NAMES: LazyLock<[String; Script::COUNT]> =
    LazyLock::new(|| Script::ALL.map(|script| sha1_hash(script.text())));

/// The way over Redis. Cheap to clone; the last one closes it.
#[derive(Clone)]
pub(super) struct Redis(Arc<Open>);

struct Open {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What the tasks share.
struct Shared {
    me: NodeId,
    prefix: Arc<str>,
    commands: Line,
    letters: Line,
    outbox: Outbox,
    inbox: Inbox,
    health: Health,
}

impl Bus {
    /// Opens the way over Redis for `me`, a new run: the way, and this run's mailbox. Where
    /// Redis is away it goes on connecting by itself; it is not waited for longer than about two seconds.
    ///
    /// # Errors
    /// [`Kind::Refused`] where Redis does not let us in, or can't do what is needed.
    pub async fn connect(settings: &Settings, me: NodeId) -> Result<(Self, Mailbox), BusError> {
        const DURING: &str = "opening the way to other nodes";
        let until = Instant::now() + CONNECT_MAX;
        let tried = timeout_at(until, trial(settings, &me)).await;
        let away = match tried {
            Ok(Err(error)) if error.kind == Kind::Away => true,
            Ok(tried) => tried.map(|_| false)?,
            Err(_) => true,
        };
        let failed = failed(DURING);
        let commands = Line::open(builder(settings, REDIRECTIONS_MAX)?, |_| ()).map_err(&failed)?.0;
        let letters = Line::open(builder(settings, 0)?, |_| ()).map_err(&failed)?.0;
        let (line, ears) =
            Line::open(builder(settings, REDIRECTIONS_MAX)?, Ears::of).map_err(&failed)?;
        let (inbox, mailbox) = Inbox::new();
        let (outbox, queue) = Outbox::new();
        let (prefix, health) = (Arc::clone(&settings.prefix), Health::default());
        // A cluster's client refuses scripts until it knows which slots are whose: whatever is asked before
        // the first answer fails at once.
        health.commands.put_out();
        if away {
            health.letters.put_out();
            tracing::warn!("Redis is away; this node starts without it");
        }
        let shared =
            Arc::new(Shared { me: me.clone(), prefix, commands, letters, outbox, inbox, health });
        let keeper = Keeper::new(Arc::clone(&shared), line, ears);
        let tasks = [
            tokio::spawn(keeper.keep()).abort_handle(),
            tokio::spawn(sender::send(Arc::clone(&shared), queue)).abort_handle(),
        ];
        let bus = Self { me, port: Port::Redis(Redis(Arc::new(Open { shared, tasks }))) };
        if !away {
            drop(timeout_at(until, bus.begun()).await);
        }
        Ok((bus, mailbox))
    }

    /// Beats for the first time, and waits until all is well.
    async fn begun(&self) {
        let mut clock = interval(START_LOOK);
        while self.beat().await.is_err() {
            clock.tick().await;
        }
        while !self.is_well() {
            clock.tick().await;
        }
    }

    /// Whether Redis is there and lets us do what is needed: its version.
    pub async fn check(settings: &Settings) -> Result<String, BusError> {
        const DURING: &str = "trying Redis";
        let me = NodeId::fresh("check").ok_or_else(|| BusError::new(DURING, Kind::Refused))?;
        let tried = timeout(2 * CONNECT_MAX, trial(settings, &me)).await;
        tried.unwrap_or_else(|_| Err(BusError::new(DURING, Kind::Away)))
    }
}

impl Redis {
    pub(super) fn is_well(&self) -> bool {
        self.0.shared.health.is_well()
    }

    pub(super) async fn ask(
        &self,
        script: Script,
        key: &str,
        args: &[&[u8]],
    ) -> Result<Reply, BusError> {
        let shared = &self.0.shared;
        if script != Script::Beat && shared.health.commands.is_away() {
            return Err(BusError::new(script.during(), Kind::Away));
        }
        shared.ask(script, key, args).await
    }

    pub(super) fn post(&self, to: &NodeId, letter: Bytes) -> bool {
        self.0.shared.outbox.put(to, letter)
    }
}

impl Shared {
    /// The mailbox of `node`.
    fn channel(&self, node: &NodeId) -> String {
        channel(&self.prefix, node)
    }

    /// Asks whether Redis is known to be away or not.
    async fn ask(&self, script: Script, key: &str, args: &[&[u8]]) -> Result<Reply, BusError> {
        let key = format!("{}{key}", self.prefix);
        let args = args.iter().map(|it| Value::Bytes(Bytes::copy_from_slice(it))).collect();
        let answer = run(&self.commands.client(), script, key, args).await;
        self.health.commands.note(answer.as_ref().err().map(kind_of));
        answer.map(Reply::from).map_err(failed(script.during()))
    }
}

fn channel(prefix: &str, node: &NodeId) -> String {
    format!("{prefix}n:{{{node}}}")
}

/// By its name, or by its text where that server has not seen it yet: it is new, or took another's place.
async fn run(
    client: &Client,
    script: Script,
    key: String,
    args: Vec<Value>,
) -> Result<Value, Error> {
    let place = Script::ALL.iter().position(|it| *it == script);
    let name = place.and_then(|it| NAMES.get(it)).map_or("", String::as_str);
    // The client's futures are of several kilobytes each.
    match Box::pin(client.evalsha(name, key.as_str(), args.clone())).await {
        Err(error) if error.details().starts_with("NOSCRIPT") => {
            Box::pin(client.eval(script.text(), key, args)).await
        }
        answer => answer,
    }
}

/// Runs [`try_all`] to its end, as nobody else closes its client where it is waited for no longer.
async fn trial(settings: &Settings, me: &NodeId) -> Result<String, BusError> {
    let (settings, me) = (settings.clone(), me.clone());
    let trial = tokio::spawn(async move { try_all(&settings, &me).await });
    let failed = |cause| BusError::caused("trying Redis", Kind::Away, cause);
    trial.await.map_err(failed)?
}

/// Does once what will have to be done: what Redis refuses is known at the start. Its version.
async fn try_all(settings: &Settings, me: &NodeId) -> Result<String, BusError> {
    const DURING: &str = "trying Redis";
    let mut builder = builder(settings, REDIRECTIONS_MAX)?;
    builder.with_config(|it| it.fail_fast = true);
    let (prefix, failed) = (&settings.prefix, failed(DURING));
    let client = builder.build().map_err(&failed)?;
    let task = client.init().await.map_err(&failed)?;
    let tried = async {
        let nodes = format!("{prefix}nodes");
        let name = vec![Value::String(me.as_str().into())];
        run(&client, Script::Beat, nodes.clone(), name.clone()).await?;
        run(&client, Script::ForgetNode, nodes, name).await?;
        let call = format!("{prefix}c:{{{me}}}");
        run(&client, Script::Call, call, Vec::new()).await?;
        let user = format!("{prefix}u:{{{me}}}");
        run(&client, Script::User, user, Vec::new()).await?;
        Box::pin(client.ssubscribe(channel(prefix, me))).await?;
        Box::pin(client.spublish::<i64, _, _>(channel(prefix, me), "")).await
    };
    let tried = tried.await.map_err(&failed);
    let version = client.server_version().map_or_else(String::new, |it| it.to_string());
    task.abort();
    tried.map(|_| version)
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(number) => Self::Number(number),
            Value::Boolean(set) => Self::Number(i64::from(set)),
            Value::Double(number) => Self::Text(number.to_string().into()),
            Value::String(text) => Self::Text(text.into_inner()),
            Value::Bytes(bytes) => Self::Text(bytes),
            Value::Null | Value::Queued => Self::Nil,
            Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Value::Map(map) => Self::List(
                map.inner()
                    .into_iter()
                    .flat_map(|(key, value)| [Self::Text(key.into_bytes()), Self::from(value)])
                    .collect(),
            ),
        }
    }
}
