//! Commands to calls that are there: decline, end, invite, remove, change. Each answer waits for
//! the journal; a call that is not live is looked up in the store, to say why it can't be done.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::app::App;
use crate::app::cluster::Withdrawing;
use crate::app::effects::{After, json};
use crate::app::error::AppError;
use crate::app::starting::{Callable, unavailable_of};
use crate::call::command::{Command, Refusal};
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::participant::{Sent, Settings};
use crate::call::pass::Pass;
use crate::call::quality::Sample;
use crate::call::state::{ConnectionState, MediaPath, Role};
use crate::media::Ticket;
use crate::media::error::{Kind as Trouble, MediaError};
use crate::media::ice::IceServer;
use crate::store::error::Kind;
use crate::store::journal::Durable;
use crate::store::{Record, StoredSample};
use crate::wire::reply::UnavailableView;

/// When LiveKit is asked whether media is up as a client says: time enough for it to know.
const CLAIM_CHECK: Duration = Duration::from_secs(2);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenView {
    token: Ticket,
    ice_servers: Vec<IceServer>,
}

/// Who is not rung of those who were invited, and the commit to wait for.
type Invited = (Vec<UnavailableView>, Durable);

#[derive(Serialize)]
struct InvitedView {
    unavailable: Vec<UnavailableView>,
}

/// What a user wants of a call: decides how one that is not live says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// To join it: takes an invitation.
    Join,
    /// To say no: nothing for who started it.
    Decline,
    /// Anything else.
    Other,
}

impl App {
    /// What lets `user` into the call's media; without a pass it opens nothing.
    pub(super) fn ticket(
        &self,
        call: CallId,
        user: &UserId,
        pass: Option<&Pass>,
    ) -> Result<Ticket, AppError> {
        let media = match (pass, self.livekit()) {
            (Some(pass), _) => pass.media,
            (None, Some(_)) => MediaPath::Livekit,
            (None, None) => MediaPath::Peer,
        };
        let mut ticket = Ticket::closed(call, user.clone(), media.into());
        if let Some(pass) = pass.filter(|it| it.media == MediaPath::Livekit) {
            // A call that began with a media server can't go on without one.
            let gone = || MediaError::new("making a token", Trouble::Away);
            let livekit = self.livekit().ok_or_else(gone)?;
            ticket.token = Some(livekit.token(pass, self.clock.wall()));
            ticket.url = Some(livekit.url().to_owned());
        }
        Ok(ticket)
    }

    pub(super) async fn decline_here(&self, id: CallId, user: &UserId) -> Result<(), AppError> {
        match self.carry_out(id, user, Command::Decline { user: user.clone() }).await {
            // Who started a call has nothing to decline, while it is live and after.
            Err(AppError::Refused(Refusal::Over)) => match self.facts(id).await? {
                Some(past) if past.call.initiator == *user => Err(Refusal::Forbidden.into()),
                Some(_) | None => Ok(()),
            },
            other => other,
        }
    }

    pub(super) async fn end_here(&self, id: CallId, user: &UserId) -> Result<(), AppError> {
        let at = self.clock.now();
        self.withdraw(id, user, Command::End { user: user.clone() }, Intent::Other).await?;
        self.let_go(id, user, at);
        Ok(())
    }

    /// What a participant of a call that is over may repeat without harm. On a full disk it counts
    /// all the same: nobody can be kept in a call, and the journal writes it once there is room.
    async fn withdraw(
        &self,
        id: CallId,
        user: &UserId,
        command: Command,
        intent: Intent,
    ) -> Result<(), AppError> {
        let done = self.change(id, command, |_, _| ());
        match self.or_past(done, id, user, intent).await {
            Err(AppError::Refused(Refusal::Over)) => Ok(()),
            Err(error) => Err(error),
            Ok(((), durable)) => match durable.await {
                Err(error) if error.kind != Kind::Full => Err(error.into()),
                Ok(()) | Err(_) => self.kept_or_later(id).await,
            },
        }
    }

