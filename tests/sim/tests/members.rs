//! Members that come and go, one case each: who is told what, and who knows of it. Random ones are in the clusters of
//! `gate.rs`.

use std::time::Duration;

use engine::apply::Answer;
use engine::disk::Disk;
use engine::disk::mem::MemDisk;
use engine::error::ApiError;
use engine::lease::lessor::{Later, Renewal};
use engine::map;
use engine::members::MemberChange;
use engine::mvcc::index::table::Table;
use engine::mvcc::index::{self, Index};
use engine::replica::payload::Payload;
use engine::response::Response;
use engine::types::Member;
use sim::cluster;
use sim::network::Weather;
use sim::world::World;
use sim::world::members::member_of;

/// Three members that have been well for a while.
fn well(seed: u64) -> World {
    let mut world = cluster::calm(seed);
    (world.coming.on, world.coming.strict) = (true, true);
    world.make_peace().unwrap();
    settle(&mut world);
    world
}

/// All agree, and have heard of each other for long enough.
fn settle(world: &mut World) {
    world.agree().unwrap();
    world.wait(Duration::from_secs(7)).unwrap();
    world.agree().unwrap();
}

/// Asks `node`, and waits for the answer.
fn ask(world: &mut World, node: usize, change: MemberChange) -> Answer {
    world.stand_at(node);
    let number = world.ask(change).unwrap();
    world.run_until(|world| world.answer(number).is_some()).unwrap();
    world.answer(number).cloned().unwrap()
}

fn refused(world: &mut World, node: usize, change: MemberChange) -> ApiError {
    ask(world, node, change).unwrap_err()
}

/// The ids in an answer, learners with a minus.
fn ids(answer: Answer) -> Vec<i64> {
    let Ok(Response::Members { members, .. }) = answer else { panic!("{answer:?}") };
    members.iter().map(|m| if m.is_learner { -(m.id as i64) } else { m.id as i64 }).collect()
}

fn id(node: usize) -> u64 {
    member_of(node, false).id
}

fn plain(nodes: &[usize]) -> Vec<i64> {
    nodes.iter().map(|node| id(*node) as i64).collect()
}

fn add(node: usize, is_learner: bool) -> MemberChange {
    MemberChange::Add(member_of(node, is_learner))
}

fn open(world: &mut World, node: usize) {
    world.stand_at(node);
    world.open().unwrap();
}

fn follower(world: &World) -> usize {
    let leader = world.leader().unwrap();
    (0..3).find(|node| *node != leader).unwrap()
}

#[test]
fn founders_publish_their_names() {
    let mut world = well(1);
    for node in 0..3 {
        world.stand_at(node);
        let member = world.replica().roster().get(id(1)).cloned().unwrap();
        let urls = |kind: &str| vec![format!("http://{kind}:{}", id(1))];
        let name = format!("m{}", id(1));
        let is_learner = false;
        let (peer_urls, client_urls) = (urls("peer"), urls("client"));
        assert_eq!(member, Member { id: id(1), name, peer_urls, client_urls, is_learner }, "at node {node}");
    }
}

#[test]
fn a_learner_joins_and_is_promoted_when_it_is_in_sync() {
    let mut world = well(2);
    let asked = follower(&world);
    let learner = world.add_node();
    let all = ids(ask(&mut world, asked, add(learner, true)));
    assert_eq!(all, [plain(&[0, 1, 2]), vec![-(id(3) as i64)]].concat());
    assert_eq!(refused(&mut world, asked, MemberChange::Promote(id(learner))), ApiError::LearnerNotReady);
    open(&mut world, learner);
    settle(&mut world);
    assert!(world.replica().raft().conf_state().is_learner(raft::MemberId(id(learner))));
    assert_eq!(ids(ask(&mut world, asked, MemberChange::Promote(id(learner)))), plain(&[0, 1, 2, 3]));
    world.inspect_all().unwrap();
    assert_eq!(world.belonging().len(), 4);
}

#[test]
fn a_member_whose_disk_is_lost_is_replaced_under_a_new_id() {
    let mut world = well(3);
    let (asked, leader) = (follower(&world), world.leader().unwrap());
    let lost = (0..3).find(|node| ![asked, leader].contains(node)).unwrap();
    world.take_away(lost);
    world.coming.lost = Some(lost);
    let new = world.add_node();
    // It is found to be down after an election timeout; until then three are needed for four, and two are there.
    world.wait(Duration::from_secs(2)).unwrap();
    assert_eq!(refused(&mut world, asked, add(new, false)), ApiError::UnhealthyCluster);
    assert_eq!(refused(&mut world, asked, MemberChange::Remove(id(leader))), ApiError::UnhealthyCluster);
    ask(&mut world, asked, MemberChange::Remove(id(lost))).unwrap();
    world.coming.lost = None;
    ask(&mut world, asked, add(new, false)).unwrap();
    open(&mut world, new);
    settle(&mut world);
    world.inspect_all().unwrap();
    assert_eq!(world.belonging().len(), 3);
    assert_eq!(refused(&mut world, asked, add(lost, false)), ApiError::MemberNotFound);
}

