//! Scripts: one line is one thing that happens, and under it, indented, stands what follows: the
//! events with their numbers and receivers, and how everyone then stands (`=`), where that changed.
//!
//! `a calls b c [silent] [livekit] [offline] [video] [cap=3] [max=30s] [busy=c] [ice=40s]` begins;
//! then `b rings`, `b joins [on=b1] [offline] [mic=off] [cam=on]`, `b declines`, `b ends`,
//! `a invites c [busy=c]`, `a removes b`, `b sets mic=off cam=on screen=on`, `a mutes b mic=off`, `b muted mic=off`,
//! `b media up [sid=x] [since=5]`, `b media down [sid=x]`, `b sockets gone|back`, `b rated poor`,
//! `b sends mic=off`, `checked a b [asked=5s] [coming=b]`, `a records`, `a stops`, `recording over [url=u]`, `abort`, `tick`,
//! `restart`,
//! `wait 60s` (time looks at each deadline) and `sleep 60s` (it does not: the process is down).

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use expect_test::Expect;
use uuid::Uuid;

use crate::call::applied::Applied;
use crate::call::command::{Command, Effect, Event, Invitee, Notice, Start};
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::model::{Call, Limits};
use crate::call::participant::{MediaSession, Participant, Sent, Settings};
use crate::call::recording::Recording;
use crate::call::state::{CallType, MediaPath, Quality};
use crate::call::time::Timestamp;

/// The time at which scripts begin: not zero, so that nothing takes an unset time for the start.
pub(super) const BEGIN: Timestamp = Timestamp(1_000_000);

/// More deadlines than any one `wait` of a script meets.
const TICKS_MAX: usize = 20;

/// What the contract gives as defaults.
pub(super) const LIMITS: Limits = Limits::DEFAULT;

/// Does what the lines of `script` say, and compares what follows with what stands under them.
pub(super) fn check(script: &Expect) {
    script.assert_eq(&Life::run(script.data()).told);
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// A call that nobody has answered yet, by `a`, of those named.
pub(super) fn start(invitees: &[&str]) -> Start {
    Start {
        id: CallId(Uuid::from_u128(1)),
        epoch: 1,
        call_type: CallType::Audio,
        media: MediaPath::Peer,
        initiator: user("a"),
        initiator_name: None,
        participant: Uuid::from_u128(2),
        online: true,
        settings: Settings::default(),
        chat: None,
        invitees: invitees.iter().map(|it| invitee(it, false)).collect(),
        silent: false,
        limits: LIMITS,
    }
}

pub(super) fn invitee(name: &str, busy: bool) -> Invitee {
    let id = name.bytes().fold(7, |id, byte| id * 256 + u128::from(byte));
    Invitee { user: user(name), participant: Uuid::from_u128(id), busy }
}

/// The words of one line.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|it| it.strip_prefix(key)?.strip_prefix('='))
    }

    fn switch(&self, key: &str) -> Option<bool> {
        self.value(key).map(|it| it == "on")
    }

    fn settings(&self) -> Settings {
        Settings {
            audio: self.switch("mic"),
            video: self.switch("cam"),
            screen_share: self.switch("screen"),
        }
    }

    fn off(&self) -> Sent {
        Sent {
            audio: self.switch("mic") == Some(false),
            video: self.switch("cam") == Some(false),
            screen_share: self.switch("screen") == Some(false),
        }
    }

    /// Words of one letter are users.
    fn invitees(&self) -> Vec<Invitee> {
        let busy = self.value("busy");
        let users = self.0[2..].iter().filter(|it| it.len() == 1);
        users.map(|it| invitee(it, busy == Some(*it))).collect()
    }
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap())
}

/// One call and the tale of it.
pub(super) struct Life {
    pub(super) call: Call,
    pub(super) now: Timestamp,
    told: String,
    shown: String,
}

impl Life {
    /// Runs a script whose first line starts the call.
    pub(super) fn run(script: &str) -> Self {
        let indent = |it: &&str| it.len() - it.trim_start().len();
        let filled = || script.lines().filter(|it| !it.trim().is_empty());
        let margin = filled().map(|it| indent(&it)).min().unwrap();
        let mut lines = filled().filter(|it| indent(it) == margin).map(str::trim);
        let first = lines.next().unwrap();
        let mut life = Self::begin(first);
        lines.for_each(|line| life.line(line));
        life
    }

