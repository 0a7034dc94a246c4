//! What may happen to a call, at random.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop};
use proptest::prop_oneof;

use crate::call::command::{Command, Start};
use crate::call::id::{DeviceId, UserId};
use crate::call::participant::{InRoom, MediaSession, Sent, Settings};
use crate::call::state::{MediaPath, Quality};
use crate::call::tests::script::{BEGIN, invitee, recording, start, user};
use crate::call::time::Timestamp;

/// Whoever may appear: `a` calls, `a` to `e` may belong to the call, `x` may not.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "x"];

/// One thing that happens to a call.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    Asked(Command),
    /// Time passes as the deadline loop sees it.
    Passed(Duration),
    /// Time passes unseen.
    Slept(Duration),
    /// Time passes until something is due.
    Due,
    Restarted,
}

fn someone() -> impl Strategy<Value = UserId> + Clone {
    prop::sample::select(&NAMES[..]).prop_map(user)
}

fn settings() -> impl Strategy<Value = Settings> {
    any::<(Option<bool>, Option<bool>, Option<bool>)>()
        .prop_map(|(audio, video, screen_share)| Settings { audio, video, screen_share })
}

/// Two devices a user, or one that is not named.
fn device() -> impl Strategy<Value = Option<DeviceId>> {
    prop::option::of(prop_oneof![Just("d1"), Just("d2")])
        .prop_map(|it| it.map(|it| DeviceId::parse(it).unwrap()))
}

fn sent() -> impl Strategy<Value = Sent> {
    any::<(bool, bool, bool)>().prop_map(|(audio, video, screen_share)| Sent {
        audio,
        video,
        screen_share,
    })
}

/// Three stays, of which two began at the same time.
fn session() -> impl Strategy<Value = MediaSession> {
    prop::sample::select(&[("s1", 1), ("s2", 2), ("s3", 2)][..])
        .prop_map(|(sid, since_ms)| MediaSession { sid: sid.into(), since_ms })
}

fn present() -> impl Strategy<Value = Vec<InRoom>> {
    prop::collection::vec((someone(), prop::option::of(session())), 0..4)
}

fn join() -> impl Strategy<Value = Command> {
    (someone(), settings(), device(), any::<bool>()).prop_map(|(user, settings, device, online)| {
        Command::Join { user, settings, device, online }
    })
}

fn invite() -> impl Strategy<Value = Command> {
    let called = (prop::sample::select(&NAMES[..5]), prop::bool::weighted(0.2));
    (someone(), prop::collection::vec(called, 1..4)).prop_map(|(by, called)| Command::Invite {
        by,
        invitees: called.into_iter().map(|(name, busy)| invitee(name, busy)).collect(),
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => join(),
        3 => invite(),
        2 => someone().prop_map(|user| Command::Rings { user }),
        2 => someone().prop_map(|user| Command::Decline { user }),
        2 => someone().prop_map(|user| Command::End { user }),
        1 => (someone(), someone()).prop_map(|(by, user)| Command::Remove { by, user }),
        2 => (someone(), settings())
            .prop_map(|(user, settings)| Command::Change { user, settings }),
        1 => (someone(), someone(), sent())
            .prop_map(|(by, user, off)| Command::Mute { by, user, off }),
        1 => (someone(), sent()).prop_map(|(user, off)| Command::Muted { user, off }),
        4 => (someone(), prop::option::of(session()))
            .prop_map(|(user, session)| Command::MediaUp { user, session }),
        2 => (someone(), session())
            .prop_map(|(user, session)| Command::MediaDown { user, sid: session.sid }),
        3 => someone().prop_map(|user| Command::SocketsGone { user }),
        3 => someone().prop_map(|user| Command::SocketBack { user }),
        1 => (someone(), prop::sample::select(Quality::ALL))
            .prop_map(|(user, quality)| Command::Sampled { user, quality }),
        1 => (someone(), settings()).prop_map(|(user, settings)| Command::Reflect { user, settings }),
        1 => (present(), 0_i64..200_000).prop_map(
            |(present, asked)| Command::MediaChecked { present, asked: Timestamp(BEGIN.0 + asked) }
        ),
        1 => someone().prop_map(|by| Command::StartRecording { by, recording: recording(BEGIN) }),
        1 => someone().prop_map(|by| Command::StopRecording { by }),
        1 => prop::option::of(Just("u".into()))
            .prop_map(|url| Command::RecordingOver { id: recording(BEGIN).id, url }),
        1 => Just(Command::Tick),
    ]
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
    let time = || (0_u64..70_000).prop_map(Duration::from_millis);
    prop_oneof![
        20 => command().prop_map(Happening::Asked),
        3 => time().prop_map(Happening::Passed),
        1 => time().prop_map(Happening::Slept),
        2 => Just(Happening::Due),
        1 => Just(Happening::Restarted),
    ]
}

pub(super) fn beginning() -> impl Strategy<Value = Start> {
    let called = prop::collection::vec(prop::bool::weighted(0.1), 1..5);
    let few = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>(), 0_u16..4);
    (called, few, 1_u64..400).prop_map(|(busy, (livekit, silent, online, spare), duration)| {
        let mut start = start(&[]);
        start.invitees = NAMES[1..].iter().zip(busy).map(|(it, busy)| invitee(it, busy)).collect();
        start.media = if livekit { MediaPath::Livekit } else { MediaPath::Peer };
        (start.silent, start.online) = (silent, online);
        let called = u16::try_from(start.invitees.len()).unwrap();
        start.limits.participants = (1 + called + spare).min(5);
        start.limits.duration = Duration::from_secs(duration);
        start.limits.ice_renewal = (duration % 2 == 0).then_some(Duration::from_secs(20));
        start
    })
}
