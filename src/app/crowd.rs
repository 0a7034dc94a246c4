//! Four users with two devices each do what comes to their minds, all at once, while time is short:
//! what must hold at every moment, and what must be left at the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;

use crate::app::App;
use crate::app::error::{AppError, Code};
use crate::app::fixture::{Device, House, call_of, identity, request, user};
use crate::app::starting::Origin;
use crate::app::tending::tend;
use crate::call::command::Command;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::participant::{Participant, Settings, Sockets};
use crate::call::quality::Sample;
use crate::call::record::{CallFacts, ParticipantRecord};
use crate::call::state::ConnectionState;
use crate::store::options::Sync;

const USERS: [&str; 4] = ["anna", "bob", "carl", "dora"];
/// One less than there are users, so that it is reached.
const PARTICIPANTS_MAX: u16 = 3;
/// After each round everything stands still, and is compared.
const ROUNDS: usize = 20;
/// Of each client, in each round.
const TURNS: usize = 12;

/// What all have in common.
#[derive(Clone)]
struct World {
    app: Arc<App>,
    known: Arc<Mutex<Vec<CallId>>>,
    over: Arc<AtomicBool>,
}

/// One client, and what it makes of what it hears.
struct Client {
    world: World,
    name: &'static str,
    chance: Rng,
    device: Device,
    last_seq: HashMap<String, u64>,
}

/// One of `allowed` is all that may be wrong.
fn check<T>(outcome: Result<T, AppError>, allowed: &[Code]) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(allowed.contains(&error.code()), "{error:?}");
            None
        }
    }
}

impl Client {
    fn new(world: &World, name: &'static str, seed: u64) -> Self {
        let device = Device::connect(&world.app, name);
        let (world, last_seq) = (world.clone(), HashMap::new());
        Self { world, name, chance: Rng::with_seed(seed), device, last_seq }
    }

    fn other(&mut self) -> &'static str {
        let others: Vec<_> = USERS.into_iter().filter(|it| *it != self.name).collect();
        others[self.chance.usize(..others.len())]
    }

    /// One of the newest calls.
    fn some_call(&mut self) -> CallId {
        let known = self.world.known.lock();
        let newest = &known[known.len().saturating_sub(4)..];
        match newest {
            [] => CallId(uuid::Uuid::nil()),
            newest => newest[self.chance.usize(..newest.len())],
        }
    }

    /// Events of one call come in order and once.
    fn listen(&mut self) {
        for (name, data) in self.device.heard() {
            let Some(seq) = data["seq"].as_u64() else { continue };
            let call = data["callId"].as_str().unwrap().to_owned();
            let last = self.last_seq.insert(call, seq).unwrap_or(0);
            assert!(seq > last, "{name} {seq} after {last}");
        }
    }

    async fn start(&mut self) {
        let mut others = vec![self.other(), self.other()];
        others.dedup();
        let started =
            self.world.app.start(&identity(self.name), request(&others), Origin::default()).await;
        let allowed = [Code::AlreadyInCall, Code::Busy, Code::RateLimited];
        if let Some(started) = check(started, &allowed)
            && started.created
        {
            self.world.known.lock().push(call_of(started.data.get()));
        }
    }

    async fn act(&mut self) {
        const OUT: [Code; 3] = [Code::Forbidden, Code::CallOver, Code::NotFound];
        let (app, me) = (Arc::clone(&self.world.app), user(self.name));
        let (call, other) = (self.some_call(), user(self.other()));
        let on = self.chance.bool();
        match self.chance.usize(..20) {
            0..3 => self.start().await,
            3..7 => {
                let joined = app.join(call, &me, Settings::default(), None).await;
                let full = [Code::AlreadyInCall, Code::CallFull, Code::Removed, Code::NotInvited];
                check(joined, &[full.as_slice(), &OUT].concat());
            }
            7 => drop(check(app.end(call, &me).await, &OUT)),
            8 => drop(check(app.decline(call, &me).await, &OUT)),
            9 => {
                let settings = Settings { audio: Some(on), ..Settings::default() };
                check(app.set(call, &me, settings).await, &OUT);
            }
            10 => {
                let full = [Code::CallFull, Code::RateLimited];
                let invited = app.invite(call, &me, &[other]).await;
                check(invited, &[full.as_slice(), &OUT].concat());
            }
            11 => {
                let nobody = [Code::InvalidRequest];
                let removed = app.remove(call, &me, other).await;
                check(removed, &[nobody.as_slice(), &OUT].concat());
            }
            12 => drop(check(app.rings(call, &me).await, &OUT)),
            13 => {
                let jitter = if on { 1.0 } else { 1000.0 };
                check(app.sample(call, &me, sample(jitter)).await, &OUT);
            }
            14 => {
                let targets = app.signal_targets(call, (&me, self.device.outlet.id()), &other);
                check(targets, &[[Code::InvalidRequest].as_slice(), &OUT].concat());
            }
            _ => {
                self.listen();
                self.device.leave(&app);
                tokio::time::sleep(Duration::from_millis(on.into())).await;
                *self = Self::new(&self.world, self.name, self.chance.u64(..));
            }
        }
    }

    async fn live(mut self) -> Self {
        for _ in 0..TURNS {
            self.act().await;
            self.listen();
        }
        self
    }
}

fn sample(jitter: f64) -> Sample {
    Sample {
        jitter,
        packet_loss: 0.0,
        round_trip_time: 1.0,
        bandwidth: None,
        fps: None,
        resolution: None,
        codec: None,
    }
}

