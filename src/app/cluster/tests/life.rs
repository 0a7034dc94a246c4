//! What people do on several nodes, and what their devices make of what they hear.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fastrand::Rng;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::town::Town;
use crate::app::App;
use crate::app::cluster::Signal;
use crate::app::error::{AppError, Code};
use crate::app::fixture::{Device, call_of, identity, request, user};
use crate::app::starting::Origin;
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};
use crate::call::participant::Settings;
use crate::socketio::outlet::SocketId;

/// Who call each other; and one whom nobody calls.
pub(super) const USERS: [&str; 5] = ["anna", "bob", "carl", "dora", "emil"];
pub(super) const OUTSIDER: &str = "zoe";

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Start(Vec<&'static str>),
    Join,
    Decline,
    End,
    Invite(&'static str),
    Remove(&'static str),
    Set(bool),
    Rings,
    Signal(&'static str, SocketId),
}

/// What came of it.
type Answer = Result<Option<CallId>, AppError>;

/// A wish that was told, and what came of it.
pub(super) struct Told {
    pub(super) who: &'static str,
    pub(super) wish: Wish,
    pub(super) node: NodeId,
    /// For a start, the call that it came to.
    pub(super) call: Option<CallId>,
    pub(super) began: u64,
    /// Until then it may have been carried out.
    pub(super) ended: Option<u64>,
    /// Not there: nobody knows what came of it.
    pub(super) outcome: Option<Result<(), Code>>,
    device: SocketId,
    answer: Option<JoinHandle<Answer>>,
}

/// One device of somebody.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) node: NodeId,
    pub(super) device: Device,
    /// The calls that it takes for its user's.
    pub(super) known: BTreeSet<CallId>,
    /// Those that it has heard are over, or go on without its user.
    gone: BTreeSet<CallId>,
    last: HashMap<String, u64>,
}

impl Client {
    pub(super) fn connect(app: &Arc<App>, node: &NodeId, name: &'static str) -> Self {
        let device = Device::connect(app, name);
        let (known, gone) = (BTreeSet::new(), BTreeSet::new());
        Self { name, node: node.clone(), device, known, gone, last: HashMap::new() }
    }

    /// Reads what has come: events of one call come in order and once, but for a `call:sync` between.
    pub(super) fn hear(&mut self, trace: &mut Vec<String>) {
        for (name, data) in self.device.heard() {
            if name == "call:sync" {
                let calls = data["calls"].as_array().unwrap();
                let id = |it: &serde_json::Value| CallId::parse(it["call"]["id"].as_str().unwrap());
                self.known = calls.iter().map(|it| id(it).unwrap()).collect();
                self.last.clear();
                trace.push(format!("  {} at {} syncs {:?}", self.name, self.node, self.known));
                assert!(self.name != OUTSIDER || calls.is_empty(), "an outsider hears of a call");
                continue;
            }
            assert!(self.name != OUTSIDER, "an outsider hears {name}");
            let (Some(seq), call) = (data["seq"].as_u64(), data["callId"].as_str().unwrap()) else {
                continue;
            };
            let last = self.last.insert(call.to_owned(), seq);
            trace.push(format!("  {} at {} hears {name} {call} {seq}", self.name, self.node));
            assert!(last.is_none_or(|it| seq > it), "{name} {seq} after {last:?}");
            let of_me = data["userId"].as_str() == Some(self.name);
            let call = CallId::parse(call).unwrap();
            let goes = matches!(&*name, "call:declined" | "call:participant_left") && of_me;
            if name == "call:ended" || goes {
                self.known.remove(&call);
                self.gone.insert(call);
            } else {
                self.known.insert(call);
                self.gone.remove(&call);
            }
        }
    }
}

/// Everybody, and all that they did.
pub(super) struct Life {
    pub(super) chance: Rng,
    pub(super) clients: Vec<Client>,
    pub(super) calls: Vec<CallId>,
    pub(super) told: Vec<Told>,
    /// Since when each has had a device at a node that the others reach, without a break.
    pub(super) here: HashMap<&'static str, u64>,
    /// Redis has gone back once.
    pub(super) went_back: bool,
    pub(super) step: u64,
    pub(super) trace: Vec<String>,
}

impl Life {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: Rng::with_seed(seed),
            clients: Vec::new(),
            calls: Vec::new(),
            told: Vec::new(),
            here: HashMap::new(),
            went_back: false,
            step: 0,
            trace: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, what: &str) {
        self.trace.push(format!("{:5} {what}", self.step));
    }

    /// Everybody gets a device or two.
    pub(super) fn gather(&mut self, town: &Town) {
        for name in USERS.into_iter().chain(["anna", "bob", OUTSIDER]) {
            self.connect(town, name);
        }
    }

    pub(super) fn connect(&mut self, town: &Town, name: &'static str) {
        let node = &town.nodes[self.chance.usize(..town.nodes.len())];
        self.note(&format!("{name} connects to {}", node.id));
        self.clients.push(Client::connect(&node.app, &node.id, name));
    }

    fn disconnect(&mut self, town: &Town, index: usize) -> &'static str {
        let client = self.clients.remove(index);
        self.note(&format!("{} leaves {}", client.name, client.node));
        if let Some(node) = town.nodes.iter().find(|it| it.id == client.node) {
            client.device.leave(&node.app);
        }
        client.name
    }

    /// Those whose node is gone connect to another.
    pub(super) fn reconnect(&mut self, town: &Town) {
        let gone = |it: &Client| town.nodes.iter().all(|node| node.id != it.node);
        while let Some(index) = self.clients.iter().position(gone) {
            let name = self.disconnect(town, index);
            self.connect(town, name);
        }
    }

    pub(super) fn disconnect_all(&mut self, town: &Town) {
        while !self.clients.is_empty() {
            self.disconnect(town, 0);
        }
    }

    fn other(&mut self, me: &str) -> &'static str {
        let others: Vec<_> = USERS.into_iter().filter(|it| *it != me).collect();
        others[self.chance.usize(..others.len())]
    }

    /// One of those that the device knows, or of the newest.
    fn some_call(&mut self, client: usize) -> Option<CallId> {
        let known: Vec<CallId> = self.clients[client].known.iter().copied().collect();
        let newest = &self.calls[self.calls.len().saturating_sub(3)..];
        let from =
            if !known.is_empty() && self.chance.usize(..5) > 0 { &known[..] } else { newest };
        (!from.is_empty()).then(|| from[self.chance.usize(..from.len())])
    }

    /// Somebody does something.
    pub(super) fn act(&mut self, town: &Town) {
        if self.clients.is_empty() {
            return;
        }
        let index = self.chance.usize(..self.clients.len());
        let name = self.clients[index].name;
        if self.chance.usize(..12) == 0 {
            let name = self.disconnect(town, index);
            return self.connect(town, name);
        }
        let call = self.some_call(index);
        let wish = match self.chance.usize(..20) {
            0..4 if name != OUTSIDER => {
                let mut others = vec![self.other(name)];
                for _ in 0..self.chance.usize(..3) {
                    let other = self.other(name);
                    if !others.contains(&other) {
                        others.push(other);
                    }
                }
                Wish::Start(others)
            }
            0..10 => Wish::Join,
            10..12 => Wish::End,
            12 => Wish::Decline,
            13 => Wish::Invite(self.other(name)),
            14 => Wish::Remove(self.other(name)),
            15 => Wish::Set(self.chance.bool()),
            16 => Wish::Rings,
            _ => Wish::Signal(self.other(name), self.clients[index].device.outlet.id()),
        };
        if call.is_some() || matches!(wish, Wish::Start(_)) {
            self.tell(town, index, wish, call);
        }
    }

    /// A client tells its node what it wants.
    pub(super) fn tell(&mut self, town: &Town, client: usize, wish: Wish, call: Option<CallId>) {
        let Client { name: who, node, device, .. } = &self.clients[client];
        let (who, node, device) = (*who, node.clone(), device.outlet.id());
        let Some(at) = town.nodes.iter().find(|it| it.id == node) else { return };
        let call = call.filter(|_| !matches!(wish, Wish::Start(_)));
        self.note(&format!("{who} at {node} wants {wish:?} {call:?}"));
        let work = carry_out(Arc::clone(&at.app), who, wish.clone(), call);
        let (answer, began) = (Some(tokio::spawn(work)), self.step);
        self.told.push(Told {
            who,
            wish,
            node,
            call,
            began,
            ended: None,
            outcome: None,
            device,
            answer,
        });
    }

    /// Reads answers and events, and notes who can be reached; to be called after each step.
    pub(super) async fn listen(&mut self, reached: impl Fn(&NodeId) -> bool) {
        let allowed = |code| !matches!(code, Code::Internal | Code::InvalidRequest);
        for it in &mut self.told {
            if !it.answer.as_ref().is_some_and(JoinHandle::is_finished) {
                continue;
            }
            let Some(answer) = it.answer.take() else { continue };
            let outcome = answer.await.unwrap();
            it.ended = Some(self.step);
            let shown = outcome.as_ref().map_err(AppError::code);
            let line = format!(
                "{:5} {} gets {shown:?} for {:?} of {}",
                self.step, it.who, it.wish, it.began
            );
            self.trace.push(line);
            if let Ok(Some(call)) = outcome {
                it.call = Some(call);
                if !self.calls.contains(&call) {
                    self.calls.push(call);
                }
                let asked = |client: &&mut Client| client.device.outlet.id() == it.device;
                if let Some(client) = self.clients.iter_mut().find(asked)
                    && !client.gone.contains(&call)
                {
                    // What has happened since has the higher number.
                    client.known.insert(call);
                }
            }
            let odd = Wish::Signal(it.who, SocketId::generate().unwrap());
            let relays = std::mem::discriminant(&odd) == std::mem::discriminant(&it.wish)
                || matches!(it.wish, Wish::Remove(_));
            let code = outcome.map(drop).map_err(|it| it.code());
            assert!(relays || code.is_ok() || allowed(code.unwrap_err()), "{code:?}");
            it.outcome = Some(code);
        }
        for client in &mut self.clients {
            client.hear(&mut self.trace);
        }
        for name in USERS {
            let here = self.clients.iter().any(|it| it.name == name && reached(&it.node));
            if !here {
                self.here.insert(name, self.step);
            }
        }
        self.step += 1;
    }

    /// Answers of a node that is dead come no more.
    pub(super) fn give_up(&mut self, node: &NodeId) {
        for it in self.told.iter_mut().filter(|it| it.node == *node) {
            if let Some(answer) = it.answer.take() {
                answer.abort();
            }
        }
    }
}

