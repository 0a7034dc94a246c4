//! Who goes, who stays, and what the call ends with.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn a_call_of_two_ends_when_one_leaves() {
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
        wait 10s
        b ends
            #7 left b (left) -> a b
            #8 ended ended/normal by b, 10s -> a b
            = ended/normal: a=left b=left
    "#]]);
}

#[test]
fn the_initiator_ends_for_all() {
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
        wait 10s
        a ends
            #10 ended ended/normal by a, 10s -> a b c
            = ended/normal: a=left b=left c=left
    "#]]);
}

#[test]
fn who_left_hears_the_own_leave_and_the_end_only() {
    check(&expect![[r#"
        a calls b c d
            #1 incoming until 60s (of a b c d) -> b c d
            = ringing: a=connecting b=invited c=invited d=invited
        b joins
            #2 accepted b -> a b c d
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b c d
            #5 state connecting -> a b c d
            #6 state connected -> a b c d
            = connected: a=connected b=connected c=invited d=invited
        c joins
            #7 accepted c -> a b c d
            #8 handled_elsewhere c -> c
            #9 joined c=connected+mic -> a b c d
            = connected: a=connected b=connected c=connected d=invited
        b ends
            #10 left b (left) -> a b c d
            = connected: a=connected b=left c=connected d=invited
        c sets mic=off
            #11 updated c=connected -> a c d
        d declines
            #12 declined d -> a c d
            = connected: a=connected b=left c=connected d=declined
        c rated poor
            #13 quality c poor (was none) -> a c
        a ends
            #14 ended ended/normal by a, 0s -> a b c
            = ended/normal: a=left b=left c=left d=declined
    "#]]);
}

#[test]
fn who_left_may_join_again() {
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
        wait 10s
        b ends
            #10 left b (left) -> a b c
            = connected: a=connected b=left c=connected
        wait 20s
        b joins cam=on on=b1
            #11 joined b=connected+mic+cam -> a b c
            = connected: a=connected b=connected c=connected
        wait 10s
        a ends
            #12 ended ended/normal by a, 40s -> a b c
            = ended/normal: a=left b=left c=left
    "#]]);
}

#[test]
fn one_left_alone_in_a_group_waits_for_company() {
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
        wait 10s
        b ends
            #8 left b (left) -> a b
            #9 state reconnecting -> a
            = reconnecting: a=connected b=left c=declined
        wait 59s
        wait 1s
          at 70s
            #10 ended ended/normal by nobody, 70s -> a b
            = ended/normal: a=left b=left c=declined
    "#]]);
}

#[test]
fn nobody_is_alone_while_somebody_is_rung() {
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
        wait 10s
        b ends
            #7 left b (left) -> a b c
            #8 state reconnecting -> a c
            = reconnecting: a=connected b=left c=invited
        wait 50s
          at 60s
            #9 updated c=missed+mic -> a c
            = reconnecting: a=connected b=left c=missed
        wait 59s
        wait 1s
          at 120s
            #10 ended ended/normal by nobody, 120s -> a b c
            = ended/normal: a=left b=left c=missed
    "#]]);
}

#[test]
fn being_alone_begins_anew_after_company_or_an_invitation() {
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
        wait 50s
        b joins
            #10 joined b=connected+mic -> a b
            #11 state connected -> a b
            = connected: a=connected b=connected c=declined
        b ends
            #12 left b (left) -> a b
            #13 state reconnecting -> a
            = reconnecting: a=connected b=left c=declined
        wait 50s
        a invites d
            #14 incoming until 160s (of a b c d) -> d
            #15 updated d=invited+mic -> a
            = reconnecting: a=connected b=left c=declined d=invited
        wait 50s
        d declines
            #16 declined d -> a d
            = reconnecting: a=connected b=left c=declined d=declined
        wait 59s
        wait 1s
          at 210s
            #17 ended ended/normal by nobody, 210s -> a b
            = ended/normal: a=left b=left c=declined d=declined
    "#]]);
}

#[test]
fn the_last_one_leaves_while_another_is_rung() {
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
        a sockets gone
            #7 updated a=reconnecting+mic -> a b c
            #8 state reconnecting -> a b c
            = reconnecting: a=reconnecting b=connected c=invited
        wait 30s
          at 30s
            #9 left a (network_error) -> a b c
            = reconnecting: a=left b=connected c=invited
        b ends
            #10 left b (left) -> b c
            #11 ended ended/normal by b, 30s -> a b c
            = ended/normal: a=left b=left c=missed
    "#]]);
}

#[test]
fn the_initiator_lost_from_a_group_is_called_back() {
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
        a sockets gone
            #10 updated a=reconnecting+mic -> a b c
            = connected: a=reconnecting b=connected c=connected
        wait 30s
          at 30s
            #11 left a (network_error) -> a b c
            = connected: a=left b=connected c=connected
        a removes b
            refused: you may not do this in this call
        a ends
            nothing
        b invites a d
            #12 incoming until 90s (of a b c d) -> a d
            #13 updated a=invited+mic+leftAt -> b c
            #14 updated d=invited+mic -> b c
            = connected: a=invited b=connected c=connected d=invited
        d rings
            #15 ringing d -> a
            = connected: a=invited b=connected c=connected d=ringing
        a declines
            #16 declined a -> a b c d
            = connected: a=declined b=connected c=connected d=ringing
        d joins
            #17 accepted d -> b c d
            #18 handled_elsewhere d -> d
            #19 joined d=connected+mic -> b c d
            = connected: a=declined b=connected c=connected d=connected
    "#]]);
}

#[test]
fn ringing_is_not_told_to_an_initiator_who_is_gone() {
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
        a sockets gone
            #10 updated a=reconnecting+mic -> a b c
            = connected: a=reconnecting b=connected c=connected
        wait 30s
          at 30s
            #11 left a (network_error) -> a b c
            = connected: a=left b=connected c=connected
        b invites d
            #12 incoming until 90s (of a b c d) -> d
            #13 updated d=invited+mic -> b c
            = connected: a=left b=connected c=connected d=invited
        d rings
            = connected: a=left b=connected c=connected d=ringing
    "#]]);
}
