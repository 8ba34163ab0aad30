//! Which settings of the algorithm go together.

use crate::{
    config::tests::{only_fault, with},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

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
            &["algorithm.critic=retrace", "algorithm.c_bar=0.5"],
            "cuts its traces at 1",
        ),
        (
            &["algorithm.objective=trust_region", "algorithm.epochs=2"],
            "one step a batch",
        ),
        (
            &[
                "algorithm.objective=trust_region",
                "algorithm.policy_learning_rate=0.001",
            ],
            "bounds its step",
        ),
        (
            &["algorithm.objective=trust_region", "algorithm.kl_stop=1"],
            "no further pass",
        ),
        (
            &["algorithm.objective=trust_region", "algorithm.ratio=dual"],
            "clips no ratio",
        ),
        (
            &["algorithm.trust_region_kl_max=0.1"],
            "trust_region_kl_max",
        ),
        (
            &["algorithm.trust_region_damping=1"],
            "trust_region_damping",
        ),
        (&["algorithm.trust_region_cg_iterations=5"], "cg_iterations"),
        (&["algorithm.trust_region_fisher_stride=5"], "fisher_stride"),
        (&["algorithm.trust_region_critic_epochs=3"], "critic_epochs"),
        (&["algorithm.ppg_policy_updates=8"], "ppg_policy_updates"),
        (&["algorithm.ppg_auxiliary_epochs=9"], "auxiliary_epochs"),
        (&["algorithm.ppg_beta_clone=2"], "ppg_beta_clone"),
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
            &["algorithm.objective=a2c", "algorithm.epochs=4"][..],
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
        (
            &[
                "algorithm.objective=trust_region",
                "policy.shared_torso=true",
            ],
            "a step of its own",
        ),
        (
            &["algorithm.objective=ppg", "policy.shared_torso=true"],
            "teaches the policy's torso",
        ),
        (
            &["algorithm.objective=ppg", "algorithm.critic=retrace"],
            "values of states",
        ),
        (
            &[
                "algorithm.objective=trust_region",
                "algorithm.trust_region_kl_max=0",
            ],
            "trust_region_kl_max",
        ),
        (
            &[
                "algorithm.objective=trust_region",
                "algorithm.trust_region_critic_epochs=0",
            ],
            "trust_region_critic_epochs",
        ),
        (
            &["algorithm.objective=ppg", "algorithm.ppg_policy_updates=0"],
            "ppg_policy_updates",
        ),
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
            &["learner.reuse=2", "run.deterministic=true"],
            "versions that none are due for",
        ),
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
    let a2c = ["algorithm.objective=a2c", "algorithm.critic=vtrace"];
    assert!(advice(&a2c).contains("weighted_pg"));
    let reused = ["algorithm.ratio=proximal", "learner.reuse=2"];
    assert!(advice(&reused).contains("every batch stale"));
    assert!(advice(&["learner.reuse=2", "learner.reservoir_batches=4"]).is_empty());
}

/// What a choice of objective or critic asks of the environment's action and of the epochs.
#[test]
fn values_of_actions_are_for_one_discrete_action_without_masks() {
    let config = with(&["algorithm.critic=retrace"]).unwrap().config;
    let environment = |action| {
        let observation = ObservationSpec::floats([2], [-1.0, 1.0]);
        EnvironmentSpec::new("E", observation, action)
    };
    assert_eq!(
        config.check_against(&environment(ActionSpec::Discrete(3))),
        Ok(())
    );
    for (environment, named) in [
        (
            environment(ActionSpec::MultiDiscrete(vec![2, 2])),
            "one discrete action",
        ),
        (
            environment(ActionSpec::Box {
                low: vec![0.0],
                high: vec![1.0],
            }),
            "one discrete action",
        ),
        (
            environment(ActionSpec::Discrete(3)).with_action_mask(),
            "masks its actions",
        ),
    ] {
        let error = config.check_against(&environment).unwrap_err();
        assert_eq!(error.faults().len(), 1, "{error}");
        assert!(error.faults()[0].contains(named), "{error}");
    }
}

#[test]
fn phasic_policy_gradient_is_advised_one_pass_and_normalised_values() {
    let advice = |more: &[&str]| {
        let sets = [&["algorithm.objective=ppg"], more].concat();
        with(&sets).unwrap().config.advice()
    };
    let both = advice(&["algorithm.epochs=4"]);
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both[0].contains("1 pass"), "{both:?}");
    assert!(both[1].contains("normalise_rewards"), "{both:?}");
    for normalised in ["algorithm.normalise_rewards=true", "policy.popart=true"] {
        assert!(advice(&["algorithm.epochs=1", normalised]).is_empty());
    }
}
