//! Endpoints that fail, flap, slow down and come back, under control and several workers in virtual time: what must
//! always hold, over hundreds of seeded worlds.
//!
//! [`world`] is the world and its events, [`rules`] draws what an upstream is told, [`watch`] knows what must
//! hold. The same seed gives the same run; a failure prints it. `ONE` runs one alone.

mod rules;
mod watch;
mod world;

/// How many worlds.
const SEEDS: u64 = 400;
/// The seed to look into.
const ONE: Option<u64> = None;

#[test]
fn what_must_hold_holds_in_every_world() {
    let mut totals = watch::Totals::default();
    for seed in ONE.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let run = std::panic::catch_unwind(|| world::World::new(seed).run());
        match run {
            Ok(run) => totals.add(&run),
            Err(panic) => {
                eprintln!("seed {seed} broke");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // A simulation in which nothing happens would hold all the same.
    println!("{totals:?}");
    totals.assert_all_happened();
}
