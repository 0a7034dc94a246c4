//! Who is rung and who picks up.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn a_call_that_is_answered_and_hung_up() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b rings
            #2 ringing b -> a
            = ringing: a=connecting b=ringing
        b rings
            nothing
        wait 5s
        b joins on=b1
            #3 accepted b -> a b
            #4 handled_elsewhere b -> b, not on b1
            #5 joined b=connecting+mic -> a b
            #6 state connecting -> a b
            #7 state connected -> a b
            = connected: a=connected b=connected
        a joins
            nothing
        b joins on=b2
            nothing
        wait 65s
        a ends
            #8 ended ended/normal by a, 65s -> a b
            = ended/normal: a=left b=left
        b ends
            nothing
    "#]]);
}

#[test]
fn the_media_a_call_begins_with() {
    check(&expect![[r#"
        a calls b video
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins mic=off cam=off
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting -> a b
            #5 state connecting -> a b
            #6 state connected -> a b
            = connected: a=connected b=connected
    "#]]);
}

#[test]
fn without_a_named_device_all_devices_stop_ringing() {
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
    "#]]);
}

#[test]
fn nobody_answers() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b rings
            #2 ringing b -> a
            = ringing: a=connecting b=ringing
        wait 59s
        wait 1s
          at 60s
            #3 updated b=missed+mic -> a b
            #4 ended missed/no_answer by nobody, never connected -> a b
            = missed/no_answer: a=left b=missed
        b joins
            refused: the call is over
        b rings
            nothing
    "#]]);
}

#[test]
fn the_one_who_is_called_declines() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        wait 3s
        b declines
            #2 declined b -> a b
            #3 ended declined/declined by b, never connected -> a
            = declined/declined: a=left b=declined
        b declines
            nothing
        b joins
            refused: the call is over
    "#]]);
}

#[test]
fn ending_while_being_rung_is_a_decline() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b ends
            #2 declined b -> a b
            #3 ended declined/declined by b, never connected -> a
            = declined/declined: a=left b=declined
    "#]]);
}

#[test]
fn a_decline_after_the_answer_changes_nothing() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins on=b1
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b, not on b1
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            #6 state connected -> a b
            = connected: a=connected b=connected
        b declines
            nothing
    "#]]);
}

#[test]
fn the_caller_gives_up() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        b rings
            #2 ringing b -> a
            = ringing: a=connecting b=ringing c=invited
        wait 2s
        a ends
            #3 cancelled by a -> a b c
            #4 ended cancelled/cancelled by a, never connected -> a b c
            = cancelled/cancelled: a=left b=missed c=missed
        a ends
            nothing
        b ends
            nothing
    "#]]);
}

#[test]
fn the_caller_can_not_decline() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        a declines
            refused: you may not do this in this call
    "#]]);
}

#[test]
fn a_busy_user_is_not_rung() {
    check(&expect![[r#"
        a calls b busy=b
            unavailable: b Busy
            #1 ended busy/busy by nobody, never connected -> a b
            = busy/busy: a=left b=busy
        b joins
            refused: the call is over
    "#]]);
}

#[test]
fn strangers_stay_outside() {
    check(&expect![[r#"
        a calls b
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        x rings
            refused: you may not do this in this call
        x joins
            refused: you are not invited to this call
        x declines
            refused: you may not do this in this call
        x ends
            refused: you may not do this in this call
        x invites c
            refused: you may not do this in this call
        x sets mic=off
            refused: you may not do this in this call
        x rated poor
            refused: you may not do this in this call
        x removes b
            refused: you may not do this in this call
        x media up
            refused: you may not do this in this call
        x sockets gone
            refused: you may not do this in this call
    "#]]);
}

#[test]
fn a_call_that_rings_nobody() {
    check(&expect![[r#"
        a calls b c silent busy=b
            = ringing: a=connecting b=invited c=invited
        b rings
            nothing
        wait 300s
        b joins
            #1 accepted b -> a b c
            #2 joined b=connecting+mic -> a b c
            #3 state connecting -> a b c
            #4 state connected -> a b c
            = connected: a=connected b=connected c=invited
        b ends
            #5 left b (left) -> a b c
            #6 state reconnecting -> a c
            = reconnecting: a=connected b=left c=invited
        wait 300s
        c joins
            #7 accepted c -> a c
            #8 joined c=connected+mic -> a c
            #9 state connected -> a c
            = connected: a=connected b=left c=connected
        a ends
            #10 ended ended/normal by a, 300s -> a b c
            = ended/normal: a=left b=left c=left
    "#]]);
}

#[test]
fn a_call_that_rings_nobody_outlives_those_who_decline_and_leave() {
    check(&expect![[r#"
        a calls b silent
            = ringing: a=connecting b=invited
        b declines
            #1 declined b -> a b
            = ringing: a=connecting b=declined
        wait 300s
        b joins
            #2 accepted b -> a b
            #3 joined b=connecting+mic -> a b
            #4 state connecting -> a b
            #5 state connected -> a b
            = connected: a=connected b=connected
        b ends
            #6 left b (left) -> a b
            #7 state reconnecting -> a
            = reconnecting: a=connected b=left
        wait 300s
        b joins
            #8 joined b=connected+mic -> a b
            #9 state connected -> a b
            = connected: a=connected b=connected
        a ends
            #10 ended ended/normal by a, 300s -> a b
            = ended/normal: a=left b=left
    "#]]);
}

#[test]
fn a_call_that_rings_nobody_ends_when_its_initiator_is_lost() {
    check(&expect![[r#"
        a calls b c silent
            = ringing: a=connecting b=invited c=invited
        b joins
            #1 accepted b -> a b c
            #2 joined b=connecting+mic -> a b c
            #3 state connecting -> a b c
            #4 state connected -> a b c
            = connected: a=connected b=connected c=invited
        c joins
            #5 accepted c -> a b c
            #6 joined c=connected+mic -> a b c
            = connected: a=connected b=connected c=connected
        a sockets gone
            #7 updated a=reconnecting+mic -> a b c
            = connected: a=reconnecting b=connected c=connected
        wait 30s
          at 30s
            #8 left a (network_error) -> a b c
            #9 ended ended/network_error by nobody, 30s -> a b c
            = ended/network_error: a=left b=left c=left
    "#]]);
}

#[test]
fn a_call_that_rings_nobody_and_that_nobody_joins() {
    check(&expect![[r#"
        a calls b silent max=600s
            = ringing: a=connecting b=invited
        wait 600s
          at 600s
            #1 ended missed/no_answer by nobody, never connected -> a b
            = missed/no_answer: a=left b=invited
    "#]]);
}

#[test]
fn a_call_that_rings_nobody_is_cancelled_by_its_initiator() {
    check(&expect![[r#"
        a calls b silent
            = ringing: a=connecting b=invited
        a ends
            #1 cancelled by a -> a b
            #2 ended cancelled/cancelled by a, never connected -> a b
            = cancelled/cancelled: a=left b=invited
    "#]]);
}