    fn begin(first: &str) -> Self {
        let words = Words(first.split(' ').collect());
        let mut start = start(&[]);
        start.invitees = words.invitees();
        start.silent = words.has("silent");
        start.online = !words.has("offline");
        if words.has("livekit") {
            start.media = MediaPath::Livekit;
        }
        if words.has("video") {
            start.call_type = CallType::Video;
        }
        if let Some(cap) = words.value("cap") {
            start.limits.participants = cap.parse().unwrap();
        }
        if let Some(max) = words.value("max") {
            start.limits.duration = seconds(max);
        }
        start.limits.ice_renewal = words.value("ice").map(seconds);
        let (call, applied) = Call::start(start, BEGIN);
        let mut life = Self { call, now: BEGIN, told: String::new(), shown: String::new() };
        life.say(first);
        life.tell(&applied);
        life
    }

    /// What is asked of the call in `line`, or time that passes.
    pub(super) fn line(&mut self, line: &str) {
        let words = Words(line.split(' ').collect());
        self.say(line);
        match words.0[0] {
            "wait" => self.wait(seconds(words.0[1])),
            "sleep" => self.now = self.now.plus(seconds(words.0[1])),
            "restart" => {
                self.call = self.call.reread();
                self.call.restore(self.now);
                self.show();
            }
            _ => self.apply(command(&words, self.now)),
        }
    }

    fn apply(&mut self, command: Command) {
        match self.call.apply(command, self.now) {
            Ok(applied) if applied.is_noop() => self.told.push_str("    nothing\n"),
            Ok(applied) => self.tell(&applied),
            Err(refusal) => writeln!(self.told, "    refused: {refusal}").unwrap(),
        }
    }

    /// Lets time pass as the deadline loop does.
    fn wait(&mut self, duration: Duration) {
        let until = self.now.plus(duration);
        let mut ticks = 0;
        while let Some(due) = self.call.next_deadline().filter(|it| *it <= until) {
            ticks += 1;
            assert!(ticks <= TICKS_MAX, "the deadline loop spins at {due:?}:\n{}", self.told);
            self.now = self.now.max(due);
            writeln!(self.told, "  at {}", at(self.now)).unwrap();
            self.apply(Command::Tick);
        }
        self.now = until;
    }

    fn say(&mut self, line: &str) {
        writeln!(self.told, "{line}").unwrap();
    }

    fn tell(&mut self, applied: &Applied) {
        for effect in &applied.effects {
            let line = match effect {
                Effect::Notify(notice) => notified(notice),
                Effect::Unavailable(user, why) => format!("unavailable: {user} {why:?}"),
                Effect::CheckMedia => "who is in the room?".to_owned(),
                Effect::RecordingStarted(it) => format!("note recording {}", it.egress),
                Effect::RecordingStopped(it) => format!("stop recording {}", it.egress),
                Effect::Noted => "noted".to_owned(),
            };
            writeln!(self.told, "    {line}").unwrap();
        }
        self.show();
    }

    /// How everyone stands, where that has changed.
    fn show(&mut self) {
        let mut line = format!("    = {}", self.call.state.as_str());
        if let Some(reason) = self.call.end_reason {
            write!(line, "/{}", reason.as_str()).unwrap();
        }
        line.push(':');
        for it in &self.call.participants {
            write!(line, " {}={}", it.user, it.connection.as_str()).unwrap();
        }
        if line != self.shown {
            writeln!(self.told, "{line}").unwrap();
            self.shown = line;
        }
    }
}

/// A stay in the room; without a name, the user's first.
fn session(words: &Words<'_>, who: &str) -> MediaSession {
    let since_ms = words.value("since").map_or(0, |it| it.parse().unwrap());
    MediaSession { sid: words.value("sid").unwrap_or(who).into(), since_ms }
}

/// The only recording there is.
pub(super) fn recording(now: Timestamp) -> Recording {
    Recording { id: Uuid::from_u128(9), egress: "e".into(), started_at: now, key: "k".into() }
}

