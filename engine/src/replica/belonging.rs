//! Whether this member belongs to the cluster: it tells the others its name, finds out that it was removed, and then
//! serves nobody.
//!
//! That it was removed it learns by applying the entry, or is told by any member that has, whatever it says to one. Who
//! has no vote says nothing by itself, and asks.

use std::time::{Duration, Instant};

use raft::MemberId;

use super::peer::{MemberBody, Message};
use super::{CallId, Replica};
use crate::error::ApiError;
use crate::members::MemberChange;

/// How often a member tries to publish itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What this member knows of that.
#[derive(Debug, Default)]
pub struct Belonging {
    /// It does not belong to the cluster any more.
    removed: bool,
    /// When it tried last to publish itself.
    published_at: Option<Instant>,
    /// When somebody last said that it leads.
    led_at: Option<Instant>,
    /// When this member asked last whether it is one.
    doubted_at: Option<Instant>,
}

impl Belonging {
    /// A message of another member came.
    pub fn hear(&mut self, now: Instant, message: &Message) {
        if message.is_from_leader() {
            self.led_at = Some(now);
        }
    }

    /// A member says that this one was removed. Ids do not come back, so it stays true.
    pub fn on_told_removed(&mut self) {
        self.removed = true;
    }
}

impl Replica {
    /// Whether this member was removed from the cluster. It answers clients no more, and others only so that they can go
    /// on without it; the driver gives it a second for that, as etcd does, and ends it.
    pub fn is_removed(&self) -> bool {
        self.belonging.removed
    }

    /// A member tells its name and where clients reach it, unless the others know.
    pub(super) fn publish_self(&mut self, now: Instant) {
        let config = &self.config;
        let is_due = self.belonging.published_at.is_none_or(|at| now >= at + RETRY_AFTER);
        let Some(own) = self.store.roster().get(config.member).filter(|_| is_due) else { return };
        let is_known = own.name == config.name && own.client_urls == config.client_urls;
        if is_known || self.raft.leader().is_none() || self.changes.is_publishing() {
            return;
        }
        let (id, name, client_urls) = (config.member, config.name.clone(), config.client_urls.clone());
        self.belonging.published_at = Some(now);
        // What is refused is tried again.
        let _ = self.change_member(now, CallId::NOBODY, MemberChange::Publish { id, name, client_urls });
    }

    /// Whoever does not vote and hears no leader may have been removed without knowing it; a voter asks with every election.
    pub(super) fn doubt_membership(&mut self, now: Instant) {
        let own = MemberId(self.config.member);
        let asks = !self.raft.conf_state().is_voter(own) || self.raft.is_recovering();
        let patience = 2 * self.pause_max();
        // From its start on, or the last time it asked.
        let since = *self.belonging.doubted_at.get_or_insert(now);
        let led_at = self.belonging.led_at.unwrap_or(since);
        if !asks || now < led_at.max(since) + patience || self.belonging.removed {
            return;
        }
        self.belonging.doubted_at = Some(now);
        for to in self.raft.conf_state().members().filter(|to| *to != own) {
            let body = MemberBody::Question;
            self.changes.send(Message::Member { from: own.0, to: to.0, body });
        }
    }

    /// Whoever is not a member any more is told so; true if the sender is none.
    pub(super) fn is_from_removed(&mut self, from: u64) -> bool {
        let removed = self.store.roster().is_removed(from);
        if removed {
            let body = MemberBody::Removed;
            self.changes.send(Message::Member { from: self.config.member, to: from, body });
        }
        removed
    }

    /// Notices, once it is to be seen, that this member does not belong to the cluster any more.
    pub(super) fn note_removal(&mut self) {
        self.belonging.removed |= self.store.roster().is_removed(self.config.member);
    }

    /// Whoever waits here waits for nothing.
    pub(super) fn refuse_everything(&mut self) {
        for request in self.proposals.all_waiting() {
            self.refuse(request, ApiError::Stopped);
        }
        self.reads.refuse_all(ApiError::Stopped, &mut self.events);
        self.renewals.refuse_all(ApiError::Stopped, &mut self.events);
    }
}
