//! Nothing follows an end.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn the_service_gives_up() {
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
        abort
            #7 ended failed/failed by nobody, 0s -> a b
            = failed/failed: a=left b=left
        abort
            refused: the call is over
    "#]]);
}

#[test]
fn nothing_happens_after_the_end() {
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
        wait 5s
        a ends
            #7 ended ended/normal by a, 5s -> a b c
            = ended/normal: a=left b=left c=missed
        b joins
            refused: the call is over
        b rings
            nothing
        b declines
            nothing
        c ends
            nothing
        a ends
            nothing
        a invites d
            refused: the call is over
        a removes b
            refused: the call is over
        b sets mic=off
            refused: the call is over
        b media up
            refused: the call is over
        b media down
            refused: the call is over
        b sockets gone
            refused: the call is over
        b sockets back
            refused: the call is over
        b rated poor
            refused: the call is over
        checked a b
            nothing
        tick
            nothing
        x joins
            refused: you are not invited to this call
        x ends
            refused: you may not do this in this call
        wait 90000s
    "#]]);
}
