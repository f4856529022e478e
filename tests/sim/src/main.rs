//! Runs seeds.

use sim::trace::brief;

fn main() {
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
