use super::*;
use crate::simulation::{Plan, Simulation, Update};

/// A simulated pipeline under a governor.
struct Governed {
    simulation: Simulation,
    governor: Governor,
    decision: Decision,
}

impl Governed {
    fn new(plan: Plan, target: Target) -> Self {
        let mut governor = Governor::new(target, plan.batch);
        let decision = governor.decide();
        let mut governed = Self {
            simulation: Simulation::new(plan),
            governor,
            decision,
        };
        governed.obey();
        governed
    }

    fn obey(&mut self) {
        self.simulation.plan.publish_interval = self.decision.publish_interval;
        self.simulation
            .gate
            .set_budget(Some(self.decision.budget_unrolls));
        self.simulation.grant();
    }

    /// The next update, with an effective sample size of `ess(lag)`.
    fn update(&mut self, ess: fn(f64) -> f64) -> Update {
        let update = self
            .simulation
            .next_update()
            .expect("a governed pipeline never comes to rest");
        let lag = update.lag();
        self.decision = self.governor.observe(&Observation {
            lag,
            ess: ess(lag),
            in_flight: self.simulation.gate.in_flight(),
            held: self.simulation.gate.held() > 0,
        });
        self.obey();
        update
    }

    /// Mean lag and updates per second over `count` updates.
    fn run(&mut self, count: usize) -> (f64, f64) {
        let begun = self.simulation.now_s;
        let lags: f64 = (0..count).map(|_| self.update(|_| 1.0).lag()).sum();
        let rate = count as f64 / (self.simulation.now_s - begun);
        (lags / count as f64, rate)
    }
}

/// Eight actors, half of which come and go. `update_s` makes the learner or the actors the slower side.
fn plan(update_s: f64) -> Plan {
    let mut plan = Plan::new(8, 1.0, update_s);
    plan.queue = 8;
    plan
}

#[test]
fn set_points_are_held_while_actors_come_and_go() {
    for update_s in [1.0, 0.1] {
        for target in [1.0, 2.0, 4.0, 8.0] {
            let mut governed = Governed::new(plan(update_s), Target::Lag(target));
            governed.run(400);
            for change in 0..4 {
                let come = change % 2 == 1;
                for actor in 4..8 {
                    if come {
                        governed.simulation.join(actor);
                    } else {
                        governed.simulation.leave(actor);
                    }
                }
                governed.run(200);
                let (lag, _) = governed.run(300);
                let off = (lag - target).abs() / target;
                assert!(
                    off <= 0.25,
                    "update {update_s} s, target {target}, {} actors: lag {lag}, {:?}",
                    governed.simulation.alive(),
                    governed.decision
                );
            }
        }
    }
}

#[test]
fn a_held_set_point_costs_no_throughput_that_a_fixed_setting_would_give() {
    for update_s in [1.0, 0.1, 0.24] {
        for target in [1.0, 2.0, 4.0, 8.0] {
            let mut governed = Governed::new(plan(update_s), Target::Lag(target));
            governed.run(1500);
            let (lag, rate) = governed.run(1000);
            // The best of all fixed budgets whose lag is no higher.
            let best = (2..40)
                .map(|budget| {
                    let mut fixed = plan(update_s);
                    fixed.budget = Some(budget);
                    crate::simulation::steady(fixed)
                })
                .filter(|steady| steady.lag <= target * 1.05)
                .map(|steady| steady.rate)
                .fold(0.0, f64::max);
            assert!(
                rate >= 0.9 * best,
                "update {update_s} s, target {target}: {rate} updates/s at lag {lag}, fixed {best}"
            );
        }
    }
}

#[test]
fn a_held_set_point_does_not_oscillate() {
    let mut governed = Governed::new(plan(1.0), Target::Lag(4.0));
    governed.run(600);
    let windows: Vec<f64> = (0..20).map(|_| governed.run(50).0).collect();
    let (low, high) = windows
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), lag| {
            (low.min(*lag), high.max(*lag))
        });
    assert!(high - low < 0.25 * 4.0, "{windows:?}");
}

#[test]
fn an_effective_sample_size_is_held_by_the_lag_that_makes_it() {
    // A made-up plant: every version of lag costs 2.5 %.
    let ess = |lag: f64| 1.0 / (1.0 + 0.025 * lag);
    let mut governed = Governed::new(plan(1.0), Target::Ess(0.9));
    (0..1500).for_each(|_| {
        governed.update(ess);
    });
    let mean = (0..500)
        .map(|_| ess(governed.update(ess).lag()))
        .sum::<f64>()
        / 500.0;
    assert!((mean - 0.9).abs() < 0.02, "{mean}");
}

#[test]
fn a_sample_size_that_is_better_for_nothing_is_let_be() {
    let mut governed = Governed::new(plan(0.1), Target::Ess(0.5));
    (0..1000).for_each(|_| {
        governed.update(|lag| 1.0 / (1.0 + 0.001 * lag));
    });
    let (lag, rate) = governed.run(500);
    // Actor-bound: 8 actors with batches of 2 make 4 updates a second, and nothing holds them back.
    assert!(rate > 3.9, "{rate}");
    assert_eq!(governed.decision.publish_interval, 1);
    assert!(lag < 5.0 && governed.decision.lag_target < 10.0, "{lag}");
}

#[test]
fn an_unreachable_set_point_winds_nothing_up() {
    // One actor at work cannot be 8 behind by itself; then seven more come.
    let mut governed = Governed::new(plan(0.02), Target::Lag(3.0));
    (1..8).for_each(|actor| governed.simulation.leave(actor));
    governed.run(600);
    assert!(
        governed.decision.budget_unrolls <= 16,
        "{:?}",
        governed.decision
    );
    (1..8).for_each(|actor| governed.simulation.join(actor));
    governed.run(150);
    let (lag, _) = governed.run(100);
    assert!((lag - 3.0).abs() < 0.75, "{lag}");
}

#[test]
fn fractions_are_made_by_alternating() {
    let mut owed = 0.0;
    let taken: Vec<f64> = (0..8).map(|_| alternate(2.25, &mut owed)).collect();
    assert_eq!(taken, [2.0, 2.0, 2.0, 3.0, 2.0, 2.0, 2.0, 3.0]);
}

#[test]
fn a_configured_interval_is_never_undercut_and_survives_a_restart() {
    let governor = |interval| Governor::new(Target::Lag(1.0), 2).publishing_at_most_every(interval);
    let mut rare = governor(4);
    assert_eq!(rare.decide().publish_interval, 4);
    for _ in 0..200 {
        let decision = rare.observe(&Observation {
            lag: 50.0,
            ess: 0.9,
            in_flight: 9,
            held: false,
        });
        assert_eq!(decision.publish_interval, 4);
    }
    let mut resumed = governor(6);
    resumed.restore(rare);
    assert_eq!(resumed.decide().publish_interval, 6);
}