#[test]
fn a_leader_that_is_removed_steps_down_and_refuses_what_comes_after() {
    let mut world = well(4);
    let leader = world.leader().unwrap();
    ask(&mut world, leader, MemberChange::Remove(id(leader))).unwrap();
    assert!(world.replica().is_removed() && !world.replica().raft().is_leader());
    assert_eq!(refused(&mut world, leader, MemberChange::Promote(id(leader))), ApiError::Stopped);
    settle(&mut world);
    world.inspect_all().unwrap();
    assert_eq!(world.belonging().len(), 2);
}

#[test]
fn changes_that_mean_nothing_are_refused_in_etcds_words() {
    let mut world = well(5);
    let node = follower(&world);
    let new = world.add_node();
    let unknown = id(40);
    let urls = |node: usize| member_of(node, false).peer_urls;
    ask(&mut world, node, add(new, true)).unwrap();
    let rows = [
        (MemberChange::Add(Member { id: unknown, ..member_of(41, true) }), ApiError::TooManyLearners),
        (MemberChange::Add(Member { id: unknown, ..member_of(0, false) }), ApiError::PeerUrlExists),
        (add(0, false), ApiError::MemberExists),
        (add(0, true), ApiError::MemberExists),
        (add(new, false), ApiError::MemberExists),
        (MemberChange::Remove(unknown), ApiError::MemberNotFound),
        (MemberChange::Promote(unknown), ApiError::MemberNotFound),
        (MemberChange::Promote(id(0)), ApiError::MemberNotLearner),
        (MemberChange::Update { id: unknown, peer_urls: urls(50) }, ApiError::MemberNotFound),
        (MemberChange::Update { id: id(0), peer_urls: urls(1) }, ApiError::PeerUrlExists),
    ];
    for (change, error) in rows {
        for at in [node, world.leader().unwrap()] {
            assert_eq!(refused(&mut world, at, change.clone()), error, "{change:?}");
        }
    }
    ask(&mut world, node, MemberChange::Update { id: id(0), peer_urls: urls(50) }).unwrap();
    assert_eq!(world.replica().roster().get(id(0)).unwrap().peer_urls, urls(50));
}

#[test]
fn changes_asked_for_at_once_are_made_one_after_the_other() {
    let mut world = well(6);
    let nodes = [world.add_node(), world.add_node()];
    let numbers: Vec<usize> = (0..3)
        .map(|node| {
            world.stand_at(node);
            let change = nodes.get(node).map_or(MemberChange::Remove(id(1)), |new| add(*new, false));
            world.ask(change).unwrap()
        })
        .collect();
    world.run_until(|world| numbers.iter().all(|number| world.answer(*number).is_some())).unwrap();
    let answers: Vec<Answer> = numbers.iter().map(|number| world.answer(*number).cloned().unwrap()).collect();
    // The first new member makes four, of whom three are started and well, which is what five would need; the second
    // one does not come to six.
    assert!(answers.iter().any(Answer::is_ok), "{answers:?}");
    let known =
        |error: &ApiError| [ApiError::UnhealthyCluster, ApiError::NotEnoughStartedMembers].contains(error);
    assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(known), "{answers:?}");
    nodes.iter().for_each(|node| open(&mut world, *node));
    settle(&mut world);
    world.inspect_all().unwrap();
}

#[test]
fn a_learner_that_was_cut_off_hears_that_it_was_removed() {
    let mut world = well(7);
    let asked = follower(&world);
    let learner = world.add_node();
    ask(&mut world, asked, add(learner, true)).unwrap();
    open(&mut world, learner);
    settle(&mut world);
    (0..3).for_each(|node| {
        world.network.cut(node, learner);
        world.network.cut(learner, node);
    });
    ask(&mut world, asked, MemberChange::Remove(id(learner))).unwrap();
    world.wait(Duration::from_secs(5)).unwrap();
    world.stand_at(learner);
    assert!(!world.replica().is_removed());
    world.network.mend();
    world.wait(Duration::from_secs(5)).unwrap();
    world.stand_at(learner);
    assert!(world.replica().is_removed());
}

#[test]
fn a_change_without_a_leader_was_never_proposed_and_one_that_got_lost_may_have_been() {
    let mut world = well(8);
    world.network.weather = Weather::fair();
    let (asked, leader) = (follower(&world), world.leader().unwrap());
    // The message to the leader is lost, and so is whatever it says.
    world.network.cut(asked, leader);
    world.stand_at(asked);
    let lost = world.ask(MemberChange::Remove(id(asked))).unwrap();
    world.run_until(|world| world.answer(lost).is_some()).unwrap();
    let error = world.answer(lost).cloned().unwrap().unwrap_err();
    assert!(matches!(error, ApiError::Timeout | ApiError::TimeoutLeaderFailed), "{error:?}");
    for node in (0..3).filter(|node| *node != asked) {
        world.stand_at(node);
        world.kill();
    }
    world.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(refused(&mut world, asked, MemberChange::Remove(id(leader))), ApiError::DeadlineExceeded);
}