    /// Carries out a command whose answer is no more than that it was done.
    async fn carry_out(&self, id: CallId, user: &UserId, command: Command) -> Result<(), AppError> {
        let done = self.change(id, command, |_, _| ());
        let ((), durable) = self.or_past(done, id, user, Intent::Other).await?;
        durable.await?;
        self.kept_or_later(id).await
    }

    /// Where a call is not live, says why by what the store knows of it.
    pub(super) async fn or_past<T>(
        &self,
        outcome: Result<T, AppError>,
        id: CallId,
        user: &UserId,
        intent: Intent,
    ) -> Result<T, AppError> {
        match outcome {
            Err(AppError::NoSuchCall) => Err(self.not_live(id, user, intent).await),
            other => other,
        }
    }

    /// Why nothing can be done in a call that is not live: it is over, the user was removed from it or
    /// never belonged to it, or there never was one.
    pub async fn not_live(&self, id: CallId, user: &UserId, intent: Intent) -> AppError {
        let past = match self.facts(id).await {
            // It passes from one node to another just now.
            Ok(Some(it)) if self.cluster().is_some() && !it.call.state.is_terminal() => {
                return AppError::Moved;
            }
            Ok(Some(past)) => past,
            Ok(None) => return AppError::NoSuchCall,
            Err(error) => return error,
        };
        let refusal = match (past.participant(user), intent) {
            (None, Intent::Join) => Refusal::NotInvited,
            (None, _) => Refusal::Forbidden,
            (Some(it), Intent::Join) if it.connection == ConnectionState::Removed => {
                Refusal::Removed
            }
            (Some(it), Intent::Decline) if it.role == Role::Initiator => Refusal::Forbidden,
            (Some(_), _) => Refusal::Over,
        };
        refusal.into()
    }

    pub(super) async fn token_here(
        &self,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        let standing = self.calls.read(id, |call| {
            let member = call.participant(user).ok_or(Refusal::Forbidden)?;
            if call.state.is_terminal() {
                Err(Refusal::Over)
            } else if member.connection == ConnectionState::Removed {
                Err(Refusal::Removed)
            } else {
                call.pass(user).ok_or(Refusal::NotJoined)
            }
        });
        let standing = standing.ok_or(AppError::NoSuchCall);
        let pass = self.or_past(standing, id, user, Intent::Other).await??;
        json(&TokenView {
            token: self.ticket(id, user, Some(&pass))?,
            ice_servers: self.ice.ice_servers(user, self.clock.wall()),
        })
    }

    pub(super) async fn set_here(
        &self,
        id: CallId,
        user: &UserId,
        settings: Settings,
    ) -> Result<(), AppError> {
        self.carry_out(id, user, Command::Change { user: user.clone(), settings }).await
    }

    pub(super) async fn rings_here(&self, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.withdraw(id, user, Command::Rings { user: user.clone() }, Intent::Other).await
    }

    pub(super) async fn media_up_here(&self, id: CallId, user: &UserId) -> Result<(), AppError> {
        let command = Command::MediaUp { user: user.clone(), session: None };
        self.carry_out(id, user, command).await?;
        if self.livekit().is_some() {
            self.rooms.look_in(id, CLAIM_CHECK);
        }
        Ok(())
    }

    pub(super) async fn mute_here(
        &self,
        id: CallId,
        by: &UserId,
        (user, off): (UserId, Sent),
    ) -> Result<(), AppError> {
        self.carry_out(id, by, Command::Mute { by: by.clone(), user, off }).await
    }

    pub(super) async fn remove_here(
        &self,
        id: CallId,
        by: &UserId,
        user: UserId,
    ) -> Result<(), AppError> {
        self.carry_out(id, by, Command::Remove { by: by.clone(), user }).await?;
        self.kept(id).await
    }

