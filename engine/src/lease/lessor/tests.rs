//! The lessor on a clock that the test moves.

use super::*;

const RETRY: Duration = Duration::from_secs(7);
const EXTEND: Duration = Duration::from_secs(1);

/// A lessor and its clock, in milliseconds since its start.
struct World {
    lessor: Lessor,
    start: Instant,
}

impl World {
    /// Leads from the start.
    fn primary() -> World {
        let mut world = World::with(&[]);
        world.lessor.promote(world.start, EXTEND);
        world
    }

    fn with(leases: &[(i64, Lease)]) -> World {
        let start = Instant::now();
        let leases = leases.iter().map(|&(id, lease)| (LeaseId(id), lease));
        World { lessor: Lessor::new(leases, start, RETRY), start }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn grant(&mut self, ms: u64, id: i64, ttl: i64) {
        self.lessor.on_granted(self.at(ms), LeaseId(id), ttl);
    }

    fn renew(&mut self, ms: u64, id: i64) -> Renewal {
        self.lessor.renew(self.at(ms), LeaseId(id))
    }

    /// Leases handed out up to and at `ms`, with the time of each; each is revoked at once.
    fn expire_until(&mut self, ms: u64) -> Vec<(u64, i64)> {
        let mut handed_out = Vec::new();
        loop {
            let now = self.lessor.next_check;
            if now > self.at(ms) {
                return handed_out;
            }
            self.lessor.handle_timeout(now);
            while let Some(id) = self.lessor.poll_expired() {
                handed_out.push((now.duration_since(self.start).as_millis() as u64, id.0));
                self.lessor.on_revoked(id);
                self.lessor.on_revoke_answered(true);
            }
        }
    }
}

fn lease(ttl: i64, remaining: i64) -> Lease {
    Lease { ttl, remaining }
}

#[test]
fn leases_run_out_at_the_first_check_after_their_time() {
    let mut world = World::primary();
    world.grant(0, 1, 2);
    world.grant(100, 2, 2);
    world.grant(0, 3, 1);
    assert_eq!(world.expire_until(1400), [(1000, 3)]);
    assert_eq!(world.renew(1400, 1), Renewal::Renewed(2));
    assert_eq!(world.expire_until(10_000), [(2500, 2), (3500, 1)]);
    assert!(world.lessor.looks.is_empty() && world.lessor.by_due().is_empty());
    let stats = world.lessor.stats();
    assert_eq!((stats.granted, stats.renewed, stats.revoked, stats.expired), (3, 1, 3, 3));
    assert_eq!(world.lessor.take_ttls(), [2, 2, 1]);
}

#[test]
fn a_lease_that_has_run_out_is_not_renewed() {
    let mut world = World::primary();
    world.grant(0, 1, 2);
    assert_eq!(world.renew(1999, 2), Renewal::Gone);
    assert_eq!(world.renew(2000, 1), Renewal::Later(Later::Revoked));
    world.lessor.wait_for_revoke(LeaseId(1), CallId(9));
    assert_eq!(world.lessor.on_revoked(LeaseId(1)), [CallId(9)]);
    assert_eq!(world.renew(2000, 1), Renewal::Gone);
}

#[test]
fn time_left_is_whole_seconds() {
    let mut world = World::primary();
    world.grant(0, 1, 5);
    for (ms, left) in [(0, 5), (1, 4), (4001, 0), (5000, 0), (5999, 0), (6000, -1)] {
        assert_eq!(world.lessor.seconds_left(world.at(ms), LeaseId(1)), Some(left), "at {ms} ms");
    }
    assert_eq!(world.lessor.seconds_left(world.at(0), LeaseId(2)), None);
    assert_eq!(world.lessor.ttl(LeaseId(1)), Some(5));
}

#[test]
fn a_check_hands_out_so_many_and_so_many_are_under_way() {
    let mut world = World::primary();
    (0..1200).for_each(|id| world.grant(0, 1 + id, 1));
    let now = world.at(1000);
    world.lessor.handle_timeout(now);
    let under_way: Vec<_> = std::iter::from_fn(|| world.lessor.poll_expired()).collect();
    assert_eq!((under_way.len(), world.lessor.has_expired()), (REVOKES_MAX, false));
    under_way.into_iter().for_each(|id| drop(world.lessor.on_revoked(id)));
    (0..REVOKES_MAX).for_each(|_| world.lessor.on_revoke_answered(true));
    assert!(world.lessor.has_expired());
    let rest = world.expire_until(5000);
    let at = |ms| rest.iter().filter(|(when, _)| *when == ms).count();
    assert_eq!((at(1500), at(2000), at(2500)), (500, 500, 184), "16 more of the first 500 were waiting");
}

#[test]
fn many_looks_are_taken_in_turns() {
    let mut world = World::primary();
    let many = 3 * LOOKS_MAX as i64;
    (1..=many).for_each(|id| world.grant(0, id, 60));
    (1..=many).for_each(|id| assert_eq!(world.renew(30_000, id), Renewal::Renewed(60)));
    assert_eq!(world.expire_until(60_000 + 20), []);
    let next = world.lessor.looks.first().unwrap().0;
    assert_eq!(next, world.at(90_000), "all were looked at in three turns");
}

#[test]
fn what_is_not_revoked_is_handed_out_again() {
    let mut world = World::primary();
    world.grant(0, 1, 1);
    let now = world.at(1000);
    world.lessor.handle_timeout(now);
    assert_eq!(world.lessor.poll_expired(), Some(LeaseId(1)));
    world.lessor.on_revoke_answered(false);
    assert_eq!(world.expire_until(60_000), [(8000, 1)]);
    assert_eq!(world.lessor.stats().expired, 1);
}

#[test]
fn a_client_may_revoke_what_was_handed_out() {
    let mut world = World::primary();
    world.grant(0, 1, 1);
    let now = world.at(1000);
    world.lessor.handle_timeout(now);
    world.lessor.on_revoked(LeaseId(1));
    assert_eq!(world.lessor.poll_expired(), None);
    assert_eq!(world.lessor.revokes, 0);
}

#[test]
fn a_new_leader_gives_all_leases_their_time_and_some_more() {
    let mut world = World::with(&[(1, lease(10, 0)), (2, lease(600, 4))]);
    world.grant(500, 3, 5);
    assert_eq!(world.renew(600, 1), Renewal::Later(Later::Primary));
    assert_eq!(world.lessor.seconds_left(world.at(600), LeaseId(2)), Some(600), "only a leader knows");
    world.lessor.wait_for_primary(CallId(8), world.at(1600));
    world.lessor.wait_for_primary(CallId(9), world.at(1700));
    assert_eq!(world.lessor.poll_overdue(world.at(1650)), Some(CallId(8)));
    assert_eq!(world.lessor.poll_overdue(world.at(1650)), None);
    let now = world.at(2000);
    assert_eq!(world.lessor.promote(now, EXTEND), [CallId(9)]);
    assert_eq!(world.lessor.by_due(), [2, 3, 1].map(LeaseId));
    assert_eq!(world.renew(2000, 2), Renewal::Later(Later::Cleared));
    world.lessor.on_checkpoint(LeaseCheckpoint { id: LeaseId(2), remaining: 0 });
    assert_eq!(world.renew(2000, 2), Renewal::Renewed(600));
    assert_eq!(world.expire_until(20_000), [(8000, 3), (13_000, 1)]);
    world.lessor.demote();
    assert_eq!((world.renew(20_000, 2), world.lessor.looks.len()), (Renewal::Later(Later::Primary), 0));
}

#[test]
fn a_new_leader_spreads_leases_that_would_run_out_together() {
    let stored: Vec<_> = (1..=3000).map(|id| (id, lease(10, 0))).collect();
    let mut world = World::with(&stored);
    let start = world.start;
    world.lessor.promote(start, EXTEND);
    let due = |world: &World, second: u64| {
        let (from, to) = (world.at(1000 * second), world.at(1000 * (second + 1)));
        world.lessor.looks.iter().filter(|(look, _)| (from..to).contains(look)).count()
    };
    let counts: Vec<_> = (10..17).map(|second| due(&world, second)).collect();
    assert_eq!(counts, [0, 750, 749, 750, 750, 1, 0]);
}

#[test]
fn an_id_that_is_granted_again_starts_anew() {
    let mut world = World::primary();
    world.grant(0, 1, 2);
    world.lessor.on_revoked(LeaseId(1));
    world.grant(1000, 1, 60);
    assert_eq!(world.expire_until(60_000), []);
    assert_eq!(world.expire_until(61_000), [(61_000, 1)]);
}
