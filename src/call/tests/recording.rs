//! Recordings, what the initiator turns off, and credentials that are renewed.

use expect_test::expect;

use crate::call::tests::script::check;

#[test]
fn one_recording_at_a_time_by_the_initiator() {
    check(&expect![[r#"
        a calls b livekit
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        b records
            refused: you may not do this in this call
        a records
            #2 recording started by a -> a b
            note recording e
        a records
            refused: this call is being recorded already
        b joins
            #3 accepted b -> a b
            #4 handled_elsewhere b -> b
            #5 joined b=connecting+mic -> a b
            #6 state connecting -> a b
            = connecting: a=connecting b=connecting
        b stops
            refused: you may not do this in this call
        a stops
            #7 recording stopped by a -> a b
            stop recording e
        a stops
            refused: this call is not being recorded
    "#]]);
}

#[test]
fn no_recording_outlives_its_call() {
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
        a records
            #6 recording started by a -> a b
            note recording e
        b ends
            #7 left b (left) -> a b
            who is in the room?
            #8 recording stopped by nobody -> a
            stop recording e
            #9 ended ended/normal by b, never connected -> a b
            = ended/normal: a=left b=left
        a records
            refused: the call is over
    "#]]);
}

#[test]
fn nobody_is_left_to_stop_a_recording() {
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
        c joins
            #6 accepted c -> a b c
            #7 handled_elsewhere c -> c
            #8 joined c=connecting+mic -> a b c
            = connecting: a=connecting b=connecting c=connecting
        a records
            #9 recording started by a -> a b c
            note recording e
        a sockets gone
            #10 updated a=reconnecting+mic -> a b c
            = connecting: a=reconnecting b=connecting c=connecting
        wait 30s
          at 30s
            #11 recording stopped by nobody -> b c
            stop recording e
            #12 left a (network_error) -> a b c
            who is in the room?
            who is in the room?
            = connecting: a=left b=connecting c=connecting
        b records
            refused: you may not do this in this call
    "#]]);
}

#[test]
fn a_recording_that_ends_by_itself() {
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
        recording over
            nothing
        a records
            #6 recording started by a -> a b
            note recording e
        recording over url=u
            #7 recording stopped by nobody -> a b
            noted
        recording over url=u
            nothing
        a records
            #8 recording started by a -> a b
            note recording e
        a ends
            #9 recording stopped by nobody -> a b
            stop recording e
            #10 ended ended/normal by a, never connected -> a b
            = ended/normal: a=left b=left
        recording over url=v
            nothing
    "#]]);
}

#[test]
fn the_initiator_turns_others_off() {
    check(&expect![[r#"
        a calls b c livekit
            #1 incoming until 60s (of a b c) -> b c
            = ringing: a=connecting b=invited c=invited
        a mutes b mic=off
            refused: userId: this user is not in the call
        b joins
            #2 accepted b -> a b c
            #3 handled_elsewhere b -> b
            #4 joined b=connecting+mic -> a b c
            #5 state connecting -> a b c
            = connecting: a=connecting b=connecting c=invited
        a mutes b mic=off
            who is in the room?
            #6 updated b=connecting -> a b c
        a mutes b mic=off
            who is in the room?
        b mutes a mic=off
            refused: you may not do this in this call
        a mutes x mic=off
            refused: userId: this user is not in the call
        b muted mic=off
        b muted mic=off
            nothing
        a mutes b mic=off cam=off
            who is in the room?
        b sets mic=on
            #7 updated b=connecting+mic -> a b c
        b muted mic=off cam=off
            nothing
        b muted cam=off
    "#]]);
}

#[test]
fn credentials_are_renewed_for_those_who_are_in() {
    check(&expect![[r#"
        a calls b ice=40s
            #1 incoming until 60s (of a b) -> b
            = ringing: a=connecting b=invited
        wait 50s
          at 40s
            #2 ice servers -> a
        b joins
            #3 accepted b -> a b
            #4 handled_elsewhere b -> b
            #5 joined b=connecting+mic -> a b
            #6 state connecting -> a b
            #7 state connected -> a b
            = connected: a=connected b=connected
        wait 60s
          at 80s
            #8 ice servers -> a b
        a ends
            #9 ended ended/normal by a, 60s -> a b
            = ended/normal: a=left b=left
    "#]]);
}

#[test]
fn an_audio_call_lets_a_camera_in_only_where_one_says_so() {
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
        b sets cam=on
            who is in the room?
            #6 updated b=connecting+mic+cam -> a b
        b sets mic=off
            #7 updated b=connecting+cam -> a b
        b sets cam=off
            who is in the room?
            #8 updated b=connecting -> a b
        b sets cam=on
            who is in the room?
            #9 updated b=connecting+cam -> a b
        b sends cam=off
            #10 updated b=connecting -> a b
        b sends cam=on
            #11 updated b=connecting+cam -> a b
        b sends cam=on
            nothing
        b sets cam=off
            who is in the room?
            #12 updated b=connecting -> a b
    "#]]);
}
