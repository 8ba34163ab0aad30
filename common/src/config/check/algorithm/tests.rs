//! Which settings of the algorithm go together.

use crate::config::tests::{only_fault, with};

#[test]
fn a_key_that_nothing_reads_is_a_fault() {
    for (sets, named) in [
        (&["algorithm.weight_bar=2"][..], "the ratio \"behaviour\""),
        (
            &[
                "algorithm.weight_bar=2",
                "algorithm.objective=a2c",
                "algorithm.epochs=1",
            ],
            "the objective \"a2c\"",
        ),
        (
            &[
                "algorithm.weight_bar=2",
                "algorithm.objective=mdpo",
                "algorithm.staleness_weight=false",
            ],
            "the objective \"mdpo\" as it is set has no weight",
        ),
        (
            &["algorithm.objective=mdpo", "algorithm.ratio=dual"],
            "clips no ratio",
        ),
        (
            &["algorithm.objective=mdpo", "algorithm.clip_epsilon=0.1"],
            "clip_epsilon",
        ),
        (
            &[
                "algorithm.objective=mdpo",
                "algorithm.clip_range=reciprocal",
            ],
            "clip_range",
        ),
        (
            &["algorithm.objective=mdpo", "algorithm.dual_clip=3"],
            "dual_clip",
        ),
        (
            &["algorithm.ratio=dual", "algorithm.dual_clip=3"],
            "takes the gradient away",
        ),
        (
            &["algorithm.ratio=dual", "algorithm.ratio_clamp=20"],
            "takes the gradient away",
        ),
        (
            &["algorithm.objective=mdpo", "algorithm.ratio_clamp=20"],
            "ratio_clamp",
        ),
        (&["algorithm.target_refresh_updates=3"], "no target network"),
        (&["algorithm.target_ratio_bar=none"], "no target network"),
        (
            &["algorithm.staleness_weight=false"],
            "the ratio \"proximal\" for an unweighted clip",
        ),
        (&["algorithm.kl_coefficient=2"], "penalises no divergence"),
        (&["algorithm.kl_direction=reverse"], "kl_direction"),
        (
            &["algorithm.kl_direction=reverse", "algorithm.objective=mdpo"],
            "kl_direction",
        ),
        (&["algorithm.kl_target=0.02"], "kl_target"),
        (&["algorithm.kl_adaptation=rllib"], "kl_adaptation"),
        (
            &[
                "algorithm.objective=kl_penalty",
                "algorithm.kl_adaptation=fixed",
                "algorithm.kl_target=0.02",
            ],
            "adapts nothing",
        ),
        (&["algorithm.mdpo_schedule=inverse_step"], "mdpo_schedule"),
        (
            &["algorithm.critic=gae", "algorithm.rho_bar=2"],
            "algorithm.rho_bar",
        ),
        (
            &["algorithm.critic=gae", "algorithm.c_bar=0.5"],
            "algorithm.c_bar",
        ),
        (
            &["algorithm.critic=n_step", "algorithm.pg_target=vs"],
            "pg_target",
        ),
        (
            &["algorithm.critic=n_step", "algorithm.lambda=1"],
            "mixes no returns",
        ),
        (&["algorithm.n_step=3"], "the critic is \"vtrace\""),
        (
            &["learner.reservoir_batches=4"],
            "nothing is trained on again",
        ),
    ] {
        let fault = only_fault(sets);
        assert!(fault.contains(named), "{sets:?}: {fault}");
    }
}

#[test]
fn ranges_and_contradictions_are_faults() {
    for (sets, named) in [
        (
            &["algorithm.objective=a2c"][..],
            "account for its own earlier",
        ),
        (
            &["algorithm.objective=weighted_pg", "algorithm.epochs=2"],
            "algorithm.epochs",
        ),
        (
            &["algorithm.kl_stop=0.01", "algorithm.epochs=1"],
            "no further pass",
        ),
        (&["algorithm.kl_stop=0"], "algorithm.kl_stop"),
        (&["algorithm.dual_clip=1"], "above 1"),
        (&["algorithm.ratio_clamp=0.05"], "above 1"),
        (
            &["algorithm.n_step=0", "algorithm.critic=n_step"],
            "algorithm.n_step",
        ),
        (
            &["algorithm.kl_coefficient=0", "algorithm.objective=mdpo"],
            "kl_coefficient",
        ),
        (
            &["algorithm.kl_target=0", "algorithm.objective=kl_penalty"],
            "kl_target",
        ),
        (
            &[
                "algorithm.target_refresh_updates=0",
                "algorithm.ratio=target_network",
            ],
            "target_refresh",
        ),
        (
            &[
                "algorithm.target_ratio_bar=0",
                "algorithm.ratio=target_network",
            ],
            "target_ratio_bar",
        ),
        (&["learner.reuse=0"], "learner.reuse"),
        (
            &["learner.reservoir_batches=0"],
            "learner.reservoir_batches",
        ),
    ] {
        let fault = only_fault(sets);
        assert!(fault.contains(named), "{sets:?}: {fault}");
    }
}

#[test]
fn every_method_can_be_switched_on() {
    for sets in [
        &["ratio=decoupled", "weight_bar=none"][..],
        &[
            "clip_range=reciprocal",
            "clip_epsilon=0.1",
            "ratio_clamp=20",
        ],
        &[
            "ratio=target_network",
            "target_refresh_updates=8",
            "target_ratio_bar=none",
            "weight_bar=2",
        ],
        &[
            "ratio=target_network",
            "staleness_weight=false",
            "clip_range=reciprocal",
            "dual_clip=3",
        ],
        &[
            "objective=kl_penalty",
            "kl_direction=reverse",
            "kl_target=0.02",
            "kl_adaptation=rllib",
        ],
        &[
            "objective=kl_penalty",
            "kl_adaptation=fixed",
            "kl_coefficient=3",
            "weight_bar=2",
        ],
        &[
            "objective=mdpo",
            "mdpo_schedule=inverse_step",
            "kl_coefficient=2",
            "kl_stop=0.1",
        ],
        &[
            "objective=weighted_pg",
            "weight_bar=none",
            "epochs=1",
            "critic=n_step",
            "n_step=1",
        ],
        &[
            "objective=a2c",
            "epochs=1",
            "minibatches=1",
            "critic=gae",
            "lambda=1.0",
        ],
    ] {
        let sets: Vec<String> = sets.iter().map(|set| format!("algorithm.{set}")).collect();
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        assert!(with(&sets).unwrap().advice.is_empty(), "{sets:?}");
    }
}

#[test]
fn uncorrected_objectives_are_advised_against_what_makes_them_wrong() {
    let advice = |sets: &[&str]| with(sets).unwrap().advice.join(" ");
    let a2c = ["algorithm.objective=a2c", "algorithm.epochs=1"];
    assert!(advice(&a2c).contains("weighted_pg"));
    let reused = ["algorithm.ratio=proximal", "learner.reuse=2"];
    assert!(advice(&reused).contains("every batch stale"));
    assert!(advice(&["learner.reuse=2", "learner.reservoir_batches=4"]).is_empty());
}
