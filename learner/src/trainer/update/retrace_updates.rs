//! Whole updates with the critic "retrace".

use burn::tensor::Tensor;
use springbok_common::{policy::categorical, spec::ActionSpec, step::StepOutcome};

use super::{
    scripted::{batch, material, parameters, updater},
    *,
};

const CHOICES: u32 = 4;

fn updaters(sets: &[&str]) -> Vec<Updater> {
    [
        &["policy.shared_torso=true"][..],
        &["policy.core=gru", "policy.core_size=5"],
        &["policy.popart=true"],
    ]
    .map(|more| {
        let sets = [&["algorithm.critic=retrace"], sets, more].concat();
        updater(ActionSpec::Discrete(CHOICES), &sets)
    })
    .into()
}

/// Without traces the target is that of expected Sarsa, r + gamma E_pi Q(x'), and the advantage is measured from
/// E_pi Q(x); means are taken here on the host, of a network that is run row by row.
#[test]
fn without_traces_it_is_expected_sarsa() {
    let sets = [
        "algorithm.lambda=0",
        "algorithm.gamma=0.9",
        "algorithm.advantage_normalisation=none",
    ];
    for updater in updaters(&sets) {
        let batch = batch(&updater, 3, 0.7);
        let arrival = updater.evaluate(&updater.stage(&batch));
        let targets = updater.targets(&material(&updater, &batch), &arrival);
        let reached = batch.next_values(&arrival.values);
        let pass = updater.pass(
            &burn::module::Module::valid(&updater.learnt.model),
            &updater.stage(&batch),
        );
        let all = pass.action_values.unwrap();
        let means =
            categorical::expectation(categorical::log_probs(pass.parameters, None), all.clone());
        let means = staged::read(means);
        let all = staged::read(all.flatten(0, 1));
        let springbok_common::arrays::ActionsRef::Indices(actions) = batch.actions.as_ref() else {
            panic!("a discrete action")
        };
        for step in 0..batch.steps() {
            let future = match batch.outcomes[step] {
                StepOutcome::Terminated => 0.0,
                _ => 0.9 * reached[step],
            };
            let target = batch.rewards[step] + future;
            let value = means[step];
            let taken = all[step * CHOICES as usize + actions[step] as usize];
            let close = |got: f32, expected: f32| (got - expected).abs() < 1e-5;
            assert!(close(targets.values[step], target), "{step}");
            assert!(close(targets.advantages[step], target - value), "{step}");
            assert!(close(arrival.values[step], value), "{step}");
            assert!(close(arrival.predictions(batch.steps())[step], taken));
        }
    }
}

#[test]
fn the_values_of_the_taken_actions_are_learnt_and_the_better_action_is_preferred() {
    for mut updater in updaters(&["algorithm.gamma=0"]) {
        let before = parameters(&updater);
        let mut losses = Vec::new();
        for round in 0..60 {
            let batch = batch(&updater, round, 0.1);
            losses.push(updater.update(&batch, 1.0).unwrap().value_loss);
        }
        assert_ne!(before, parameters(&updater));
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < 0.3 * first, "{losses:?}");
        // Action 1 is the one that is rewarded: its value is told apart from the others' in the same states.
        let batch = batch(&updater, 99, 0.0);
        let model = burn::module::Module::valid(&updater.learnt.model);
        let pass = updater.pass(&model, &updater.stage(&batch));
        let mean = |tensor: Tensor<2>, action: usize| {
            tensor.narrow(1, action, 1).mean().into_scalar::<f32>()
        };
        let values = pass.action_values.unwrap();
        assert!(mean(values.clone(), 1) > mean(values, 2) + 0.5);
        let probabilities = burn::tensor::activation::softmax(pass.parameters, 1);
        assert!(mean(probabilities, 1) > 0.5);
    }
}
