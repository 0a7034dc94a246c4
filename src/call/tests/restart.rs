//! Calls that outlive the process.

use std::time::Duration;

use expect_test::expect;

use crate::call::command::Command;
use crate::call::model::Call;
use crate::call::participant::Settings;
use crate::call::tests::script::{BEGIN, check, start, user};

#[test]
fn ringing_goes_on_after_a_restart() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b rings
            #2 ringing b -> a
            = ringing: a=connecting b=ringing
        sleep 40s
        restart
        a sockets back
        wait 19s
        wait 1s
          at 60s
            #3 updated b=missed+mic -> a b
            #4 ended missed/no_answer by nobody, never connected -> a b
            = missed/no_answer: a=left b=missed
    "#]]);
}

#[test]
fn ringing_that_ran_out_during_the_restart() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        sleep 100s
        restart
        wait 0s
          at 100s
            #2 updated b=missed+mic -> a b
            #3 ended missed/no_answer by nobody, never connected -> a b
            = missed/no_answer: a=left b=missed
    "#]]);
}

#[test]
fn the_grace_counts_from_the_restart() {
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
        sleep 600s
        restart
        wait 10s
        a sockets back
        wait 19s
        wait 1s
          at 630s
            #7 left b (network_error) -> a b
            #8 ended ended/network_error by nobody, 630s -> a b
            = ended/network_error: a=left b=left
    "#]]);
}

#[test]
fn all_are_back_after_a_restart() {
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
        sleep 600s
        restart
        a sockets back
        b sockets back
        wait 60s
    "#]]);
}

#[test]
fn a_grace_that_ran_begins_anew() {
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
        b sockets gone
            #7 updated b=reconnecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
        sleep 25s
        restart
        a sockets back
        wait 29s
        wait 1s
          at 55s
            #9 left b (network_error) -> a b
            #10 ended ended/network_error by nobody, 55s -> a b
            = ended/network_error: a=left b=left
    "#]]);
}

#[test]
fn a_client_without_a_socket_outlives_a_restart() {
    check(&expect![[r#"
        a calls b offline
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins offline
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            #6 state connected -> a b
            = connected: a=connected b=connected
        sleep 10s
        restart
        wait 600s
    "#]]);
}

#[test]
fn media_through_livekit_outlives_a_restart() {
    check(&expect![[r#"
        a calls b livekit
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            = connecting: a=connecting b=connecting
        a media up
        b media up
            #6 state connected -> a b
            = connected: a=connected b=connected
        sleep 10s
        restart
        wait 60s
        a sockets back
        b media down
            #7 updated b=reconnecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
        wait 30s
          at 100s
            #9 left b (network_error) -> a b
            who is in the room?
            #10 ended ended/network_error by nobody, 100s -> a b
            = ended/network_error: a=left b=left
    "#]]);
}

#[test]
fn the_maximum_duration_after_a_restart() {
    check(&expect![[r#"
        a calls b max=300s
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            #6 state connected -> a b
            = connected: a=connected b=connected
        sleep 100s
        restart
        a sockets back
        b sockets back
        wait 200s
          at 240s
            #7 ending_soon at 300s -> a b
          at 300s
            #8 ended ended/timeout by nobody, 300s -> a b
            = ended/timeout: a=left b=left
    "#]]);
}

#[test]
fn being_alone_goes_on_after_a_restart() {
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
        c declines
            #7 declined c -> a b c
            = connected: a=connected b=connected c=declined
        b ends
            #8 left b (left) -> a b
            #9 state reconnecting -> a
            = reconnecting: a=connected b=left c=declined
        sleep 50s
        restart
        a sockets back
        wait 10s
          at 60s
            #10 ended ended/normal by nobody, 60s -> a b
            = ended/normal: a=left b=left c=declined
    "#]]);
}

#[test]
fn a_restart_after_the_end() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        a ends
            #2 cancelled by a -> a b
            #3 ended cancelled/cancelled by a, never connected -> a b
            = cancelled/cancelled: a=left b=missed
        restart
        tick
            nothing
    "#]]);
}

#[test]
fn who_joins_a_call_again_that_another_node_has_taken_has_said_so_then() {
    let (mut call, _) = Call::start(start(&["b"]), BEGIN);
    let join = || Command::Join {
        user: user("b"),
        settings: Settings::default(),
        device: None,
        online: true,
    };
    let at = |seconds| BEGIN.plus(Duration::from_secs(seconds));
    let stands = |call: &Call| {
        let it = call.participant(&user("b")).unwrap();
        (it.since, it.duration(at(60)))
    };
    call.apply(join(), at(10)).unwrap();
    call.apply(join(), at(20)).unwrap();
    assert_eq!(stands(&call), (Some(at(10)), Some(50)), "twice is once");
    call.take_over(2, at(30));
    let again = call.apply(join(), at(40)).unwrap();
    assert_eq!(stands(&call), (Some(at(40)), Some(50)), "and nothing of the stay is lost");
    assert!(again.effects.is_empty());
}
