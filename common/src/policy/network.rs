//! The actor-critic network: an encoder and perhaps a recurrent core for the policy and for the value, or for both
//! together; a linear head for the policy and one for the value.

mod heads;

use std::{fmt, sync::Arc};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    nn::Linear,
    tensor::{Device, Int, Tensor},
};

use super::{
    encoder::{self, Encoder, EncoderParameters},
    initialise::Initialiser,
    recurrent::{self, Core},
    statistics::{ObservationStatistics, ValueStatistics},
};
use crate::{
    arrays::ElementType,
    spec::{CriticSpec, NetworkSpec},
};

pub(super) use self::heads::parameter_shapes;
use self::heads::{POLICY_HEAD_GAIN, VALUE_HEAD_GAIN, log_std_shape, policy_outputs};

/// A policy over actions and a state value, with separate torsos or one torso for both.
///
/// The order of the fields is the order of the parameters in a flat buffer; see [`super::layout`].
#[derive(Module, Debug)]
pub struct ActorCritic {
    pub(super) observation_statistics: Option<ObservationStatistics>,
    /// Of the policy, and of the value too if there is no value torso of its own.
    policy_torso: Torso,
    value_torso: Option<Torso>,
    policy_head: Linear,
    /// `[D]`: logarithm of the standard deviations, if no output of the network.
    log_std: Option<Param<Tensor<1>>>,
    /// One output, or one for each action.
    pub(super) value_head: Linear,
    pub(super) value_statistics: Option<ValueStatistics>,
    /// A value of the policy's torso.
    pub(super) auxiliary_value_head: Option<Linear>,
    #[module(skip)]
    plan: Arc<Plan>,
}

/// Encoder and core.
#[derive(Module, Debug)]
pub(super) struct Torso {
    encoder: EncoderParameters,
    core: Option<Core>,
}

/// What of a network is not a parameter.
struct Plan {
    spec: NetworkSpec,
    encoder: Arc<dyn Encoder>,
    /// What observations are multiplied by.
    scale: Option<f32>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(formatter)
    }
}

/// What a network is run over: T steps of B environments, time-major.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Observations [T * B, O].
    pub observations: Tensor<2>,
    /// Steps: T.
    pub length: usize,
    /// Recurrent state [B, S] at the first step, before any reset; `None` for an empty memory.
    pub state: Option<Tensor<2>>,
    /// [T, B]: 0 where the memory is reset before step t, 1 elsewhere; `None` if it never is.
    pub keep: Option<Tensor<2>>,
    /// Steps at the beginning that only warm up the memory: no gradient flows into or through them (R2D2,
    /// Kapturowski et al. 2019).
    pub burn_in: usize,
}

/// What a network gives for a [`Sequence`].
#[derive(Debug, Clone)]
pub struct Unrolled {
    /// Parameters [T * B, P] of the distributions over actions, time-major.
    pub parameters: Tensor<2>,
    /// Values [T * B] of the states; of a critic that estimates those of actions, their means under the policy, all
    /// actions allowed.
    pub values: Tensor<1>,
    /// Values [T * B, A] of the actions, if the critic estimates those.
    pub action_values: Option<Tensor<2>>,
    /// Values [T * B] by the second head, if there is one.
    pub auxiliary_values: Option<Tensor<1>>,
    /// Recurrent states [T * B, S] after each step, time-major; `None` without memory.
    pub states: Option<Tensor<2>>,
}

/// Features for the heads, and the states after each step.
struct Features {
    policy: Tensor<2>,
    value: Tensor<2>,
    states: Option<Tensor<2>>,
}

impl ActorCritic {
    /// A network with orthogonal weights and zero biases, the same for the same `seed` on every device: the
    /// matrices are made on the host.
    ///
    /// Gains are sqrt(2) (ReLU) or 5/3 (tanh) for hidden layers, sqrt(2) for convolutions, 1 for recurrent cores,
    /// 0.01 for the policy head and 1 for the value head. The specification has no [`NetworkSpec::fault`]; with an
    /// encoder that is not registered the features are the observation itself.
    #[must_use]
    pub fn new(spec: &NetworkSpec, seed: u64, device: &Device) -> Self {
        Self::made(spec, &mut Initialiser::seeded(seed, device))
    }

