//! Whole lives of calls: started by one, joined by another who hears all of it, ended; or not ended, to have many.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::figures::Tally;
use crate::http::{Line, Pace, fail, request};
use crate::people::{token, user};
use crate::sockets::{Socket, authenticated, next};
use crate::{Failure, On};

pub(crate) async fn run(on: On, clients: usize) -> Result<Value, Failure> {
    let (tally, local) = (Tally::default(), LocalSet::new());
    let (pace, on) = (Pace::new(on.span.rate), Rc::new(on));
    for number in 0..clients {
        let [a, b] = [user(2 * number), user(2 * number + 1)];
        let socket = authenticated(&on, &b).await?;
        let line = Line::open(&on.address).await?;
        let (hears, tallies, on) = (tally.clone(), tally.clone(), Rc::clone(&on));
        local.spawn_local(async move {
            listen(socket, &hears).await.unwrap_or_else(|error| fail(&error));
        });
        let pace = pace.clone();
        local.spawn_local(async move {
            let lived = live(line, &on, (&a, &b), (&tallies, &pace)).await;
            lived.unwrap_or_else(|error| fail(&error));
        });
    }
    local.run_until(tally.measure(&[on.pid], &on.span)).await
}

/// Whoever is in the calls that are left: nobody that the other commands know.
const FILLERS_FROM: usize = 1_000_000;

/// Makes so many calls, all of them joined: how long that took.
pub(crate) async fn fill(on: On, calls: usize, clients: usize) -> Result<Value, Failure> {
    let began = Instant::now();
    let (on, next, local) = (Rc::new(on), Rc::new(Cell::new(0)), LocalSet::new());
    for _ in 0..clients {
        let (on, next) = (Rc::clone(&on), Rc::clone(&next));
        let mut line = Line::open(&on.address).await?;
        local.spawn_local(async move {
            while next.get() < calls {
                let number = FILLERS_FROM + 2 * next.replace(next.get() + 1);
                let pair = (user(number), user(number + 1));
                make(&mut line, &on, (&pair.0, &pair.1)).await.unwrap_or_else(|it| fail(&it));
            }
        });
    }
    local.await;
    Ok(json!({ "calls": calls, "seconds": began.elapsed().as_secs_f64() }))
}

/// A call that both are in.
async fn make(line: &mut Line, on: &On, (a, b): (&str, &str)) -> Result<(), Failure> {
    let body = json!({ "type": "audio", "participantIds": [b] }).to_string();
    let start = request("POST", "/api/v1/calls/start", &token(&on.secret, a)?, &body);
    let answer = line.ask(&start).await?;
    let id = call_id(answer.body).ok_or_else(|| String::from_utf8_lossy(answer.body))?;
    let path = format!("/api/v1/calls/{id}/join");
    let answer = line.ask(&request("POST", &path, &token(&on.secret, b)?, "")).await?;
    if answer.status == 200 { Ok(()) } else { Err(String::from_utf8_lossy(answer.body).into()) }
}

async fn listen(mut socket: Socket, tally: &Tally) -> Result<(), Failure> {
    loop {
        if next(&mut socket).await?.starts_with("42[\"call:") {
            tally.heard();
        }
    }
}

async fn live(
    mut line: Line,
    on: &On,
    (a, b): (&str, &str),
    (tally, pace): (&Tally, &Pace),
) -> Result<(), Failure> {
    let tokens = [token(&on.secret, a)?, token(&on.secret, b)?];
    let [of_a, of_b] = &tokens;
    let body = json!({ "type": "audio", "participantIds": [b] }).to_string();
    let start = request("POST", "/api/v1/calls/start", of_a, &body);
    while !tally.is_over() {
        let since = pace.next().await;
        let answer = line.ask(&start).await?;
        tally.stepped(since);
        let id = call_id(answer.body).ok_or_else(|| String::from_utf8_lossy(answer.body))?;
        for (what, token) in [("join", of_b), ("end", of_a)] {
            let path = format!("/api/v1/calls/{id}/{what}");
            let answer = line.ask(&request("POST", &path, token, "")).await?;
            if answer.status != 200 {
                return Err(String::from_utf8_lossy(answer.body).into());
            }
        }
        tally.done(since);
    }
    Ok(())
}

/// The first id in the answer to a start is the call's.
fn call_id(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("\"id\":\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}
