//! The authorization matrix: who may ask what of a call, each cell a test.

use crate::call::applied::Applied;
use crate::call::command::{Command, Effect, Event, Refusal};
use crate::call::model::Call;
use crate::call::participant::{Sent, Settings};
use crate::call::state::Quality;
use crate::call::tests::script::{BEGIN, Life, invitee, recording, user};

/// One user of each column, named by its first letter; `t` is there to be talked to, and `x` was
/// removed. What follows is in the cells: `nothing`, what the first event says, or the refusal.
const LIVE: &str = "
               | a initiator | j joined  | r ringing  | l left     | d declined | m missed   | x removed  | o outsider
rings          | nothing     | nothing   | ringing    | nothing    | nothing    | nothing    | nothing    | Forbidden
join           | nothing     | nothing   | accepted   | joined     | accepted   | accepted   | Removed    | NotInvited
decline        | Forbidden   | nothing   | declined   | nothing    | nothing    | nothing    | nothing    | Forbidden
end            | ended       | left      | declined   | nothing    | nothing    | nothing    | nothing    | Forbidden
toggle         | updated     | updated   | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden
invite         | incoming    | incoming  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden
ring again     | incoming    | incoming  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden
remove         | left        | Forbidden | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden
mute           | updated     | Forbidden | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden
record         | recording   | Forbidden | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden
stop recording | NotRecording | Forbidden | Forbidden | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden
quality        | quality     | quality   | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden  | Forbidden
media up       | nothing     | nothing   | NotJoined  | NotJoined  | NotJoined  | NotJoined  | NotJoined  | Forbidden
hears a toggle | yes         | yes       | yes        | no         | no         | yes        | no         | no
hears the end  | yes         | yes       | yes        | yes        | no         | yes        | no         | no
";

/// The same of a call that is over.
const OVER: &str = "
               | a initiator | j joined  | r ringing  | l left     | d declined | m missed   | x removed  | o outsider
rings          | nothing     | nothing   | nothing    | nothing    | nothing    | nothing    | nothing    | Forbidden
join           | Over        | Over      | Over       | Over       | Over       | Over       | Removed    | NotInvited
decline        | Forbidden   | nothing   | nothing    | nothing    | nothing    | nothing    | nothing    | Forbidden
end            | nothing     | nothing   | nothing    | nothing    | nothing    | nothing    | nothing    | Forbidden
toggle         | Over        | Over      | Over       | Over       | Over       | Over       | Over       | Forbidden
invite         | Over        | Over      | Over       | Over       | Over       | Over       | Over       | Forbidden
ring again     | Over        | Over      | Over       | Over       | Over       | Over       | Over       | Forbidden
remove         | Over        | Over      | Over       | Over       | Over       | Over       | Over       | Forbidden
mute           | Over        | Over       | Over       | Over       | Over       | Over       | Over       | Forbidden
record         | Over        | Over       | Over       | Over       | Over       | Over       | Over       | Forbidden
stop recording | Over        | Over       | Over       | Over       | Over       | Over       | Over       | Forbidden
quality        | Over        | Over      | Over       | Over       | Over       | Over       | Over       | Forbidden
media up       | Over        | Over      | Over       | Over       | Over       | Over       | Over       | Forbidden
";

/// A call with a user of each kind.
fn everyone() -> Life {
    Life::run(
        "
        a calls t j l d x m
        t joins
        j joins
        l joins
        l ends
        d declines
        a removes x
        wait 60s
        a invites r
        ",
    )
}

