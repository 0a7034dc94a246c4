//! A call of two without LiveKit, told a second time in the plainest way, and compared.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, prop, prop_assert_eq, proptest};
use proptest::prop_oneof;
use proptest::test_runner::Config;

use crate::call::command::Command;
use crate::call::id::UserId;
use crate::call::model::Call;
use crate::call::participant::Settings;
use crate::call::tests::script::{BEGIN, start, user};

/// What happens to `a` (true) or `b`; a number is seconds that pass.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Join(bool),
    Decline(bool),
    End(bool),
    Gone(bool),
    Back(bool),
    Wait(u64),
}

/// The call as one would scribble it on a napkin: times in seconds, `lost` is when the grace ends.
#[derive(Debug, Default)]
struct Napkin {
    now: u64,
    answered: Option<u64>,
    lost: [Option<u64>; 2],
    end: Option<(&'static str, u64)>,
}

impl Napkin {
    fn over(&mut self, how: &'static str) {
        self.end.get_or_insert((how, self.now));
    }

    fn happens(&mut self, deed: Deed) {
        if let Deed::Wait(seconds) = deed {
            (0..seconds).for_each(|_| self.second());
            return;
        }
        if self.end.is_some() {
            return;
        }
        let answered = self.answered.is_some();
        match deed {
            Deed::Join(false) if !answered => self.answered = Some(self.now),
            Deed::Decline(false) | Deed::End(false) if !answered => self.over("declined/declined"),
            Deed::End(true) if !answered => self.over("cancelled/cancelled"),
            Deed::End(_) => self.over("ended/normal"),
            Deed::Gone(a) if a || answered => {
                self.lost[usize::from(a)].get_or_insert(self.now + 30);
            }
            Deed::Back(a) => self.lost[usize::from(a)] = None,
            Deed::Join(_) | Deed::Decline(_) | Deed::Gone(_) | Deed::Wait(_) => {}
        }
    }

    fn second(&mut self) {
        self.now += 1;
        let lost = self.lost.contains(&Some(self.now));
        match self.answered {
            None if lost => self.over("cancelled/network_error"),
            None if self.now == 60 => self.over("missed/no_answer"),
            Some(_) if lost => self.over("ended/network_error"),
            None | Some(_) => {}
        }
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    let who = || prop::bool::weighted(0.4);
    prop_oneof![
        2 => who().prop_map(Deed::Join),
        1 => who().prop_map(Deed::Decline),
        1 => who().prop_map(Deed::End),
        3 => who().prop_map(Deed::Gone),
        3 => who().prop_map(Deed::Back),
        6 => (0_u64..40).prop_map(Deed::Wait),
        1 => Just(Deed::Wait(30)),
    ]
}

fn name(a: bool) -> UserId {
    user(if a { "a" } else { "b" })
}

fn command(deed: Deed) -> Command {
    match deed {
        Deed::Join(who) => Command::Join {
            user: name(who),
            settings: Settings::default(),
            device: None,
            online: true,
        },
        Deed::Decline(who) => Command::Decline { user: name(who) },
        Deed::End(who) => Command::End { user: name(who) },
        Deed::Gone(who) => Command::SocketsGone { user: name(who) },
        Deed::Back(who) => Command::SocketBack { user: name(who) },
        Deed::Wait(_) => Command::Tick,
    }
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_call_of_two_is_what_the_napkin_says(deeds in prop::collection::vec(deed(), 0..25)) {
        let (mut call, _) = Call::start(start(&["b"]), BEGIN);
        let mut napkin = Napkin::default();
        for deed in deeds {
            let until = BEGIN.plus(Duration::from_secs(match deed {
                Deed::Wait(seconds) => napkin.now + seconds,
                Deed::Join(_) | Deed::Decline(_) | Deed::End(_) | Deed::Gone(_) | Deed::Back(_) => {
                    napkin.now
                }
            }));
            napkin.happens(deed);
            while let Some(due) = call.next_deadline().filter(|it| *it <= until) {
                call.apply(Command::Tick, due).unwrap();
            }
            // Who may ask is another test's matter.
            let _refused = call.apply(command(deed), until);
            let end = call.end_reason.map(|it| format!("{}/{}", call.state.as_str(), it.as_str()));
            let ended = call.ended_at.map(|it| it.since(BEGIN).as_secs());
            let told = end.as_deref().zip(ended);
            prop_assert_eq!(told, napkin.end, "after {:?}", deed);
            let answered = call.participants[1].joined_at.map(|it| it.since(BEGIN).as_secs());
            prop_assert_eq!(answered, napkin.answered);
        }
    }
}