/// Nobody is in two calls, and no call is overfull, whenever one looks.
fn watch(world: &World) {
    let World { app, known, over } = world;
    while !over.load(Ordering::Relaxed) {
        for name in USERS {
            let user = &user(name);
            let joined = |id: &CallId| app.calls.read(*id, |it| it.is_joined(user)) == Some(true);
            let calls = || app.calls.of(user).iter().filter(|it| joined(it)).count();
            assert!(app.admission.decide([user], calls) <= 1, "{name} is in two calls");
        }
        let calls: Vec<CallId> = known.lock().iter().rev().take(8).copied().collect();
        for id in calls {
            let taken = |call: &Call| {
                call.participants.iter().filter(|it| it.is_joined() || it.is_rung()).count()
            };
            assert!(app.calls.read(id, taken).unwrap_or(0) <= usize::from(PARTICIPANTS_MAX));
        }
        std::thread::yield_now();
    }
}

/// What of a participant does not count on with time.
type Fact<'a> = (&'a UserId, ConnectionState, Option<i64>, Option<i64>, bool);

fn facts(it: &ParticipantRecord) -> Fact<'_> {
    (&it.user, it.connection, it.joined_at.map(|it| it.0), it.left_at.map(|it| it.0), it.audio)
}

/// The store knows what the memory knows, and calls know who is there.
async fn compare(app: &App, known: &[CallId]) {
    for &id in known {
        app.until_durable(id).await.unwrap();
        let Some((memory, lost)) = app.calls.read(id, |call| {
            let here = |it: &Participant| (it.sockets == Sockets::Here) == app.is_online(&it.user);
            let lost = call.participants.iter().filter(|it| it.is_joined()).any(|it| !here(it));
            (CallFacts::of(call, app.clock.now()), lost)
        }) else {
            continue;
        };
        let stored = app.store.call(id).await.unwrap().unwrap();
        assert_eq!(stored.call, memory.call);
        for member in &memory.participants {
            let stored = stored.participant(&member.user).unwrap();
            assert_eq!(facts(stored), facts(member));
        }
        assert!(!lost, "a call is wrong about who is there");
    }
}

/// The story of a call that is over: one end, and nothing after it.
async fn read_story(app: &App, id: CallId) {
    let past = app.store.call(id).await.unwrap().unwrap();
    assert!(past.call.state.is_terminal(), "{id} is {:?} for ever", past.call.state);
    for member in &past.participants {
        let story = app.store.story(id, &member.user, 0, 1000).await.unwrap();
        let names: Vec<&str> = story.events.iter().map(|it| &*it.name).collect();
        let ends = names.iter().filter(|it| **it == "call:ended").count();
        let deaf = matches!(
            member.connection,
            ConnectionState::Declined | ConnectionState::Removed | ConnectionState::Invited
        );
        assert!(ends == 1 || (deaf && ends == 0), "{:?}: {names:?}", member.connection);
        assert!(ends == 0 || names.last() == Some(&"call:ended"), "{names:?}");
    }
}

/// Ends the watch, however the test ends: the runtime waits for it.
struct EndOfWatch(Arc<AtomicBool>);

impl Drop for EndOfWatch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn crowd(seed: u64) {
    let mut house = House::with(|it| {
        it.journal.sync = Sync::Off;
        let limits = &mut it.settings.limits;
        limits.participants = PARTICIPANTS_MAX;
        limits.ringing = Duration::from_millis(60);
        limits.reconnecting = Duration::from_millis(30);
        limits.alone = Duration::from_millis(30);
        limits.duration = Duration::from_millis(400);
    });
    let (known, over) = (Arc::default(), Arc::default());
    let world = World { app: Arc::clone(&house.app), known, over };
    let (copy, app) = (world.clone(), &Arc::clone(&house.app));
    let end = EndOfWatch(Arc::clone(&world.over));
    let watcher = tokio::task::spawn_blocking(move || watch(&copy));
    let clients = USERS.into_iter().cycle().take(2 * USERS.len()).zip(1..);
    let mut clients: Vec<_> =
        clients.map(|(name, number)| Client::new(&world, name, seed * 100 + number)).collect();
    for _ in 0..ROUNDS {
        let time = tokio::spawn(tend(Arc::clone(app)));
        let lives: Vec<_> = clients.drain(..).map(|it| tokio::spawn(it.live())).collect();
        for life in lives {
            clients.push(life.await.unwrap());
        }
        time.abort();
        assert!(time.await.unwrap_err().is_cancelled(), "time stopped");
        let known = world.known.lock().clone();
        compare(app, &known).await;
    }
    drop(end);
    watcher.await.unwrap();
    let known = world.known.lock().clone();
    for client in &clients {
        client.device.leave(app);
    }
    for &id in &known {
        app.nudge(id, Command::Abort);
    }
    house.settle().await;
    clients.iter_mut().for_each(Client::listen);
    assert_eq!(app.calls.leftovers(), [0; 3], "calls, their users, their deadlines");
    assert_eq!((app.present(), app.sockets(), app.unwritten()), (vec![], 0, 0));
    assert!(app.store.local().live_snapshots().unwrap().is_empty());
    for id in known {
        read_story(app, id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_breaks_nothing_and_leaves_nothing_behind() {
    for seed in 1..=3 {
        crowd(seed).await;
    }
}
