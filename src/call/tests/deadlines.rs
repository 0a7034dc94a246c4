//! What time does: early, on time and late.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn the_maximum_duration_with_its_warning() {
    check(&expect![[r#"
        a calls b max=300s
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        wait 10s
        b joins
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            #6 state connected -> a b
            = connected: a=connected b=connected
        wait 239s
        wait 1s
          at 250s
            #7 ending_soon at 310s -> a b
        wait 59s
        wait 1s
          at 310s
            #8 ended ended/timeout by nobody, 300s -> a b
            = ended/timeout: a=left b=left
    "#]]);
}

#[test]
fn a_maximum_shorter_than_the_warning() {
    check(&expect![[r#"
        a calls b max=30s
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        wait 20s
        b joins
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            #6 state connected -> a b
            = connected: a=connected b=connected
        wait 29s
          at 20s
            #7 ending_soon at 50s -> a b
        wait 1s
          at 50s
            #8 ended ended/timeout by nobody, 30s -> a b
            = ended/timeout: a=left b=left
    "#]]);
}

#[test]
fn the_maximum_is_four_hours() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            #6 state connected -> a b
            = connected: a=connected b=connected
        wait 14400s
          at 14340s
            #7 ending_soon at 14400s -> a b
          at 14400s
            #8 ended ended/timeout by nobody, 14400s -> a b
            = ended/timeout: a=left b=left
    "#]]);
}

#[test]
fn a_maximum_shorter_than_the_ring() {
    check(&expect![[r#"
        a calls b max=30s
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        wait 30s
          at 30s
            #2 ended missed/no_answer by nobody, never connected -> a b
            = missed/no_answer: a=left b=missed
    "#]]);
}

#[test]
fn media_that_never_came_is_bounded_too() {
    check(&expect![[r#"
        a calls b livekit max=70s
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            = connecting: a=connecting b=connecting
        wait 30s
          at 30s
            who is in the room?
        checked a
        wait 40s
          at 60s
            who is in the room?
          at 70s
            #6 ended failed/timeout by nobody, never connected -> a b
            = failed/timeout: a=left b=left
    "#]]);
}

#[test]
fn each_invitee_has_a_deadline_of_its_own() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        wait 20s
        a invites d
            #2 incoming until 80s (of a b c d) -> d
            #3 updated d=invited+mic -> a b c
            = ringing: a=connecting b=invited c=invited d=invited
        wait 40s
          at 60s
            #4 updated b=missed+mic -> a b c d
            #5 updated c=missed+mic -> a b c d
            = ringing: a=connecting b=missed c=missed d=invited
        wait 20s
          at 80s
            #6 updated d=missed+mic -> a b c d
            #7 ended missed/no_answer by nobody, never connected -> a b c d
            = missed/no_answer: a=left b=missed c=missed d=missed
    "#]]);
}

#[test]
fn nothing_happens_early() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        tick
            nothing
        sleep 59s
        tick
            nothing
        sleep 1s
        tick
            #2 updated b=missed+mic -> a b
            #3 ended missed/no_answer by nobody, never connected -> a b
            = missed/no_answer: a=left b=missed
        tick
            nothing
    "#]]);
}

#[test]
fn time_that_looks_late() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        b joins
            #2 accepted b -> a b c
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b c
            #5 state connecting -> a b c
            #6 state connected -> a b c
            = connected: a=connected b=connected c=invited
        sleep 59s
        b ends
            #7 left b (left) -> a b c
            #8 state reconnecting -> a c
            = reconnecting: a=connected b=left c=invited
        sleep 500s
        tick
            #9 updated c=missed+mic -> a c
            = reconnecting: a=connected b=left c=missed
        wait 60s
          at 619s
            #10 ended ended/normal by nobody, 619s -> a b c
            = ended/normal: a=left b=left c=missed
    "#]]);
}
