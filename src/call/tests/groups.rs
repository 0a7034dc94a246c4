//! Calls of more than two: who is left to answer, late joins, who is removed.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn all_decline() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        b declines
            #2 declined b -> a b c
            = ringing: a=connecting b=declined c=invited
        c declines
            #3 declined c -> a c
            #4 ended declined/declined by c, never connected -> a
            = declined/declined: a=left b=declined c=declined
    "#]]);
}

#[test]
fn some_miss_and_the_rest_decline() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        b declines
            #2 declined b -> a b c
            = ringing: a=connecting b=declined c=invited
        wait 60s
          at 60s
            #3 updated c=missed+mic -> a c
            #4 ended missed/no_answer by nobody, never connected -> a c
            = missed/no_answer: a=left b=declined c=missed
    "#]]);
}

#[test]
fn some_decline_after_others_missed() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        b ends
            #2 declined b -> a b c
            = ringing: a=connecting b=declined c=invited
        wait 59s
        c rings
            #3 ringing c -> a
            = ringing: a=connecting b=declined c=ringing
        wait 1s
          at 60s
            #4 updated c=missed+mic -> a c
            #5 ended missed/no_answer by nobody, never connected -> a c
            = missed/no_answer: a=left b=declined c=missed
    "#]]);
}

#[test]
fn all_are_busy() {
    check(&expect![[r#"
        a calls b busy=b
            unavailable: b Busy
            #1 ended busy/busy by nobody, never connected -> a b
            = busy/busy: a=left b=busy
    "#]]);
}

#[test]
fn one_is_busy_and_is_not_rung() {
    check(&expect![[r#"
        a calls b c busy=c
            unavailable: c Busy
            #1 incoming until 60s (of a b c) -> b
            = ringing: a=connecting b=invited c=busy
        b joins on=b1
            #2 accepted b -> a b c
            #3 handled_elsewhere b -> b, not on b1
            #4 joined b=connecting+mic -> a b c
            #5 state connecting -> a b c
            #6 state connected -> a b c
            = connected: a=connected b=connected c=busy
        c joins
            #7 accepted c -> a b c
            #8 joined c=connected+mic -> a b c
            = connected: a=connected b=connected c=connected
    "#]]);
}

#[test]
fn one_is_busy_and_the_other_declines() {
    check(&expect![[r#"
        a calls b c busy=c
            unavailable: c Busy
            #1 incoming until 60s (of a b c) -> b
            = ringing: a=connecting b=invited c=busy
        b declines
            #2 declined b -> a b c
            #3 ended missed/no_answer by b, never connected -> a c
            = missed/no_answer: a=left b=declined c=busy
    "#]]);
}

#[test]
fn who_declined_or_missed_may_join_late() {
    check(&expect![[r#"
        a calls b c d
            #1 incoming until 60s (of a b c d) -> b c d
            = ringing: a=connecting b=invited c=invited d=invited
        b joins on=b1
            #2 accepted b -> a b c d
            #3 handled_elsewhere b -> b, not on b1
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
        c joins on=c1
            #9 accepted c -> a b c d
            #10 joined c=connected+mic -> a b c d
            = connected: a=connected b=connected c=connected d=missed
        d joins on=d1
            #11 accepted d -> a b c d
            #12 joined d=connected+mic -> a b c d
            = connected: a=connected b=connected c=connected d=connected
        b ends
            #13 left b (left) -> a b c d
            = connected: a=connected b=left c=connected d=connected
    "#]]);
}

#[test]
fn a_late_join_before_any_answer_answers_the_call() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        b declines
            #2 declined b -> a b c
            = ringing: a=connecting b=declined c=invited
        b joins
            #3 accepted b -> a b c
            #4 joined b=connecting+mic -> a b c
            #5 state connecting -> a b c
            #6 state connected -> a b c
            = connected: a=connected b=connected c=invited
    "#]]);
}

#[test]
fn a_removed_user_makes_room_and_stays_out() {
    check(&expect![[r#"
        a calls b c cap=3
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
        a removes b
            #10 left b (removed) -> a b c
            = connected: a=connected b=removed c=connected
        a invites d
            #11 incoming until 60s (of a b c d) -> d
            #12 updated d=invited+mic -> a c
            = connected: a=connected b=removed c=connected d=invited
        b joins
            refused: you were removed from this call
        b ends
            nothing
        b declines
            nothing
        b sets mic=off
            refused: you may not do this in this call
        d joins
            #13 accepted d -> a c d
            #14 handled_elsewhere d -> d
            #15 joined d=connected+mic -> a c d
            = connected: a=connected b=removed c=connected d=connected
        a ends
            #16 ended ended/normal by a, 0s -> a c d
            = ended/normal: a=left b=removed c=left d=left
    "#]]);
}

#[test]
fn who_is_removed_while_ringing() {
    check(&expect![[r#"
        a calls b c
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        a removes b
            #2 left b (removed) -> a b c
            = ringing: a=connecting b=removed c=invited
        b joins
            refused: you were removed from this call
        a removes c
            #3 left c (removed) -> a c
            #4 ended cancelled/cancelled by a, never connected -> a
            = cancelled/cancelled: a=left b=removed c=removed
    "#]]);
}

#[test]
fn removing_ends_a_call_of_two() {
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
        a removes b
            #7 left b (removed) -> a b
            #8 ended ended/normal by a, 0s -> a
            = ended/normal: a=left b=removed
    "#]]);
}

#[test]
fn who_may_remove_whom() {
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
        b removes c
            refused: you may not do this in this call
        a removes a
            refused: userId: the initiator can't be removed; end the call instead
        a removes x
            refused: userId: this user is not in the call
        a removes c
            #7 left c (removed) -> a b c
            = connected: a=connected b=connected c=removed
        a removes c
            nothing
        c rated poor
            refused: you may not do this in this call
    "#]]);
}
