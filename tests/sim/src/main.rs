//! Runs seeds.

use sim::trace::brief;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("faults") {
        use sim::faults;
        let n: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
        for f in [faults::crash_points as fn(u64) -> Vec<sim::outcome::Row>, faults::bit_flips, faults::lies, faults::full_disk, faults::failing_operations] {
            let start = std::time::Instant::now();
            for row in f(n) {
                println!("{row}");
                for wrong in row.wrong.iter().take(6) { println!("   {}", &wrong[..wrong.len().min(500)]); }
            }
            println!("{:?}", start.elapsed());
        }
        return;
    }
    #[cfg(feature = "seeded-bugs")]
    if std::env::args().nth(1).as_deref() == Some("bugs") {
        std::panic::set_hook(Box::new(|_| {}));
        for bug in engine::seeded::Bug::ALL {
            let start = std::time::Instant::now();
            let find = sim::bugs::hunt(*bug);
            println!("{bug:?}: {:?} {:?}", find.map(|f| (f.case, f.what[..f.what.len().min(220)].to_owned())), start.elapsed());
        }
        return;
    }
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let (from, to) = (args[0], args[1]);
    let mut sum = [0; 4];
    for seed in from..to {
        let mut world = sim::world::World::new(seed);
        if args.len() > 2 {
            world.trace.lines = Some(Vec::new());
        }
        let outcome = sim::seeds::run_in(&mut world);
        for line in world.trace.lines.iter().flatten() {
            print!("{}", brief(line));
        }
        let t = world.judge.tally;
        for (sum, n) in sum.iter_mut().zip([t.answered, t.resolved, t.lost, t.dumps]) {
            *sum += n;
        }
        if let Err(stop) = outcome {
            println!("{seed} {}", brief(&stop.to_string()));
        }
    }
    println!("{sum:?}");
}
