//! Media through LiveKit: whose is up, as webhooks, clients and the room itself say.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn livekit_says_that_media_is_up() {
    check(&expect![[r#"
        a calls b livekit
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        a media up
        b joins
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            = connecting: a=connecting b=connecting
        b media up
            #6 state connected -> a b
            = connected: a=connected b=connected
        b media up
            nothing
        wait 60s
        a ends
            #7 ended ended/normal by a, 60s -> a b
            = ended/normal: a=left b=left
    "#]]);
}

#[test]
fn a_third_whose_media_comes_up_later() {
    check(&expect![[r#"
        a calls b c livekit
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        b joins
            #2 accepted b -> a b c
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b c
            #5 state connecting -> a b c
            = connecting: a=connecting b=connecting c=invited
        a media up
        b media up
            #6 state connected -> a b c
            = connected: a=connected b=connected c=invited
        c joins
            #7 accepted c -> a b c
            #8 handled_elsewhere c -> c
            #9 joined c=connecting+mic -> a b c
            = connected: a=connected b=connected c=connecting
        c media up
            #10 updated c=connected+mic -> a b c
            = connected: a=connected b=connected c=connected
    "#]]);
}

#[test]
fn media_never_comes_up() {
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
        wait 30s
          at 30s
            who is in the room?
        checked
            #6 ended failed/timeout by nobody, never connected -> a b
            = failed/timeout: a=left b=left
    "#]]);
}

#[test]
fn livekit_knows_more_than_its_webhooks_told() {
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
        wait 30s
          at 30s
            who is in the room?
        checked a b
            #6 state connected -> a b
            = connected: a=connected b=connected
    "#]]);
}

#[test]
fn one_is_in_the_room_so_the_call_goes_on_and_is_asked_again() {
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
        wait 30s
          at 30s
            who is in the room?
        checked a
        wait 30s
          at 60s
            who is in the room?
        checked a b
            #6 state connected -> a b
            = connected: a=connected b=connected
    "#]]);
}

#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
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
        wait 30s
          at 30s
            who is in the room?
        a media up
        b media up
            #6 state connected -> a b
            = connected: a=connected b=connected
        checked asked=20s
            nothing
        checked
        checked
            nothing
        wait 1s
        checked
            #7 updated a=connecting+mic -> a b
            #8 updated b=connecting+mic -> a b
            #9 state reconnecting -> a b
            = reconnecting: a=connecting b=connecting
    "#]]);
}

#[test]
fn who_is_in_the_room_is_not_lost() {
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
        wait 10s
        b sockets gone
            #6 updated b=reconnecting+mic -> a b
            = connecting: a=connecting b=reconnecting
        wait 20s
          at 30s
            who is in the room?
        checked b
            #7 updated b=connecting+mic -> a b
            = connecting: a=connecting b=connecting
        wait 10s
    "#]]);
}

#[test]
fn sockets_gone_but_media_up() {
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
        b sockets gone
        b media down
            #7 updated b=reconnecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
        wait 10s
        b media up sid=2 since=2
            #9 updated b=connected+mic -> a b
            #10 state connected -> a b
            = connected: a=connected b=connected
        b media down sid=2
            #11 updated b=reconnecting+mic -> a b
            #12 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
        wait 30s
          at 40s
            #13 left b (network_error) -> a b
            who is in the room?
            #14 ended ended/network_error by nobody, 40s -> a b
            = ended/network_error: a=left b=left
    "#]]);
}

#[test]
fn media_gone_but_a_socket_is_there() {
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
        b media down
            #7 updated b=connecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=connecting
        wait 60s
        b media up sid=2 since=2
            #9 updated b=connected+mic -> a b
            #10 state connected -> a b
            = connected: a=connected b=connected
    "#]]);
}

#[test]
fn media_of_a_client_without_a_socket_is_gone() {
    check(&expect![[r#"
        a calls b livekit
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins offline
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            = connecting: a=connecting b=connecting
        a media up
        b media up
            #6 state connected -> a b
            = connected: a=connected b=connected
        b sockets gone
            nothing
        b media down
            #7 updated b=reconnecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
        wait 30s
          at 30s
            #9 left b (network_error) -> a b
            who is in the room?
            #10 ended ended/network_error by nobody, 30s -> a b
            = ended/network_error: a=left b=left
    "#]]);
}

#[test]
fn a_second_device_takes_over() {
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
        b media up sid=1 since=1
            #6 state connected -> a b
            = connected: a=connected b=connected
        b media up sid=2 since=2
        b media down sid=1
            nothing
        b media up sid=1 since=1
            nothing
        b media down sid=2
            #7 updated b=connecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=connecting
        b media up sid=2 since=2
            nothing
        checked a b sid=2 since=2 coming=b
        checked a b sid=2 since=2
            #9 updated b=connected+mic -> a b
            #10 state connected -> a b
            = connected: a=connected b=connected
    "#]]);
}

#[test]
fn the_room_is_asked_and_knows_better() {
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
        checked
            nothing
        a media up
        b media up
            #6 state connected -> a b
            = connected: a=connected b=connected
        b sockets gone
        wait 5s
        checked a asked=0s
            nothing
        checked a
        checked a b
        checked a
        wait 1s
        checked a
            #7 updated b=reconnecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
        wait 5s
        checked a b
            #9 updated b=connected+mic -> a b
            #10 state connected -> a b
            = connected: a=connected b=connected
        checked a b
            nothing
    "#]]);
}
