//! What an event gets back: its acknowledgement, or `call:error` where it asked for none.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::error::AppError;
use crate::events::{Answer, Answering, ask};
use crate::socketio::handler::Event;
use crate::socketio::outlet::{Ack, Outlet};

/// Where the answer to one event goes.
pub(super) enum ReplyTo {
    /// The client waits for it.
    Ack(Ack),
    /// The client hears of failures alone.
    Errors(Box<Errors>),
}

/// What `call:error` says of the event.
pub(super) struct Errors {
    outlet: Outlet,
    event: Box<str>,
    call: Option<Box<str>>,
}

#[derive(Serialize)]
struct Done<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Failed<'a> {
    success: bool,
    error: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallError<'a> {
    error: &'a str,
    code: &'static str,
    event: &'a str,
    call_id: Option<&'a str>,
}

impl ReplyTo {
    pub(super) fn new(outlet: &Outlet, event: &Event<'_>, ack: Option<Ack>) -> Self {
        let errors = || {
            let call = ask::call_of(event).map(Box::from);
            Self::Errors(Box::new(Errors {
                outlet: outlet.clone(),
                event: event.name.into(),
                call,
            }))
        };
        ack.map_or_else(errors, Self::Ack)
    }

    /// Begins at once, so that what this event changes comes before what the next one does; goes on
    /// in a task of its own where the answer has to wait.
    pub(super) fn when(self, mut answering: Answering) {
        match step(&mut answering, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => self.send(answer),
            Poll::Pending => {
                drop(tokio::spawn(async move {
                    self.send(poll_fn(|context| step(&mut answering, context)).await);
                }));
            }
        }
    }

    pub(super) fn send(self, answer: Answer) {
        match (self, answer) {
            (Self::Ack(ack), Ok(data)) => {
                ack.send(&text(&Done { success: true, data: data.as_deref() }));
            }
            (Self::Errors(_), Ok(_)) => {}
            (Self::Ack(ack), Err(error)) => {
                error.log();
                let (message, data) = (error.public_message(), error.data());
                let (code, data) = (error.code().as_str(), data.as_deref());
                ack.send(&text(&Failed { success: false, error: &message, code, data }));
            }
            (Self::Errors(of), Err(error)) => {
                error.log();
                let (message, code) = (error.public_message(), error.code().as_str());
                let (event, call_id) = (&*of.event, of.call.as_deref());
                let error = text(&CallError { error: &message, code, event, call_id });
                of.outlet.send_event("call:error", |out| out.extend_from_slice(error.as_bytes()));
            }
        }
    }
}

/// A fault costs the event its answer, and nobody anything else.
fn step(answering: &mut Answering, context: &mut Context<'_>) -> Poll<Answer> {
    let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context)));
    polled.unwrap_or(Poll::Ready(Err(AppError::Internal)))
}

fn text(value: &impl Serialize) -> String {
    // Structs of strings and booleans always serialise.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::Device;
    use crate::call::command::Refusal;

    const FAILED: &str = r#"431[{"success":false,"error":"internal error","code":"internal"}]"#;

    /// What the client gets for `answering`, with an ack 1 or without.
    async fn check(answering: Answering, acked: &str, unasked: Option<&str>) {
        let device = Device::outside("anna");
        let outlet = device.outlet.clone();
        let reply_to = if unasked.is_none() {
            ReplyTo::Ack(Ack::new(outlet, 1))
        } else {
            let (event, call) = ("call:end".into(), Some("c".into()));
            ReplyTo::Errors(Box::new(Errors { outlet, event, call }))
        };
        reply_to.when(answering);
        // The answer's task runs before this one is looked at again.
        tokio::task::yield_now().await;
        assert_eq!(device.packets(), [unasked.unwrap_or(acked)]);
    }

    fn at_once(answer: Answer) -> Answering {
        Box::pin(std::future::ready(answer))
    }

    #[tokio::test]
    async fn success_and_failure() {
        check(at_once(Ok(None)), r#"431[{"success":true}]"#, None).await;
        let data = RawValue::from_string("[7]".to_owned()).unwrap();
        check(at_once(Ok(Some(data))), r#"431[{"success":true,"data":[7]}]"#, None).await;
        check(at_once(Ok(None)), "", Some("")).await;
        let over = || at_once(Err(Refusal::Over.into()));
        let failed = r#"431[{"success":false,"error":"the call is over","code":"call_over"}]"#;
        check(over(), failed, None).await;
        let error = r#"42["call:error",{"error":"the call is over","code":"call_over","event":"call:end","callId":"c"}]"#;
        check(over(), "", Some(error)).await;
    }

    #[tokio::test]
    async fn a_fault_is_an_answer_too() {
        check(Box::pin(async { panic!("at once") }), FAILED, None).await;
        let later = || -> Answering {
            Box::pin(async {
                tokio::task::yield_now().await;
                panic!("later")
            })
        };
        check(later(), FAILED, None).await;
    }
}