    /// The same with zeros instead of random numbers, for [`super::import_flat`] to fill: large orthogonal matrices
    /// take a second.
    #[must_use]
    pub fn blank(spec: &NetworkSpec, device: &Device) -> Self {
        Self::made(spec, &mut Initialiser::blank(device))
    }

    fn made(spec: &NetworkSpec, initialiser: &mut Initialiser) -> Self {
        let plan = Plan::new(spec);
        let (torso_width, outputs) = (plan.features(), policy_outputs(spec));
        Self {
            observation_statistics: spec.normalise_observations.then(|| {
                let scale = plan.scale.unwrap_or(1.0);
                ObservationStatistics::new(spec.observation.len(), scale, initialiser)
            }),
            policy_torso: Torso::new(&plan, initialiser),
            value_torso: (!spec.shared_torso).then(|| Torso::new(&plan, initialiser)),
            policy_head: initialiser.linear(torso_width, outputs, POLICY_HEAD_GAIN),
            log_std: log_std_shape(spec)
                .map(|shape| initialiser.parameter([outputs], shape.initialisation)),
            value_head: initialiser.linear(torso_width, spec.critic_len(), VALUE_HEAD_GAIN),
            value_statistics: spec.popart.then(|| ValueStatistics::new(initialiser)),
            auxiliary_value_head: spec
                .auxiliary_value
                .then(|| initialiser.linear(torso_width, 1, VALUE_HEAD_GAIN)),
            plan: Arc::new(plan),
        }
    }

    /// Parameters [N, P] of the distributions over actions and values `[N]` for observations [N, O] with raw values
    /// (bytes as 0 to 255). A network with memory starts each row with an empty one; see [`Self::unroll`].
    #[must_use]
    pub fn forward(&self, observations: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let outputs = self.outputs(observations);
        (outputs.parameters, outputs.values)
    }

    /// The same with all other outputs: each row [N, O] is a sequence of its own.
    #[must_use]
    pub fn outputs(&self, observations: Tensor<2>) -> Unrolled {
        self.run(observations, None, None)
    }

    /// Parameters [K, P] of the distributions over actions for observations [K, O], and the recurrent states [K, S]
    /// after this step; the value is not computed.
    ///
    /// `state` is that after the step before, 0 where an episode begins; `None` is 0 everywhere.
    #[must_use]
    pub fn act(
        &self,
        observations: Tensor<2>,
        state: Option<Tensor<2>>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        if !self.remembers() {
            let observations = self.scaled(observations);
            let features = self.policy_torso.encode(&self.plan, observations);
            return (self.distribution_parameters(features), None);
        }
        let features = self.features(observations, state, None);
        (
            self.distribution_parameters(features.policy),
            features.states,
        )
    }

    /// All of a sequence at once, with or without memory.
    #[must_use]
    pub fn unroll(&self, sequence: Sequence) -> Unrolled {
        let Sequence {
            observations,
            length,
            state,
            keep,
            burn_in,
        } = sequence;
        let [rows, _] = observations.dims();
        let batch = rows / length.max(1);
        let keep = keep.map(|keep| keep.reshape([rows, 1]));
        let warm_up = burn_in.min(length) * batch;
        if warm_up == 0 || !self.remembers() {
            return self.run(observations, self.state_or_empty(state, batch), keep);
        }
        let part = |tensor: &Tensor<2>, first: usize, rows: usize| {
            (rows > 0).then(|| tensor.clone().narrow(0, first, rows))
        };
        let cut = |first, rows| keep.as_ref().and_then(|keep| part(keep, first, rows));
        let before = self.valid().run(
            observations
                .clone()
                .narrow(0, 0, warm_up)
                .without_autodiff(),
            self.state_or_empty(state, batch)
                .map(Tensor::without_autodiff),
            cut(0, warm_up).map(Tensor::without_autodiff),
        );
        let Some(rest) = part(&observations, warm_up, rows - warm_up) else {
            return before;
        };
        let state = before.states.as_ref();
        let state = state.map(|states| states.clone().narrow(0, warm_up - batch, batch));
        let after = self.run(rest, state, cut(warm_up, rows - warm_up));
        before.followed_by(after)
    }

