//! Signaling between two participants, passed on without a look inside.

use crate::app::App;
use crate::app::cluster::Targets;
use crate::app::error::AppError;
use crate::call::command::Refusal;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::socketio::outlet::SocketId;

impl App {
    /// Where signaling from `from`'s `socket` to `to` goes: the device of `to` that last signaled in
    /// this call and is still there, else all its devices. Only from one who has joined to one who has
    /// joined or is being rung.
    pub fn signal_targets(
        &self,
        id: CallId,
        (from, socket): (&UserId, SocketId),
        to: &UserId,
    ) -> Result<Targets, AppError> {
        if from == to {
            return Err(Refusal::ToOneself.into());
        }
        if let Some(cluster) = self.cluster() {
            return self.signal_targets_anywhere(cluster, id, (from, socket), to);
        }
        let last = self.calls.signal(id, (from, socket), to, |call| may_signal(call, from, to))?;
        let mut outlets = self.hub.outlets(to.as_str());
        if let Some(index) = outlets.iter().position(|it| Some(it.id()) == last) {
            outlets.swap(0, index);
            outlets.truncate(1);
        }
        Ok(Targets { outlets, ..Targets::default() })
    }
}

fn may_signal(call: Option<&Call>, from: &UserId, to: &UserId) -> Result<(), AppError> {
    let call = call.ok_or(AppError::NoSuchCall)?;
    let member = call.participant(from).ok_or(Refusal::Forbidden)?;
    if call.state.is_terminal() {
        // As it will be told when the call has left the memory.
        return Err(Refusal::Over.into());
    }
    if !member.is_joined() {
        return Err(Refusal::Forbidden.into());
    }
    match call.participant(to) {
        Some(it) if it.is_joined() || it.is_rung() => Ok(()),
        Some(_) | None => Err(Refusal::NoSuchParticipant.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::error::Code;
    use crate::app::fixture::{Device, House, user};
    use crate::socketio::outlet::Outlet;

    /// Which of `devices` signaling reaches, or why none.
    fn check(
        app: &App,
        call: CallId,
        (from, to): (&Device, &str),
        devices: &[&Device],
    ) -> Result<Vec<usize>, Code> {
        let sender = (&from.user, from.outlet.id());
        let targets = app.signal_targets(call, sender, &user(to)).map_err(|it| it.code())?;
        let outlets = targets.outlets;
        let index = |outlet: &Outlet| devices.iter().position(|it| it.outlet.id() == outlet.id());
        Ok(outlets.iter().filter_map(index).collect())
    }

    #[tokio::test]
    async fn to_all_devices_until_one_has_signaled() {
        let house = House::open();
        let app = &house.app;
        let [anna, bob, bob_too, eve] =
            ["anna", "bob", "bob", "eve"].map(|it| Device::connect(app, it));
        let call = house.call("anna", &["bob"]).await;
        let bobs = [&bob, &bob_too];
        assert_eq!(check(app, call, (&anna, "bob"), &bobs), Ok(vec![0, 1]), "rung");
        assert_eq!(check(app, call, (&bob, "anna"), &[]), Err(Code::Forbidden), "only rung");
        house.joins("bob", call).await;
        assert_eq!(check(app, call, (&anna, "bob"), &bobs), Ok(vec![0, 1]));
        assert_eq!(check(app, call, (&bob_too, "anna"), &[&anna]), Ok(vec![0]));
        assert_eq!(check(app, call, (&anna, "bob"), &bobs), Ok(vec![1]), "who signaled last");
        bob_too.leave(app);
        assert_eq!(check(app, call, (&anna, "bob"), &bobs), Ok(vec![0]), "who is left");
        assert_eq!(check(app, call, (&anna, "anna"), &[]), Err(Code::InvalidRequest));
        assert_eq!(check(app, call, (&anna, "eve"), &[]), Err(Code::InvalidRequest));
        assert_eq!(check(app, call, (&eve, "anna"), &[]), Err(Code::Forbidden));
        app.end(call, &anna.user).await.unwrap();
        if app.live_calls() > 0 {
            assert_eq!(check(app, call, (&anna, "bob"), &[]), Err(Code::CallOver));
        }
        app.calls.retire(call);
        assert_eq!(check(app, call, (&anna, "bob"), &[]), Err(Code::NotFound), "looked up later");
    }
}