    pub(super) async fn invite_here(
        self: &Arc<Self>,
        id: CallId,
        by: &UserId,
        users: &[UserId],
    ) -> Result<Box<RawValue>, AppError> {
        // Who may not invite is told so by the call, and spends nobody's invitations.
        let joined = self.calls.read(id, |call| call.is_joined(by)).unwrap_or(false);
        let invited = match self.cluster().filter(|_| joined) {
            Some(cluster) => {
                let _withdrawing = Withdrawing(cluster, id);
                let _expecting = self.expect(cluster, users);
                let callable = Box::pin(self.callable_anywhere(cluster, by, users, id)).await;
                callable.and_then(|it| self.invite_called(id, by, it))
            }
            None => self.admission.decide(users, || {
                let callable =
                    if joined { self.callable(by, users, Some(id))? } else { Callable::default() };
                self.invite_called(id, by, callable)
            }),
        };
        let (unavailable, durable) = self.or_past(invited, id, by, Intent::Other).await?;
        durable.await?;
        self.kept(id).await?;
        json(&InvitedView { unavailable })
    }

    fn invite_called(
        &self,
        id: CallId,
        by: &UserId,
        (invitees, mut unavailable): Callable,
    ) -> Result<Invited, AppError> {
        let command = Command::Invite { by: by.clone(), invitees };
        let (more, durable) = self.change(id, command, |_, applied| unavailable_of(applied))?;
        unavailable.extend(more);
        Ok((unavailable, durable))
    }

    pub(super) async fn sample_here(
        &self,
        id: CallId,
        user: &UserId,
        sample: Sample,
    ) -> Result<(), AppError> {
        let quality = sample.rate();
        let command = Command::Sampled { user: user.clone(), quality };
        let participant = |call: &Call| call.participant(user).map(|it| it.id);
        let rated = self.change_expendable(id, command, participant);
        let (participant, durable) = self.or_past(rated, id, user, Intent::Other).await?;
        if let Some(participant) = participant
            && let Ok(permit) = self.journal.reserve_expendable()
        {
            let (id, call, at) = (Uuid::new_v4(), id, self.clock.now());
            let stored = StoredSample { id, call, participant, at, sample, quality };
            drop(permit.send(Record::Sample(Box::new(stored)), After::default()));
        }
        match durable {
            Some(durable) => Ok(durable.await?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::error::Code;
    use crate::app::fixture::{House, user};

    async fn codes(app: &Arc<App>, call: CallId, name: &str) -> [Option<Code>; 5] {
        let name = &user(name);
        let code = |error: AppError| error.code();
        [
            app.join(call, name, Settings::default(), None).await.err().map(code),
            app.token(call, name).await.err().map(code),
            app.set(call, name, Settings { audio: Some(true), ..Settings::default() })
                .await
                .err()
                .map(code),
            app.end(call, name).await.err().map(code),
            app.decline(call, name).await.err().map(code),
        ]
    }

    #[tokio::test]
    async fn a_call_says_no_in_the_same_words_live_and_past() {
        let house = House::open();
        let app = &house.app;
        let call = house.call("anna", &["bob", "carl"]).await;
        house.joins("bob", call).await;
        app.remove(call, &user("anna"), user("carl")).await.unwrap();
        let (forbidden, removed) = (Some(Code::Forbidden), Some(Code::Removed));
        let outsider = [Some(Code::NotInvited), forbidden, forbidden, forbidden, forbidden];
        assert_eq!(codes(app, call, "carl").await, [removed, removed, forbidden, None, None]);
        assert_eq!(codes(app, call, "eve").await, outsider);
        app.end(call, &user("anna")).await.unwrap();
        let over = Some(Code::CallOver);
        // At once, and when the call has left the memory.
        for _ in 0..2 {
            assert_eq!(codes(app, call, "carl").await, [removed, over, over, None, None]);
            assert_eq!(codes(app, call, "anna").await, [over, over, over, None, forbidden]);
            assert_eq!(codes(app, call, "bob").await, [over, over, over, None, None]);
            assert_eq!(codes(app, call, "eve").await, outsider);
            app.calls.retire(call);
        }
        let nobody = CallId(Uuid::nil());
        assert_eq!(codes(app, nobody, "anna").await, [Some(Code::NotFound); 5]);
    }
}
