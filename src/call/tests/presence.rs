//! Sockets that go and come back.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn lost_and_back_within_the_grace() {
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
        wait 5s
        b sockets gone
            #7 updated b=reconnecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
        b sockets gone
            nothing
        wait 29s
        b sockets back
            #9 updated b=connected+mic -> a b
            #10 state connected -> a b
            = connected: a=connected b=connected
        wait 60s
    "#]]);
}

#[test]
fn lost_for_good_in_a_call_of_two() {
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
        wait 5s
        b sockets gone
            #7 updated b=reconnecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
        wait 30s
          at 35s
            #9 left b (network_error) -> a b
            #10 ended ended/network_error by nobody, 35s -> a b
            = ended/network_error: a=left b=left
    "#]]);
}

#[test]
fn lost_for_good_in_a_group() {
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
        c joins
            #7 accepted c -> a b c
            #8 handled_elsewhere c -> c
            #9 joined c=connected+mic -> a b c
            = connected: a=connected b=connected c=connected
        c sockets gone
            #10 updated c=reconnecting+mic -> a b c
            = connected: a=connected b=connected c=reconnecting
        wait 30s
          at 30s
            #11 left c (network_error) -> a b c
            = connected: a=connected b=connected c=left
        c joins
            #12 joined c=connected+mic -> a b c
            = connected: a=connected b=connected c=connected
    "#]]);
}

#[test]
fn all_are_lost() {
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
        a sockets gone
            #8 updated a=reconnecting+mic -> a b
            #9 state reconnecting -> a b
            = reconnecting: a=reconnecting b=connected c=declined
        wait 10s
        b sockets gone
            #10 updated b=reconnecting+mic -> a b
            = reconnecting: a=reconnecting b=reconnecting c=declined
        wait 30s
          at 30s
            #11 left a (network_error) -> a b
            = reconnecting: a=left b=reconnecting c=declined
          at 40s
            #12 left b (network_error) -> b
            #13 ended ended/network_error by nobody, 40s -> a b
            = ended/network_error: a=left b=left c=declined
    "#]]);
}

#[test]
fn the_caller_is_lost_while_ringing() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        wait 10s
        a sockets gone
            #2 updated a=reconnecting+mic -> a b
            = ringing: a=reconnecting b=invited
        wait 30s
          at 40s
            #3 ended cancelled/network_error by nobody, never connected -> a b
            = cancelled/network_error: a=left b=missed
    "#]]);
}

#[test]
fn the_caller_is_back_while_ringing() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        a sockets gone
            #2 updated a=reconnecting+mic -> a b
            = ringing: a=reconnecting b=invited
        wait 10s
        a sockets back
            #3 updated a=connecting+mic -> a b
            = ringing: a=connecting b=invited
        wait 50s
          at 60s
            #4 updated b=missed+mic -> a b
            #5 ended missed/no_answer by nobody, never connected -> a b
            = missed/no_answer: a=left b=missed
    "#]]);
}

#[test]
fn an_answer_while_the_caller_is_lost() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        a sockets gone
            #2 updated a=reconnecting+mic -> a b
            = ringing: a=reconnecting b=invited
        wait 10s
        b joins
            #3 accepted b -> a b
            #4 handled_elsewhere b -> b
            #5 joined b=connecting+mic -> a b
            #6 state connecting -> a b
            = connecting: a=reconnecting b=connecting
        wait 10s
        a sockets back
            #7 updated a=connecting+mic -> a b
            #8 state connected -> a b
            = connected: a=connected b=connected
    "#]]);
}

#[test]
fn only_one_who_had_a_socket_can_lose_it() {
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
        a sockets gone
            nothing
        b sockets gone
            nothing
        wait 300s
        b sockets back
        b sockets gone
            #7 updated b=reconnecting+mic -> a b
            #8 state reconnecting -> a b
            = reconnecting: a=connected b=reconnecting
    "#]]);
}

#[test]
fn sockets_of_one_who_has_not_joined() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b sockets gone
            nothing
        b sockets back
            nothing
        b media up
            refused: you have not joined this call
        b media down
            nothing
    "#]]);
}