/// Does what is wished: the call that a start came to.
async fn carry_out(
    app: Arc<App>,
    who: &'static str,
    wish: Wish,
    call: Option<CallId>,
) -> Result<Option<CallId>, AppError> {
    let (me, call) = (user(who), call.unwrap_or(CallId(Uuid::nil())));
    match wish {
        Wish::Start(others) => {
            let started = app.start(&identity(who), request(&others), Origin::default()).await?;
            return Ok(Some(call_of(started.data.get())));
        }
        Wish::Join => drop(app.join(call, &me, Settings::default(), None).await?),
        Wish::Decline => app.decline(call, &me).await?,
        Wish::End => app.end(call, &me).await?,
        Wish::Invite(other) => drop(app.invite(call, &me, &[user(other)]).await?),
        Wish::Remove(other) => app.remove(call, &me, user(other)).await?,
        Wish::Set(on) => {
            app.set(call, &me, Settings { audio: Some(on), ..Settings::default() }).await?;
        }
        Wish::Rings => app.rings(call, &me).await?,
        Wish::Signal(other, socket) => signal(&app, call, (&me, socket), &user(other))?,
    }
    Ok(None)
}

fn signal(
    app: &App,
    call: CallId,
    (me, socket): (&UserId, SocketId),
    to: &UserId,
) -> Result<(), AppError> {
    let targets = app.signal_targets(call, (me, socket), to)?;
    let data = format!("{{\"callId\":\"{call}\"}}");
    for outlet in &targets.outlets {
        outlet.send_event("webrtc:offer", |out| out.extend_from_slice(data.as_bytes()));
    }
    let it = Signal { call, from: me, to, name: "webrtc:offer", data: data.as_bytes() };
    app.signal_elsewhere(&targets, it);
    Ok(())
}
