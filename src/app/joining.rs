//! Joining a call that is here: among many nodes, once the user's place in it is claimed.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::App;
use crate::app::calls::Intent;
use crate::app::cluster::{Cluster, Withdrawing};
use crate::app::effects::json;
use crate::app::error::AppError;
use crate::call::command::Command;
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::model::Call;
use crate::call::participant::Settings;
use crate::call::pass::Pass;
use crate::call::record::CallFacts;
use crate::call::state::ConnectionState;
use crate::media::Ticket;
use crate::media::ice::IceServer;
use crate::store::journal::Durable;
use crate::wire::reply::CallDetails;

/// One who has joined.
pub(super) struct Joined {
    facts: CallFacts,
    pass: Option<Pass>,
    durable: Durable,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JoinedView<'a> {
    #[serde(flatten)]
    details: CallDetails<'a>,
    token: Ticket,
    ice_servers: Vec<IceServer>,
}

impl App {
    pub(super) async fn join_here(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
        settings: Settings,
        device: Option<DeviceId>,
    ) -> Result<Box<RawValue>, AppError> {
        let Some(cluster) = self.cluster() else {
            let let_in = || self.let_in(id, user, settings, device);
            return self.answer_joining(id, user, self.admission.decide([user], let_in)).await;
        };
        // Whatever becomes of it, also where nobody waits for it any more, nothing claimed stays without need.
        let _withdrawing = Withdrawing(cluster, id);
        // Until Redis has heard that the user is in, nobody is told the reverse there.
        let _letting_in = cluster.deciding.let_in(id, user).await;
        let joined = Box::pin(self.let_in_claimed(cluster, id, user, (settings, device))).await;
        self.answer_joining(id, user, joined).await
    }

    async fn answer_joining(
        &self,
        id: CallId,
        user: &UserId,
        joined: Result<Joined, AppError>,
    ) -> Result<Box<RawValue>, AppError> {
        let joined = self.or_past(joined, id, user, Intent::Join).await?;
        self.joined(user, joined).await
    }

    /// Takes `user` in where no other node can at the same time.
    async fn let_in_claimed(
        self: &Arc<Self>,
        cluster: &Cluster,
        id: CallId,
        user: &UserId,
        (settings, device): (Settings, Option<DeviceId>),
    ) -> Result<Joined, AppError> {
        let _expecting = self.expect(cluster, [user]);
        let joined = self.calls.read(id, |call| call.is_joined(user));
        // Who may not join is told so by the call, whatever else the user is in.
        if joined == Some(false) && self.is_invited(id, user) {
            self.claim(cluster, user, id, None).await?;
        }
        self.admission.decide([user], || self.let_in(id, user, settings, device))
    }

    /// Takes `user` into a call, or back into it, while nobody else decides about them.
    pub(super) fn let_in(
        &self,
        id: CallId,
        user: &UserId,
        settings: Settings,
        device: Option<DeviceId>,
    ) -> Result<Joined, AppError> {
        // A call that the user may not join says so first, whatever else the user is in. Among many nodes the
        // user's place has been claimed.
        if self.cluster().is_none()
            && let Some(other) = self.calls.joined_by(user, Some(id))
            && self.is_invited(id, user)
        {
            return Err(AppError::AlreadyInCall(other));
        }
        let (now, online) = (self.clock.now(), self.is_online(user));
        let command = Command::Join { user: user.clone(), settings, device, online };
        let look = |call: &Call, _: &_| (CallFacts::of(call, now), call.pass(user));
        let ((facts, pass), durable) = self.change(id, command, look)?;
        self.heed_since(user, online);
        Ok(Joined { facts, pass, durable })
    }

    /// What one who has joined is told, once that is durable.
    pub(super) async fn joined(
        &self,
        user: &UserId,
        joined: Joined,
    ) -> Result<Box<RawValue>, AppError> {
        let Joined { facts, pass, durable } = joined;
        durable.await?;
        self.kept(facts.call.id).await?;
        json(&JoinedView {
            details: CallDetails::from(&facts),
            token: self.ticket(facts.call.id, user, pass.as_ref())?,
            ice_servers: self.ice.ice_servers(user, self.clock.wall()),
        })
    }

    fn is_invited(&self, id: CallId, user: &UserId) -> bool {
        let stays_out = |it: ConnectionState| it == ConnectionState::Removed;
        self.calls
            .read(id, |call| {
                let member = call.participant(user);
                !call.state.is_terminal() && member.is_some_and(|it| !stays_out(it.connection))
            })
            .unwrap_or(false)
    }
}
