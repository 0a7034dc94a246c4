//! Commands to calls that are there: join, decline, end, invite, remove, change. Each answer waits for
//! the journal; a call that is not live is looked up in the store, to say why it can't be done.

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::app::App;
use crate::app::effects::{After, json};
use crate::app::error::AppError;
use crate::app::starting::{Callable, unavailable_of};
use crate::call::command::{Command, Refusal};
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::model::Call;
use crate::call::participant::Settings;
use crate::call::quality::Sample;
use crate::call::record::CallFacts;
use crate::call::state::ConnectionState;
use crate::config::rates::Rule;
use crate::limits::Key;
use crate::media::Ticket;
use crate::media::ice::IceServer;
use crate::store::error::Kind;
use crate::store::{Record, StoredSample};
use crate::wire::reply::{CallDetails, UnavailableView};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JoinedView<'a> {
    #[serde(flatten)]
    details: CallDetails<'a>,
    token: Ticket,
    ice_servers: Vec<IceServer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenView {
    token: Ticket,
    ice_servers: Vec<IceServer>,
}

#[derive(Serialize)]
struct InvitedView {
    unavailable: Vec<UnavailableView>,
}

impl App {
    /// Joins or answers; joining twice is joining once. Answers `{call, token, iceServers,
    /// participants}`.
    pub async fn join(
        &self,
        id: CallId,
        user: &UserId,
        settings: Settings,
        device: Option<DeviceId>,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Join, user)?;
        let joined = self.admission.decide([user], || {
            // A call that the user may not join says so first, whatever else the user is in.
            if let Some(other) = self.calls.joined_by(user, Some(id))
                && self.is_invited(id, user)
            {
                return Err(AppError::AlreadyInCall(other));
            }
            let (user, online) = (user.clone(), self.is_online(user));
            let now = self.clock.now();
            let command = Command::Join { user, settings, device, online };
            self.change(id, command, |call, _| CallFacts::of(call, now))
        });
        let (facts, durable) = self.or_past(joined, id, user, Refusal::NotInvited).await?;
        durable.await?;
        json(&JoinedView {
            details: CallDetails::from(&facts),
            token: Ticket::peer(id, user.clone()),
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

    /// Says no.
    pub async fn decline(&self, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.pace(Rule::Leave, user)?;
        self.withdraw(id, user, Command::Decline { user: user.clone() }).await
    }

    /// Hangs up: ends, cancels, leaves or declines, by who the user is.
    pub async fn end(&self, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.pace(Rule::Leave, user)?;
        self.withdraw(id, user, Command::End { user: user.clone() }).await
    }

    /// What a participant of a call that is over may repeat without harm. On a full disk it counts
    /// all the same: nobody can be kept in a call, and the journal writes it once there is room.
    async fn withdraw(&self, id: CallId, user: &UserId, command: Command) -> Result<(), AppError> {
        let done = self.change(id, command, |_, _| ());
        match self.or_past(done, id, user, Refusal::Forbidden).await {
            Err(AppError::Refused(Refusal::Over)) => Ok(()),
            Err(error) => Err(error),
            Ok(((), durable)) => match durable.await {
                Err(error) if error.kind != Kind::Full => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }

    /// Carries out a command whose answer is no more than that it was done.
    async fn carry_out(&self, id: CallId, user: &UserId, command: Command) -> Result<(), AppError> {
        let done = self.change(id, command, |_, _| ());
        let ((), durable) = self.or_past(done, id, user, Refusal::Forbidden).await?;
        Ok(durable.await?)
    }

    /// Where a call is not live, says why by what the store knows of it.
    async fn or_past<T>(
        &self,
        outcome: Result<T, AppError>,
        id: CallId,
        user: &UserId,
        outsider: Refusal,
    ) -> Result<T, AppError> {
        match outcome {
            Err(AppError::NoSuchCall) => Err(self.not_live(id, user, outsider).await),
            other => other,
        }
    }

    /// Why nothing can be done in a call that is not live: it is over, the user was removed from it or
    /// never belonged to it (`outsider`), or there never was one.
    pub async fn not_live(&self, id: CallId, user: &UserId, outsider: Refusal) -> AppError {
        let past = match self.facts(id).await {
            Ok(Some(past)) => past,
            Ok(None) => return AppError::NoSuchCall,
            Err(error) => return error,
        };
        let Some(member) = past.participant(user) else { return outsider.into() };
        if outsider == Refusal::NotInvited && member.connection == ConnectionState::Removed {
            return Refusal::Removed.into();
        }
        Refusal::Over.into()
    }

    /// A new token, for one who has joined. Answers `{token, iceServers}`.
    pub async fn token(&self, id: CallId, user: &UserId) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Token, user)?;
        let standing = self.calls.read(id, |call| {
            let member = call.participant(user).ok_or(Refusal::Forbidden)?;
            if member.connection == ConnectionState::Removed {
                Err(Refusal::Removed)
            } else if call.state.is_terminal() {
                Err(Refusal::Over)
            } else if member.is_joined() {
                Ok(())
            } else {
                Err(Refusal::NotJoined)
            }
        });
        let standing = standing.ok_or(AppError::NoSuchCall);
        self.or_past(standing, id, user, Refusal::Forbidden).await??;
        json(&TokenView {
            token: Ticket::peer(id, user.clone()),
            ice_servers: self.ice.ice_servers(user, self.clock.wall()),
        })
    }

    /// Changes what the user sends.
    pub async fn set(&self, id: CallId, user: &UserId, settings: Settings) -> Result<(), AppError> {
        self.pace(Rule::Toggle, user)?;
        self.carry_out(id, user, Command::Change { user: user.clone(), settings }).await
    }

    /// A device of the user rings.
    pub async fn rings(&self, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.withdraw(id, user, Command::Rings { user: user.clone() }).await
    }

    /// The user's media is up.
    pub async fn media_up(&self, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.carry_out(id, user, Command::MediaUp { user: user.clone() }).await
    }

    /// Throws a user out for good.
    pub async fn remove(&self, id: CallId, by: &UserId, user: UserId) -> Result<(), AppError> {
        self.carry_out(id, by, Command::Remove { by: by.clone(), user }).await
    }

    /// Adds users to a live call, or rings them again. Answers `{unavailable}`.
    pub async fn invite(
        &self,
        id: CallId,
        by: &UserId,
        users: &[UserId],
    ) -> Result<Box<RawValue>, AppError> {
        let invited = self.admission.decide(users, || {
            let joined = self.calls.read(id, |call| call.is_joined(by)).unwrap_or(false);
            // Who may not invite is told so by the call, and spends nobody's invitations.
            let (invitees, mut unavailable) =
                if joined { self.callable(by, users, Some(id))? } else { Callable::default() };
            let command = Command::Invite { by: by.clone(), invitees };
            let (more, durable) = self.change(id, command, |_, applied| unavailable_of(applied))?;
            unavailable.extend(more);
            Ok((unavailable, durable))
        });
        let (unavailable, durable) = self.or_past(invited, id, by, Refusal::Forbidden).await?;
        durable.await?;
        json(&InvitedView { unavailable })
    }

    /// Stores and rates a quality sample.
    pub async fn sample(&self, id: CallId, user: &UserId, sample: Sample) -> Result<(), AppError> {
        self.rates.check(Rule::Quality, Key::InCall(user.clone(), id))?;
        let quality = sample.rate();
        let command = Command::Sampled { user: user.clone(), quality };
        let participant = |call: &Call| call.participant(user).map(|it| it.id);
        let rated = self.change(id, command, |call, _| participant(call));
        let (participant, durable) = self.or_past(rated, id, user, Refusal::Forbidden).await?;
        if let Some(participant) = participant {
            let (id, call, at) = (Uuid::new_v4(), id, self.clock.now());
            let stored = StoredSample { id, call, participant, at, sample, quality };
            if let Ok(permit) = self.journal.reserve_expendable() {
                drop(permit.send(Record::Sample(Box::new(stored)), After::default()));
            }
        }
        Ok(durable.await?)
    }
}