    /// Values `[F]` of observations [F, O]: where an episode was cut off, with the recurrent states [F, S] after the
    /// last step, before they were reset; `None` is an empty memory.
    #[must_use]
    pub fn values_after(&self, observations: Tensor<2>, states: Option<Tensor<2>>) -> Tensor<1> {
        if self.plan.spec.critic == CriticSpec::Q {
            // A mean under the policy takes the policy too.
            return self.run(observations, states, None).values;
        }
        let observations = self.scaled(observations);
        let (torso, first) = match &self.value_torso {
            Some(torso) => (torso, self.plan.spec.core.state_len()),
            None => (&self.policy_torso, 0),
        };
        let [rows, _] = observations.dims();
        let len = self.plan.spec.core.state_len();
        let state = self
            .state_or_empty(states, rows)
            .map(|states| states.narrow(1, first, len));
        let features = torso.run(&self.plan, observations, state, None).0;
        self.state_values(&self.value_head, features)
    }

    /// The specification it was made from.
    #[must_use]
    pub fn spec(&self) -> &NetworkSpec {
        &self.plan.spec
    }

    /// Where its parameters are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.value_head.weight.lazy_device()
    }

    /// Ids of the parameters that only the value depends on, for a learning rate of their own.
    #[must_use]
    pub fn value_parameter_ids(&self) -> Vec<ParamId> {
        let mut ids = ParameterIds::default();
        self.value_torso.visit(&mut ids);
        self.value_head.visit(&mut ids);
        ids.0
    }

    /// Ids of all other parameters that are trained: those of the policy, of the torso if it is shared, and of the second
    /// value head.
    #[must_use]
    pub fn policy_parameter_ids(&self) -> Vec<ParamId> {
        let mut ids = ParameterIds::default();
        self.policy_torso.visit(&mut ids);
        self.policy_head.visit(&mut ids);
        self.log_std.visit(&mut ids);
        self.auxiliary_value_head.visit(&mut ids);
        ids.0
    }

    fn remembers(&self) -> bool {
        self.policy_torso.core.is_some()
    }

    /// `state`, or an empty memory [B, S] if there is none; `None` without memory.
    fn state_or_empty(&self, state: Option<Tensor<2>>, batch: usize) -> Option<Tensor<2>> {
        self.remembers().then(|| {
            state.unwrap_or_else(|| {
                let device = self.value_head.weight.device().without_autodiff();
                Tensor::zeros([batch, self.plan.spec.state_len()], &device)
            })
        })
    }

    fn run(
        &self,
        observations: Tensor<2>,
        state: Option<Tensor<2>>,
        keep: Option<Tensor<2>>,
    ) -> Unrolled {
        let features = self.features(observations, state, keep);
        let auxiliary = self.auxiliary_value_head.as_ref();
        let auxiliary_values =
            auxiliary.map(|head| self.state_values(head, features.policy.clone()));
        let parameters = self.distribution_parameters(features.policy);
        let critic = self.critic(&parameters, features.value);
        Unrolled {
            parameters,
            values: critic.values,
            action_values: critic.action_values,
            auxiliary_values,
            states: features.states,
        }
    }

    /// Features for both heads. Rows of `state` [B, S] are the environments; `keep` is [T * B, 1].
    fn features(
        &self,
        observations: Tensor<2>,
        state: Option<Tensor<2>>,
        keep: Option<Tensor<2>>,
    ) -> Features {
        let [rows, _] = observations.dims();
        let observations = self.scaled(observations);
        let len = self.plan.spec.core.state_len();
        let state = self.state_or_empty(state, rows);
        let own = |first| state.clone().map(|state| state.narrow(1, first, len));
        let plan = &self.plan;
        let Some(value_torso) = &self.value_torso else {
            let (policy, states) = self.policy_torso.run(plan, observations, state, keep);
            return Features {
                value: policy.clone(),
                policy,
                states,
            };
        };
        let (policy, policy_states) =
            self.policy_torso
                .run(plan, observations.clone(), own(0), keep.clone());
        let (value, value_states) = value_torso.run(plan, observations, own(len), keep);
        let states = policy_states.zip(value_states);
        Features {
            policy,
            value,
            states: states.map(|(policy, value)| Tensor::cat(vec![policy, value], 1)),
        }
    }

    /// Observations as the encoder takes them.
    fn scaled(&self, observations: Tensor<2>) -> Tensor<2> {
        match (&self.observation_statistics, self.plan.scale) {
            (Some(statistics), _) => statistics.normalised(observations),
            (None, Some(scale)) => observations.mul_scalar(scale),
            (None, None) => observations,
        }
    }
}

