//! Signaling between two participants, passed on without a look inside.

use smallvec::SmallVec;

use crate::app::App;
use crate::app::error::AppError;
use crate::call::command::Refusal;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::socketio::outlet::{Outlet, SocketId};

impl App {
    /// Where signaling from `from`'s `socket` to `to` goes: the device of `to` that last signaled in
    /// this call and is still there, else all its devices. Only from one who has joined to one who has
    /// joined or is being rung.
    pub fn signal_targets(
        &self,
        id: CallId,
        (from, socket): (&UserId, SocketId),
        to: &UserId,
    ) -> Result<SmallVec<[Outlet; 4]>, AppError> {
        if from == to {
            return Err(Refusal::ToOneself.into());
        }
        let last = self.calls.signal(id, (from, socket), to, |call| may_signal(call, from, to))?;
        let mut outlets = self.hub.outlets(to.as_str());
        if let Some(index) = outlets.iter().position(|it| Some(it.id()) == last) {
            outlets.swap(0, index);
            outlets.truncate(1);
        }
        Ok(outlets)
    }
}

fn may_signal(call: Option<&Call>, from: &UserId, to: &UserId) -> Result<(), AppError> {
    let call = call.ok_or(AppError::NoSuchCall)?;
    if !call.is_joined(from) {
        return Err(Refusal::Forbidden.into());
    }
    match call.participant(to) {
        Some(it) if it.is_joined() || it.is_rung() => Ok(()),
        Some(_) | None => Err(Refusal::NoSuchParticipant.into()),
    }
}
