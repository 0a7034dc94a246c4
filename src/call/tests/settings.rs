//! What participants send, and how good their connection is.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn settings() {
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
        b sets mic=off cam=on
            #7 updated b=connected+cam -> a b c
        b sets mic=off cam=on
            nothing
        a sets screen=on
            #8 updated a=connected+mic+screen -> a b c
        c sets mic=off
            refused: you may not do this in this call
    "#]]);
}

#[test]
fn a_shared_screen_is_gone_with_its_owner() {
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
        b sets screen=on mic=off
            #7 updated b=connected+screen -> a b c
        b ends
            #8 left b (left) -> a b c
            #9 state reconnecting -> a c
            = reconnecting: a=connected b=left c=invited
        b joins
            #10 joined b=connected+mic -> a b c
            #11 state connected -> a b c
            = connected: a=connected b=connected c=invited
    "#]]);
}

#[test]
fn quality() {
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
        b rated excellent
            #7 quality b excellent (was none) -> a b
        b rated excellent
            nothing
        b rated poor
            #8 quality b poor (was excellent) -> a b
        c rated good
            refused: you may not do this in this call
        a rated good
            #9 quality a good (was none) -> a b
    "#]]);
}