impl Unrolled {
    /// Its rows `rows` `[N]`.
    #[must_use]
    pub fn select(self, rows: &Tensor<1, Int>) -> Self {
        let matrix = |tensor: Tensor<2>| tensor.select(0, rows.clone());
        let vector = |tensor: Tensor<1>| tensor.select(0, rows.clone());
        Self {
            parameters: matrix(self.parameters),
            values: vector(self.values),
            action_values: self.action_values.map(matrix),
            auxiliary_values: self.auxiliary_values.map(vector),
            states: self.states.map(matrix),
        }
    }

    /// These rows and then those of `after`, which the same network gave.
    #[must_use]
    pub fn followed_by(self, after: Self) -> Self {
        Self {
            parameters: Tensor::cat(vec![self.parameters, after.parameters], 0),
            values: Tensor::cat(vec![self.values, after.values], 0),
            action_values: joined(self.action_values, after.action_values),
            auxiliary_values: joined(self.auxiliary_values, after.auxiliary_values),
            states: joined(self.states, after.states),
        }
    }
}

/// Two tensors one after the other, if there are any.
fn joined<const D: usize>(
    before: Option<Tensor<D>>,
    after: Option<Tensor<D>>,
) -> Option<Tensor<D>> {
    let both = before.zip(after);
    both.map(|(before, after)| Tensor::cat(vec![before, after], 0))
}

impl Torso {
    fn new(plan: &Plan, initialiser: &mut Initialiser) -> Self {
        let observation = &plan.spec.observation;
        let encoder = EncoderParameters::new(plan.encoder.parameters(observation), initialiser);
        let inputs = plan.encoder.output_len(observation);
        Self {
            encoder,
            core: Core::new(plan.spec.core, inputs, initialiser),
        }
    }

    fn encode(&self, plan: &Plan, observations: Tensor<2>) -> Tensor<2> {
        let observation = &plan.spec.observation;
        plan.encoder
            .forward(observations, observation, &self.encoder)
    }

    /// Features [T * B, F] and the states [T * B, S] after each step.
    fn run(
        &self,
        plan: &Plan,
        observations: Tensor<2>,
        state: Option<Tensor<2>>,
        keep: Option<Tensor<2>>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let features = self.encode(plan, observations);
        match (&self.core, state) {
            (Some(core), Some(state)) => {
                let output = core.unroll(features, state, keep);
                (output.features, Some(output.states))
            }
            _ => (features, None),
        }
    }
}

impl Plan {
    fn new(spec: &NetworkSpec) -> Self {
        let high = spec.observation.bounds[1];
        let scaled = spec.observation.element == ElementType::U8 && high > 1.0;
        Self {
            spec: spec.clone(),
            encoder: encoder::resolve(spec).unwrap_or_else(encoder::identity),
            scale: scaled.then(|| high.recip()),
        }
    }

    /// Features that go into the heads.
    fn features(&self) -> usize {
        let inputs = self.encoder.output_len(&self.spec.observation);
        recurrent::output_len(self.spec.core, inputs)
    }
}

#[derive(Default)]
struct ParameterIds(Vec<ParamId>);

impl ModuleVisitor for ParameterIds {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.0.push(parameter.id);
    }
}
