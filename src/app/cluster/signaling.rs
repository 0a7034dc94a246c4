//! Signaling from a device here to one at another node, without the owner of the call.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::app::App;
use crate::app::cluster::views::{Member, Signaler, Standing, View};
use crate::app::cluster::{Cluster, Nodes};
use crate::app::error::AppError;
use crate::bus::letter::{Kind as About, Letter};
use crate::call::command::Refusal;
use crate::call::id::{CallId, UserId};
use crate::socketio::outlet::{Outlet, SocketId};
use crate::socketio::packet::Packet;

/// Where signaling goes.
#[derive(Debug, Default)]
pub struct Targets {
    /// Devices here.
    pub outlets: SmallVec<[Outlet; 4]>,
    /// Other nodes that have devices.
    pub(in crate::app) nodes: Nodes,
}

/// Signaling, ready to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Signal<'a> {
    /// The call.
    pub call: CallId,
    /// Who sends it.
    pub from: &'a UserId,
    /// Whom it is for.
    pub to: &'a UserId,
    /// The event's name.
    pub name: &'a str,
    /// Its payload, JSON.
    pub data: &'a [u8],
}

impl App {
    /// Where signaling goes in a call of any node; see [`App::signal_targets`].
    pub(in crate::app) fn signal_targets_anywhere(
        &self,
        cluster: &Cluster,
        id: CallId,
        (from, socket): (&UserId, SocketId),
        to: &UserId,
    ) -> Result<Targets, AppError> {
        let mut view = cluster.views.0.get_mut(&id).ok_or(AppError::NoSuchCall)?;
        may_signal(&view, from, to)?;
        let news = view.note(from, Signaler::Here(socket));
        let last = view.signaler(to).cloned();
        let nodes_of = |user: &UserId| view.member(user).map(|it| it.nodes.clone());
        let (theirs, own) = (nodes_of(to).unwrap_or_default(), nodes_of(from).unwrap_or_default());
        drop(view);
        if news {
            // Devices of the same user on other nodes are not the last any more.
            for node in own.iter().filter(|it| *it != cluster.me()) {
                let letter = cluster.letter(About::Signal, 0, id, Bytes::new());
                let letter = Letter { to: vec![from.clone(), from.clone()], ..letter };
                drop(cluster.bus.post(node, letter));
            }
        }
        Ok(self.targets(cluster, to, last, theirs))
    }

    fn targets(
        &self,
        cluster: &Cluster,
        to: &UserId,
        last: Option<Signaler>,
        mut nodes: Nodes,
    ) -> Targets {
        nodes.retain(|it| it != cluster.me());
        match last {
            Some(Signaler::There(node)) if nodes.contains(&node) => {
                Targets { outlets: SmallVec::new(), nodes: SmallVec::from_elem(node, 1) }
            }
            Some(Signaler::Here(socket)) => {
                let mut outlets = self.hub.outlets(to.as_str());
                match outlets.iter().position(|it| it.id() == socket) {
                    Some(index) => {
                        outlets.swap(0, index);
                        outlets.truncate(1);
                        Targets { outlets, nodes: Nodes::new() }
                    }
                    None => Targets { outlets, nodes },
                }
            }
            Some(Signaler::There(_)) | None => {
                Targets { outlets: self.hub.outlets(to.as_str()), nodes }
            }
        }
    }

    /// Sends signaling to the other nodes among its targets.
    pub fn signal_elsewhere(&self, targets: &Targets, it: Signal<'_>) {
        let Some(cluster) = self.cluster() else { return };
        if targets.nodes.is_empty() {
            return;
        }
        let mut body = BytesMut::with_capacity(1 + it.name.len() + it.data.len());
        body.put_u8(u8::try_from(it.name.len()).unwrap_or(0));
        body.put_slice(it.name.as_bytes());
        body.put_slice(it.data);
        let letter = cluster.letter(About::Signal, 0, it.call, body.freeze());
        let letter = Letter { to: vec![it.to.clone(), it.from.clone()], ..letter };
        for node in &targets.nodes {
            // Signaling may be lost, as everything that a socket does not acknowledge.
            drop(cluster.bus.post(node, letter.clone()));
        }
    }

    /// Hears signaling for somebody here; without a payload, that one's devices there signaled last.
    pub(super) fn hear_signal(&self, cluster: &Cluster, letter: &Letter) {
        let [to, from] = letter.to.as_slice() else { return };
        let Some(mut view) = cluster.views.0.get_mut(&letter.call) else { return };
        view.note(from, Signaler::There(letter.from.clone()));
        let last = view.signaler(to).cloned();
        drop(view);
        let Some((name, data)) = read(&letter.body) else { return };
        let mut outlets = self.hub.outlets(to.as_str());
        if let Some(Signaler::Here(socket)) = last
            && let Some(index) = outlets.iter().position(|it| it.id() == socket)
        {
            outlets.swap(0, index);
            outlets.truncate(1);
        }
        let packet = Packet::event(name, &[data]);
        for outlet in outlets {
            outlet.send(&packet);
        }
    }

    /// A call whose people this node does not know yet is asked for; then signaling can be sent.
    pub async fn know_call(self: &Arc<Self>, call: CallId, user: &UserId) -> bool {
        let Some(cluster) = self.cluster() else { return false };
        drop(Box::pin(self.gather(user, false, Some(true))).await);
        cluster.views.0.contains_key(&call)
    }
}

fn read(body: &[u8]) -> Option<(&str, &str)> {
    let (length, rest) = body.split_first()?;
    let (name, data) = rest.split_at_checked(usize::from(*length))?;
    Some((str::from_utf8(name).ok()?, str::from_utf8(data).ok()?))
}

impl View {
    fn member(&self, user: &UserId) -> Option<&Member> {
        self.members.iter().find(|it| it.user == *user)
    }

    fn signaler(&self, user: &UserId) -> Option<&Signaler> {
        self.signalers.iter().find(|(it, _)| it == user).map(|(_, it)| it)
    }

    /// The user signaled from there last: whether that is news.
    fn note(&mut self, user: &UserId, from: Signaler) -> bool {
        match self.signalers.iter_mut().find(|(it, _)| it == user) {
            Some((_, known)) if *known == from => false,
            Some((_, known)) => {
                *known = from;
                true
            }
            None => {
                self.signalers.push((user.clone(), from));
                true
            }
        }
    }
}

fn may_signal(view: &View, from: &UserId, to: &UserId) -> Result<(), AppError> {
    let member = view.member(from).ok_or(Refusal::Forbidden)?;
    if member.standing != Standing::Joined {
        return Err(Refusal::Forbidden.into());
    }
    match view.member(to).map(|it| it.standing) {
        Some(Standing::Joined | Standing::Rung) => Ok(()),
        Some(Standing::Other) | None => Err(Refusal::NoSuchParticipant.into()),
    }
}
