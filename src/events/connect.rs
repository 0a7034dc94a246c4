//! Who a socket belongs to, and for how long.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::app::error::{AppError, Code};
use crate::auth::{Identity, Unauthorized};
use crate::call::id::{DeviceId, InvalidId};
use crate::call::time::Timestamp;
use crate::config::rates::Rule;
use crate::events::{Events, Session};
use crate::limits::{Key, RateLimited};
use crate::socketio::handler::{ConnectRequest, Refused, Socket};
use crate::socketio::packet::MAIN_NAMESPACE;
use crate::wire::fields::Malformed;

/// How long a socket outlives its token, unless the client refreshes it (contract, section 3).
const AFTER_EXPIRY: Duration = Duration::from_secs(25);

/// What a client says of itself on CONNECT.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Auth<'a> {
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    device_id: Option<Cow<'a, str>>,
}

fn refused(message: impl Into<Cow<'static, str>>, code: &str) -> Refused {
    let data = to_raw_value(&serde_json::json!({ "code": code })).ok();
    Refused { message: message.into(), data }
}

impl Events {
    /// Lets a client in whose token holds, where its user has a socket to spare.
    pub(super) fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Session, Refused> {
        if request.namespace != MAIN_NAMESPACE {
            return Err(Refused::invalid_namespace());
        }
        let auth = read_auth(request.auth)?;
        let address = Key::address(request.handshake.remote.ip());
        let limited = |it: RateLimited| refused(it.to_string(), RATE_LIMITED);
        self.app.rates.check(Rule::HandshakeAddress, address.clone()).map_err(limited)?;
        let token = auth.token.or_else(|| request.handshake.query("token"));
        let verified = self.verify(token.as_deref().unwrap_or_default());
        let who =
            verified.map_err(|why| match self.app.rates.check(Rule::FailedAuth, address) {
                Ok(()) => refused(why.to_string(), Code::Unauthorized.as_str()),
                Err(it) => limited(it),
            })?;
        self.app.rates.check(Rule::HandshakeUser, Key::User(who.user.clone())).map_err(limited)?;
        let device = auth.device_id.map(|it| {
            let wrong = |why: InvalidId| Malformed::new("auth.deviceId", &it, why.to_string());
            DeviceId::parse(&it).map_err(wrong)
        });
        let device = device.transpose();
        let device = device.map_err(|it| refused(it.to_string(), Code::InvalidRequest.as_str()))?;
        self.app.admit(&who).map_err(|it| refused(it.to_string(), "too_many_sockets"))?;
        let expiry = self.app.expire(request.outlet, who.expires_at.plus(AFTER_EXPIRY));
        Ok(Session {
            user: who.user,
            device,
            number: self.sockets.fetch_add(1, Ordering::Relaxed),
            expiry: Mutex::new(expiry),
        })
    }

    fn verify(&self, token: &str) -> Result<Identity, Unauthorized> {
        self.verifier.verify_once(token, self.app.clock.wall())
    }

    /// A newer token for the same user keeps the socket.
    pub(super) fn refresh(&self, socket: &Socket<Session>, token: &str) -> Result<(), AppError> {
        let who = self.verify(token)?;
        let session = socket.session();
        if who.user != session.user {
            return Err(Unauthorized::Invalid.into());
        }
        let mut expiry = session.expiry.lock();
        let until: Timestamp = who.expires_at.plus(AFTER_EXPIRY);
        self.app.call_off(*expiry);
        *expiry = self.app.expire(socket.outlet(), until);
        Ok(())
    }
}

const RATE_LIMITED: &str = "rate_limited";

fn read_auth(auth: Option<&RawValue>) -> Result<Auth<'_>, Refused> {
    let Some(auth) = auth else { return Ok(Auth::default()) };
    serde_json::from_str(auth.get()).map_err(|error| {
        tracing::debug!(%error, "an auth payload that is none");
        let message = "auth: expected an object {token, deviceId} of texts";
        refused(message, Code::InvalidRequest.as_str())
    })
}