fn command(words: &Words<'_>, now: Timestamp) -> Command {
    let who = words.0[0];
    let what = words.0.get(1).copied().unwrap_or_default();
    let third = words.0.get(2).copied().unwrap_or_default();
    match (who, what, third) {
        ("tick", ..) => Command::Tick,
        ("abort", ..) => Command::Abort,
        ("checked", ..) => {
            let there = words.0[1..].iter().filter(|it| it.len() == 1);
            let coming = words.value("coming");
            let stay = |it: &str| (coming != Some(it)).then(|| session(words, it));
            let present = there.map(|it| (user(it), stay(it))).collect();
            // Asked just after all that is known, but where the line says otherwise.
            let asked = words.value("asked").map(|it| BEGIN.plus(seconds(it)));
            Command::MediaChecked { present, asked: asked.unwrap_or(Timestamp(now.0 + 1)) }
        }
        ("recording", "over", _) => {
            Command::RecordingOver { id: recording(now).id, url: words.value("url").map(Arc::from) }
        }
        (_, "sends", _) => Command::Reflect { user: user(who), settings: words.settings() },
        (_, "muted", _) => Command::Muted { user: user(who), off: words.off() },
        (_, "records", _) => Command::StartRecording { by: user(who), recording: recording(now) },
        (_, "stops", _) => Command::StopRecording { by: user(who) },
        (_, "mutes", _) => Command::Mute { by: user(who), user: user(third), off: words.off() },
        (_, "rings", _) => Command::Rings { user: user(who) },
        (_, "joins", _) => Command::Join {
            user: user(who),
            settings: words.settings(),
            device: words.value("on").map(|it| DeviceId::parse(it).unwrap()),
            online: !words.has("offline"),
        },
        (_, "declines", _) => Command::Decline { user: user(who) },
        (_, "ends", _) => Command::End { user: user(who) },
        (_, "invites", _) => Command::Invite { by: user(who), invitees: words.invitees() },
        (_, "removes", _) => Command::Remove { by: user(who), user: user(third) },
        (_, "sets", _) => Command::Change { user: user(who), settings: words.settings() },
        (_, "media", "up") => {
            Command::MediaUp { user: user(who), session: Some(session(words, who)) }
        }
        (_, "media", "down") => {
            Command::MediaDown { user: user(who), sid: session(words, who).sid }
        }
        (_, "sockets", "gone") => Command::SocketsGone { user: user(who) },
        (_, "sockets", "back") => Command::SocketBack { user: user(who) },
        (_, "rated", _) => {
            Command::Sampled { user: user(who), quality: Quality::parse(third).unwrap() }
        }
        _ => panic!("no such line: {:?}", words.0),
    }
}

/// Seconds since the begin.
fn at(time: Timestamp) -> String {
    format!("{}s", (time.0 - BEGIN.0) / 1000)
}

fn names(users: &[UserId]) -> String {
    users.iter().map(UserId::as_str).collect::<Vec<_>>().join(" ")
}

fn notified(notice: &Notice) -> String {
    let mut line = format!("#{} {} -> {}", notice.seq, told(&notice.event), names(&notice.to));
    if let Some(device) = &notice.except {
        write!(line, ", not on {device}").unwrap();
    }
    line
}

fn told(event: &Event) -> String {
    match event {
        Event::Incoming { expires_at, participants } => {
            format!("incoming until {} (of {})", at(*expires_at), names(participants))
        }
        Event::Ringing { user } => format!("ringing {user}"),
        Event::Accepted { user } => format!("accepted {user}"),
        Event::Declined { user } => format!("declined {user}"),
        Event::Cancelled { user } => format!("cancelled by {user}"),
        Event::HandledElsewhere { user } => format!("handled_elsewhere {user}"),
        Event::ParticipantJoined { participant } => format!("joined {}", whole(participant)),
        Event::ParticipantLeft { user, reason } => format!("left {user} ({})", reason.as_str()),
        Event::ParticipantUpdated { participant } => format!("updated {}", whole(participant)),
        Event::StateChanged { state, .. } => format!("state {}", state.as_str()),
        Event::QualityChanged { user, quality, previous } => {
            let before = previous.map_or("none", Quality::as_str);
            format!("quality {user} {} (was {before})", quality.as_str())
        }
        Event::EndingSoon { ends_at } => format!("ending_soon at {}", at(*ends_at)),
        Event::IceServers => "ice servers".to_owned(),
        Event::RecordingStarted { user, .. } => format!("recording started by {user}"),
        Event::RecordingStopped { user, .. } => {
            format!("recording stopped by {}", user.as_ref().map_or("nobody", UserId::as_str))
        }
        Event::Ended { user, state, reason, duration } => {
            let by = user.as_ref().map_or("nobody", UserId::as_str);
            let long = duration.map_or("never connected".to_owned(), |it| format!("{it}s"));
            format!("ended {}/{} by {by}, {long}", state.as_str(), reason.as_str())
        }
    }
}

/// A participant with what it sends: mic, cam, screen.
fn whole(it: &Participant) -> String {
    let mut line = format!("{}={}", it.user, it.connection.as_str());
    let left = it.left_at.is_some();
    for (on, word) in
        [(it.audio, "mic"), (it.video, "cam"), (it.screen_share, "screen"), (left, "leftAt")]
    {
        if on {
            write!(line, "+{word}").unwrap();
        }
    }
    line
}