#[test]
fn a_member_that_does_not_vote_asks_whether_it_is_one_after_a_restart_too() {
    let mut world = well(9);
    let leader = world.leader().unwrap();
    ask(&mut world, leader, MemberChange::Remove(id(leader))).unwrap();
    // What it has applied is not in a checkpoint yet, and that it was committed is not in its log.
    world.kill();
    world.agree().unwrap();
    open(&mut world, leader);
    world.wait(Duration::from_secs(5)).unwrap();
    world.stand_at(leader);
    assert!(world.replica().is_removed());
}

#[test]
fn who_hears_only_others_that_were_removed_asks_still() {
    let mut world = well(10);
    let removed = world.leader().unwrap();
    let new = world.add_node();
    ask(&mut world, removed, add(new, false)).unwrap();
    open(&mut world, new);
    settle(&mut world);
    world.coming.strict = false;
    let removed = world.leader().unwrap();
    let others: Vec<usize> = (0..4).filter(|node| *node != removed).collect();
    let cut_off = |world: &mut World, from: &[usize]| {
        for node in from {
            world.network.cut(*node, others[0]);
            world.network.cut(others[0], *node);
        }
    };
    cut_off(&mut world, &[removed, others[1], others[2]]);
    ask(&mut world, removed, MemberChange::Remove(id(removed))).unwrap();
    world.kill();
    world.run_until(|world| world.leader().is_some()).unwrap();
    let leader = world.leader().unwrap();
    ask(&mut world, leader, MemberChange::Remove(id(others[0]))).unwrap();
    // From now on two of the past hear each other: one votes and asks for the other's vote, who does not.
    world.network.mend();
    cut_off(&mut world, &[others[1], others[2]]);
    open(&mut world, removed);
    world.wait(Duration::from_secs(10)).unwrap();
    world.stand_at(removed);
    assert!(world.replica().is_removed());
}

/// Takes the rows of members out of the index, as the first versions never wrote them.
fn forget_rows(disk: &mut MemDisk, limits: map::Limits) {
    let opened = map::open(disk, None, limits).unwrap();
    let mut payload = Payload::decode(&opened.payload).unwrap();
    let (mut index, mut loader) = (Index::new(opened.writer, payload.root), map::Loader::new());
    loop {
        match index.remove_row(Table::Member, &id(0).to_be_bytes()) {
            Ok(_) => break,
            Err(index::Error::Miss(page)) => drop(loader.load(index.pages_mut(), disk, page).unwrap()),
            Err(damaged) => panic!("{damaged}"),
        }
    }
    payload.root = index.root();
    index.pages_mut().publish(payload.root.page, map::Tag::default());
    let mut checkpoint = index.pages_mut().begin_checkpoint(&payload.encode());
    while let Some((token, op)) = checkpoint.poll() {
        let outcome = disk.run(op);
        checkpoint.on_completed(token, outcome).unwrap();
    }
    checkpoint.settle().unwrap();
}

#[test]
fn a_directory_of_the_first_versions_knows_ids_and_learns_the_rest() {
    let mut world = World::new(3);
    world.open().unwrap();
    world.let_clients(20);
    world.stop().unwrap();
    let limits = world.settings().replica().map;
    forget_rows(world.disk_mut(), limits);
    world.open().unwrap();
    let blank = Member { id: id(0), ..Member::default() };
    assert_eq!(world.replica().roster().members().collect::<Vec<_>>(), [&blank]);
    world.stop().unwrap();
    // A version that tells its name.
    world.coming.on = true;
    world.open().unwrap();
    let is_named =
        |world: &World| world.replica().roster().get(id(0)).is_some_and(|own| !own.name.is_empty());
    world.run_until(is_named).unwrap();
    let known = world.replica().roster().clone();
    world.stop().unwrap();
    world.open().unwrap();
    assert_eq!(world.replica().roster(), &known);
}

#[test]
fn a_leader_that_stood_still_renews_no_lease_before_it_knows_that_it_leads() {
    let mut world = cluster::calm(11);
    world.make_peace().unwrap();
    world.agree().unwrap();
    let lease = (0..20).find_map(|_| {
        world.let_clients(20);
        world.agree().unwrap();
        let leader = world.leader().unwrap();
        world.stand_at(leader);
        // One that does not run out meanwhile.
        world.replica().lessor().by_due().into_iter().last()
    });
    let lease = lease.expect("clients ask for leases");
    assert!(matches!(world.renew(lease), Renewal::Renewed(_)));
    let leader = world.standing_at();
    world.pause(Duration::from_millis(900));
    world.wait(Duration::from_millis(800)).unwrap();
    world.stand_at(leader);
    assert!(matches!(world.renew(lease), Renewal::Later(Later::Confirmed)));
}