fn command(row: &str, who: &str) -> Command {
    let who = user(who);
    let muted = Settings { audio: Some(false), ..Settings::default() };
    match row {
        "rings" => Command::Rings { user: who },
        "join" => Command::Join { user: who, settings: muted, device: None, online: true },
        "decline" => Command::Decline { user: who },
        "end" => Command::End { user: who },
        "toggle" => Command::Change { user: who, settings: muted },
        "invite" => Command::Invite { by: who, invitees: vec![invitee("n", false)] },
        "ring again" => Command::Invite { by: who, invitees: vec![invitee("d", false)] },
        "remove" => Command::Remove { by: who, user: user("t") },
        "quality" => Command::Sampled { user: who, quality: Quality::Good },
        "mute" => {
            Command::Mute { by: who, user: user("t"), off: Sent { audio: true, ..Sent::default() } }
        }
        "record" => Command::StartRecording { by: who, recording: recording(BEGIN) },
        "stop recording" => Command::StopRecording { by: who },
        "media up" => Command::MediaUp { user: who, session: None },
        _ => panic!("no such row: {row}"),
    }
}

/// Whether `who` is told of what `by` asks for, by its last event.
fn hears(mut life: Life, row: &str, by: &str, who: &str) -> String {
    let applied = life.call.apply(command(row, by), life.now).unwrap();
    let Some(Effect::Notify(notice)) = applied.effects.last() else { panic!("no event") };
    if notice.to.contains(&user(who)) { "yes".to_owned() } else { "no".to_owned() }
}

fn outcome(mut life: Life, row: &str, who: &str) -> String {
    match row {
        "hears a toggle" => return hears(life, "toggle", "t", who),
        "hears the end" => return hears(life, "end", "a", who),
        _ => {}
    }
    let before = life.call.clone();
    let result = life.call.apply(command(row, who), life.now);
    if result.as_ref().map_or(true, Applied::is_noop) {
        assert_eq!(life.call, before, "{row} by {who} changed the call");
    }
    told(&life.call, result)
}

fn told(call: &Call, result: Result<Applied, Refusal>) -> String {
    let applied = match result {
        Err(refusal) => return format!("{refusal:?}"),
        Ok(applied) => applied,
    };
    let Some(Effect::Notify(notice)) = applied.effects.first() else { return "nothing".to_owned() };
    let word = match notice.event {
        Event::Incoming { .. } => "incoming",
        Event::Ringing { .. } => "ringing",
        Event::Accepted { .. } => "accepted",
        Event::Declined { .. } => "declined",
        Event::ParticipantJoined { .. } => "joined",
        Event::ParticipantLeft { .. } => "left",
        Event::ParticipantUpdated { .. } => "updated",
        Event::QualityChanged { .. } => "quality",
        Event::RecordingStarted { .. } => "recording",
        Event::Ended { .. } => "ended",
        Event::Cancelled { .. }
        | Event::HandledElsewhere { .. }
        | Event::StateChanged { .. }
        | Event::IceServers
        | Event::RecordingStopped { .. }
        | Event::EndingSoon { .. } => "unexpected",
    };
    assert_eq!(call.state.is_terminal(), word == "ended", "{word}");
    word.to_owned()
}

/// Compares each cell with what happens; returns how many there are.
fn check(table: &str, life: impl Fn() -> Life) -> usize {
    let mut rows = table.lines().skip(1);
    let split = |row: &str| row.split('|').map(|it| it.trim().to_owned()).collect::<Vec<_>>();
    let users = split(rows.next().unwrap());
    let (mut wrong, mut count) = (Vec::new(), 0);
    for row in rows.map(split) {
        assert_eq!(row.len(), users.len(), "{row:?}");
        for (column, expected) in users.iter().zip(&row).skip(1) {
            let who = column.split(' ').next().unwrap();
            let got = outcome(life(), &row[0], who);
            count += 1;
            if got != *expected {
                wrong.push(format!("{} by {column}: {got}, not {expected}", row[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

#[test]
fn of_a_live_call() {
    assert_eq!(check(LIVE, everyone), 120);
}

#[test]
fn of_a_call_that_is_over() {
    let over = || {
        let mut life = everyone();
        life.line("a ends");
        life
    };
    assert_eq!(check(OVER, over), 104);
}
