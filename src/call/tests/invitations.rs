//! Who is called into a live call, who is called again, and the cap.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn a_call_of_two_becomes_a_group_for_good() {
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
        b invites c
            #7 incoming until 60s (of a b c) -> c
            #8 updated c=invited+mic -> a b
            = connected: a=connected b=connected c=invited
        c declines
            #9 declined c -> a b c
            = connected: a=connected b=connected c=declined
        b ends
            #10 left b (left) -> a b
            #11 state reconnecting -> a
            = reconnecting: a=connected b=left c=declined
        wait 59s
        b joins
            #12 joined b=connected+mic -> a b
            #13 state connected -> a b
            = connected: a=connected b=connected c=declined
        wait 60s
    "#]]);
}

#[test]
fn who_missed_or_declined_is_rung_again() {
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
        c declines
            #7 declined c -> a b c d
            = connected: a=connected b=connected c=declined d=invited
        wait 60s
          at 60s
            #8 updated d=missed+mic -> a b d
            = connected: a=connected b=connected c=declined d=missed
        a invites c d
            #9 incoming until 120s (of a b c d) -> c d
            #10 updated c=invited+mic -> a b
            #11 updated d=invited+mic -> a b
            = connected: a=connected b=connected c=invited d=invited
        c rings
            #12 ringing c -> a
            = connected: a=connected b=connected c=ringing d=invited
        d joins on=d2
            #13 accepted d -> a b c d
            #14 handled_elsewhere d -> d, not on d2
            #15 joined d=connected+mic -> a b c d
            = connected: a=connected b=connected c=ringing d=connected
        c declines
            #16 declined c -> a b c d
            = connected: a=connected b=connected c=declined d=connected
        c joins
            #17 accepted c -> a b c d
            #18 joined c=connected+mic -> a b c d
            = connected: a=connected b=connected c=connected d=connected
    "#]]);
}

#[test]
fn who_left_is_called_back() {
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
        b ends
            #10 left b (left) -> a b c
            = connected: a=connected b=left c=connected
        c invites b
            #11 incoming until 60s (of a b c) -> b
            #12 updated b=invited+mic+leftAt -> a c
            = connected: a=connected b=invited c=connected
        b rings
            #13 ringing b -> a
            = connected: a=connected b=ringing c=connected
        b joins on=b1
            #14 handled_elsewhere b -> b, not on b1
            #15 joined b=connected+mic -> a b c
            = connected: a=connected b=connected c=connected
    "#]]);
}

#[test]
fn ringing_again_before_any_answer() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        b declines
            #2 declined b -> a b c
            = ringing: a=connecting b=declined c=invited
        wait 30s
        a invites b
            #3 incoming until 90s (of a b c) -> b
            #4 updated b=invited+mic -> a c
            = ringing: a=connecting b=invited c=invited
        wait 30s
          at 60s
            #5 updated c=missed+mic -> a b c
            = ringing: a=connecting b=invited c=missed
        wait 30s
          at 90s
            #6 updated b=missed+mic -> a b c
            #7 ended missed/no_answer by nobody, never connected -> a b c
            = missed/no_answer: a=left b=missed c=missed
    "#]]);
}

#[test]
fn invitations_that_ring_nobody() {
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
        a invites a b c
            nothing
        a invites d busy=d
            unavailable: d Busy
            #7 updated d=busy+mic -> a b c
            = connected: a=connected b=connected c=invited d=busy
        x invites e
            refused: you may not do this in this call
        c invites e
            refused: you may not do this in this call
        a removes d
            #8 left d (removed) -> a b c d
            = connected: a=connected b=connected c=invited d=removed
        a invites d
            unavailable: d Removed
    "#]]);
}

#[test]
fn one_name_twice_rings_once() {
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
        a invites c c
            #7 incoming until 60s (of a b c) -> c
            #8 updated c=invited+mic -> a b
            = connected: a=connected b=connected c=invited
    "#]]);
}

#[test]
fn the_cap_counts_joined_and_rung() {
    check(&expect![[r#"
        a calls b c cap=3
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        a invites d
            refused: the call is full: at most 3 participants
        b declines
            #2 declined b -> a b c
            = ringing: a=connecting b=declined c=invited
        a invites d
            #3 incoming until 60s (of a b c d) -> d
            #4 updated d=invited+mic -> a c
            = ringing: a=connecting b=declined c=invited d=invited
        b joins
            refused: the call is full: at most 3 participants
        c joins
            #5 accepted c -> a c d
            #6 handled_elsewhere c -> c
            #7 joined c=connecting+mic -> a c d
            #8 state connecting -> a c d
            #9 state connected -> a c d
            = connected: a=connected b=declined c=connected d=invited
        wait 60s
          at 60s
            #10 updated d=missed+mic -> a c d
            = connected: a=connected b=declined c=connected d=missed
        b joins
            #11 accepted b -> a b c d
            #12 joined b=connected+mic -> a b c d
            = connected: a=connected b=connected c=connected d=missed
        a invites d
            refused: the call is full: at most 3 participants
    "#]]);
}

#[test]
fn invitations_are_taken_in_all_or_none() {
    check(&expect![[r#"
        a calls b cap=3
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b joins
            #2 accepted b -> a b
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b
            #5 state connecting -> a b
            #6 state connected -> a b
            = connected: a=connected b=connected
        a invites c d
            refused: the call is full: at most 3 participants
        a invites c
            #7 incoming until 60s (of a b c) -> c
            #8 updated c=invited+mic -> a b
            = connected: a=connected b=connected c=invited
    "#]]);
}
