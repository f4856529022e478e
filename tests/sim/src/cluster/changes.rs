//! Changes of members while the trouble goes on: learners are added and promoted, voters added, followers and leaders
//! removed, several in a row, through whichever member is asked; and a member loses its disk, is removed, and another
//! takes its place.
//!
//! What clients ask for blindly may cost a cluster its quorum for ever, whatever the product does. So nothing is removed
//! while a lost member is not, and a disk is lost only in peace, when no removal can be under way.

use std::time::Duration;

use engine::disk::pcg::Pcg;
use engine::members::MemberChange;
use engine::types::Member;

use crate::world::members::member_of;
use crate::world::{Stop, World};

/// Machines there may be in a run.
const NODES_MAX: usize = 12;

/// Voters there may be.
const VOTERS_MAX: usize = 6;

/// Longer than any message of before is on its way.
const SILENCE: Duration = Duration::from_secs(10);

/// Whether members come and go in the run of this seed.
pub fn settle_whether(world: &mut World, seed: u64) {
    let mut pcg = Pcg::new(seed ^ 0xc0de);
    world.coming.on = pcg.one_in(3);
    world.coming.strict = pcg.one_in(3);
}

/// In peace: perhaps a disk is lost, for ever.
pub fn before_trouble(world: &mut World) -> Result<(), Stop> {
    if !world.coming.on {
        return Ok(());
    }
    if world.coming.lost.is_none() && world.pcg.one_in(3) {
        world.wait(SILENCE)?;
        world.agree()?;
        let roster = world.leading().roster();
        let voters: Vec<u64> = roster.voters().map(|voter| voter.id).collect();
        let others: Vec<usize> = world.belonging();
        let one = others[world.pcg.below(others.len() as u64) as usize];
        // The others must be able to go on.
        if voters.len() >= 3 {
            world.take_away(one);
            world.coming.lost = Some(one);
        }
    }
    Ok(())
}

/// Now and then somebody asks for a change.
pub fn in_trouble(world: &mut World) -> Result<(), Stop> {
    if !world.coming.on || !world.pcg.one_in(400) {
        return Ok(());
    }
    // A member that knows of the cluster, whether it is right or not.
    let running: Vec<usize> = world.members_running();
    let Some(&at) = running.get(world.pcg.below(running.len().max(1) as u64) as usize) else { return Ok(()) };
    for _ in 0..1 + world.pcg.below(2) {
        world.stand_at(at);
        if !world.is_running() {
            return Ok(());
        }
        let Some(change) = any_change(world) else { continue };
        world.ask(change)?;
    }
    Ok(())
}

fn any_change(world: &mut World) -> Option<MemberChange> {
    let members: Vec<Member> = world.replica().roster().members().cloned().collect();
    let voters = members.iter().filter(|member| !member.is_learner).count();
    let one = members[world.pcg.below(members.len() as u64) as usize].clone();
    if let Some(lost) = world.coming.lost
        && world.pcg.one_in(2)
    {
        return Some(MemberChange::Remove(member_of(lost, false).id));
    }
    let leader = world.replica().raft().leader();
    match world.pcg.below(10) {
        0..=2 if world.nodes() < NODES_MAX => new_member(world, true),
        3 | 4 if world.nodes() < NODES_MAX && voters < VOTERS_MAX => new_member(world, false),
        5 | 6 => {
            let learner = members.iter().find(|member| member.is_learner).unwrap_or(&one);
            Some(MemberChange::Promote(learner.id))
        }
        7 | 8 if world.coming.lost.is_none() && voters >= 3 => {
            let id = leader.map(|leader| leader.0).filter(|_| world.pcg.one_in(3)).unwrap_or(one.id);
            Some(MemberChange::Remove(id))
        }
        9 => {
            let other = &members[world.pcg.below(members.len() as u64) as usize];
            let mut peer_urls = vec![format!("http://moved:{}", world.pcg.below(1000))];
            peer_urls.extend(other.peer_urls.iter().cloned());
            Some(MemberChange::Update { id: one.id, peer_urls })
        }
        _ => None,
    }
}

/// A machine that is not used yet; it may run before it is a member.
fn new_member(world: &mut World, is_learner: bool) -> Option<MemberChange> {
    let at = world.standing_at();
    let node = world.add_node();
    if world.pcg.one_in(2) {
        world.stand_at(node);
        world.open().expect("an empty disk");
        world.stand_at(at);
    }
    Some(MemberChange::Add(member_of(node, is_learner)))
}

/// All agree: who was removed may be taken away now, and a lost one may be forgotten once it is removed.
pub fn after_peace(world: &mut World) {
    if !world.coming.on {
        return;
    }
    let roster = world.leading().roster().clone();
    for node in 0..world.nodes() {
        if roster.is_removed(member_of(node, false).id) {
            if world.coming.lost == Some(node) {
                world.coming.lost = None;
            }
            if world.pcg.one_in(2) {
                world.take_away(node);
            }
        }
    }
}
