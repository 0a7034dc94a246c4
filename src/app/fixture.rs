//! A service in a folder of its own, with clients whose mail can be read, for tests.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::app::effects::deliver;
use crate::app::starting::Origin;
use crate::app::{App, Parts, Settings};
use crate::auth::Identity;
use crate::call::id::{CallId, UserId};
use crate::call::model::Limits as CallLimits;
use crate::call::participant::Settings as Media;
use crate::call::state::CallType;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::rates::Rates;
use crate::limits::Limits;
use crate::media::ice::Ice;
use crate::socketio::engine::options::Options;
use crate::socketio::engine::outbox::Outbox;
use crate::socketio::engine::random::RandomId;
use crate::socketio::engine::session::Session;
use crate::socketio::engine::sink::Home;
use crate::socketio::hub::Hub;
use crate::socketio::outlet::{Outlet, SocketId};
use crate::store::options::JournalOptions;
use crate::store::retention::RetentionOptions;
use crate::store::sqlite::Sqlite;
use crate::store::whole::Store;
use crate::wire::request::StartRequest;

/// A service and the folder it keeps.
pub(crate) struct House {
    pub(crate) app: Arc<App>,
    delivering: JoinHandle<()>,
    /// Removed with the house.
    _folder: TempDir,
}

impl House {
    /// A service with its usual settings and no rates.
    pub(crate) fn open() -> Self {
        Self::with(|_| ())
    }

    /// The same with parts of one's own.
    pub(crate) fn with(change: impl FnOnce(&mut Parts)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = parts(folder.path());
        change(&mut parts);
        let (app, deliveries) = App::open(parts).unwrap();
        let delivering = tokio::spawn(deliver(Arc::clone(&app), deliveries));
        Self { app, delivering, _folder: folder }
    }

    /// Waits until all that happened is durable and all that follows from it has left; nothing can
    /// change then.
    pub(crate) async fn settle(&mut self) {
        let closing = Arc::clone(&self.app);
        tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
        (&mut self.delivering).await.unwrap();
    }

    /// A call of `caller` with `others`.
    pub(crate) async fn call(&self, caller: &str, others: &[&str]) -> CallId {
        let started =
            self.app.start(&identity(caller), request(others), Origin::default()).await.unwrap();
        call_of(started.data.get())
    }

    /// `user` answers.
    pub(crate) async fn joins(&self, user: &str, call: CallId) {
        self.app.join(call, &self::user(user), Media::default(), None).await.unwrap();
    }
}

/// The parts of a service that keeps its calls in `folder`: its usual settings and no rates.
pub(crate) fn parts(folder: &Path) -> Parts {
    let config = Config::load(|_| None).unwrap();
    Parts {
        clock: Clock::start(),
        hub: Arc::new(Hub::new()),
        store: Store::new(Sqlite::open(folder).unwrap(), None),
        journal: JournalOptions::default(),
        ice: Ice::new(&config.media),
        livekit: None,
        bus: None,
        rates: Limits::new(&Rates::off()),
        settings: Settings {
            limits: CallLimits::DEFAULT,
            sockets_per_user_max: 10,
            rings_per_user_max: 5,
            live_calls_max: 1000,
            quality_check_interval: Duration::from_secs(5),
            retention: RetentionOptions::default(),
        },
    }
}

/// The id in `{call: {id}}`.
pub(crate) fn call_of(json: &str) -> CallId {
    let value: Value = serde_json::from_str(json).unwrap();
    CallId::parse(value["call"]["id"].as_str().unwrap()).unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// A token's owner, for a day.
pub(crate) fn identity(name: &str) -> Identity {
    let expires_at = Clock::start().wall().plus(Duration::from_hours(24));
    Identity { user: user(name), name: None, expires_at }
}

/// An audio call to `others`.
pub(crate) fn request(others: &[&str]) -> StartRequest {
    StartRequest {
        call_type: CallType::Audio,
        participants: others.iter().map(|it| user(it)).collect(),
        chat: None,
        settings: Media::default(),
        silent: false,
    }
}

/// A client that is connected, and never reads but when asked to.
pub(crate) struct Device {
    pub(crate) user: UserId,
    session: Arc<Session>,
    pub(crate) outlet: Outlet,
}

impl Device {
    /// A new socket of `name`.
    pub(crate) fn connect(app: &Arc<App>, name: &str) -> Self {
        let device = Self::outside(name);
        app.admit(&identity(name)).unwrap();
        app.welcome(&device.user, None, &device.outlet);
        device
    }

    /// One whom the service has not let in yet.
    pub(crate) fn outside(name: &str) -> Self {
        let options = Options { queue_bytes_max: usize::MAX, ..Options::default() };
        let home = Home { options: Arc::new(options), runtime: Handle::current() };
        let id = RandomId::generate().unwrap();
        let session = Arc::new(Session::new(id, Arc::new(home), None));
        let outlet = Outlet::new(Arc::clone(&session), socket(), "/");
        Self { user: user(name), session, outlet }
    }

    /// The socket is gone.
    pub(crate) fn leave(&self, app: &Arc<App>) {
        app.farewell(&self.user, None, self.outlet.id());
    }

    /// The packets that came since it was last asked.
    pub(crate) fn packets(&self) -> Vec<String> {
        let payload = String::from_utf8(self.session.sink.outbox(Outbox::take)).unwrap();
        payload.split('\u{1e}').map(str::to_owned).collect()
    }

    /// The events among them: names and arguments.
    pub(crate) fn heard(&self) -> Vec<(String, Value)> {
        self.packets().iter().filter_map(|it| event(it)).collect()
    }

    /// The names alone.
    pub(crate) fn names(&self) -> Vec<String> {
        self.heard().into_iter().map(|(name, _)| name).collect()
    }
}

/// An event's packet: `42`, perhaps the id of an ack, and `["name",{..}]`.
fn event(packet: &str) -> Option<(String, Value)> {
    let array = packet.strip_prefix("42")?.trim_start_matches(|it: char| it.is_ascii_digit());
    let mut array: Vec<Value> = serde_json::from_str(array).ok()?;
    let data = array.pop()?;
    Some((array.pop()?.as_str()?.to_owned(), data))
}

/// A socket's id: of the seed, where there is one.
pub(super) fn socket() -> SocketId {
    let Some(Drawn { count, chance }) = seeded() else { return SocketId::generate().unwrap() };
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&count.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&chance);
    SocketId::of(u128::from_be_bytes(bytes))
}

/// Where this thread's ids come from.
struct Seeded {
    chance: Rng,
    count: u64,
}

/// What the next id is made of.
pub(super) struct Drawn {
    /// How many were made before.
    pub(super) count: u64,
    /// What is random in it.
    pub(super) chance: [u8; 10],
}

thread_local! {
    static SEEDED: Cell<Option<Seeded>> = const { Cell::new(None) };
}

/// From now on the ids that this thread makes follow from `seed`.
pub(super) fn seed_ids(seed: u64) {
    SEEDED.set(Some(Seeded { chance: Rng::with_seed(seed), count: 0 }));
}

/// For the next id, where a seed was given.
pub(super) fn seeded() -> Option<Drawn> {
    let Seeded { mut chance, count } = SEEDED.take()?;
    let mut bytes = [0; 10];
    chance.fill(&mut bytes);
    SEEDED.set(Some(Seeded { chance, count: count + 1 }));
    Some(Drawn { count, chance: bytes })
}
