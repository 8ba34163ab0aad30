//! The policy at work for many actors: one forward pass over the rows of a batch, then actions sampled on the host.

use burn::tensor::{Device, Tensor, TensorData};
use springbok_common::{
    acting::ActedParts,
    arrays::{Actions, ElementsRef},
    policy::{ActorCritic, DistributionKind, ParametersError, import_flat},
    snapshot::ParameterSnapshot,
    spec::{ActionSpec, NetworkSpec},
    unroll::Served,
    version::PolicyVersion,
};

use super::{ActFault, Ask};
use crate::device;

/// A policy with the parameters that were loaded last. It remembers nothing: memories travel with the requests.
pub(super) struct BatchPolicy {
    device: Device,
    policy: ActorCritic,
    network: NetworkSpec,
    distribution: DistributionKind,
    version: PolicyVersion,
    scratch: Vec<f64>,
}

impl BatchPolicy {
    /// A policy of this shape; [`Self::load`] gives it its parameters.
    pub(super) fn new(network: &NetworkSpec, device: Device) -> Self {
        Self {
            policy: ActorCritic::new(network, 0, &device),
            device,
            distribution: DistributionKind::of(network),
            network: network.clone(),
            version: PolicyVersion::default(),
            scratch: Vec::new(),
        }
    }

    /// Acts with these parameters from the next batch on.
    ///
    /// # Errors
    /// They do not fit the network; the old ones stay.
    pub(super) fn load(&mut self, snapshot: &ParameterSnapshot) -> Result<(), ParametersError> {
        self.policy = import_flat(self.policy.clone(), snapshot.payload())?;
        self.version = snapshot.version();
        Ok(())
    }

    /// One answer for each of `asks`, all from the same pass over their rows [N, O]; moves the memories on.
    pub(super) fn act(&mut self, asks: &mut [Ask]) -> Vec<Result<ActedParts, ActFault>> {
        for ask in asks.iter_mut() {
            ask.seat.forget(&ask.observed.parts().outcomes);
        }
        let (parameters, states) = self.forward(asks);
        let (parameters, states) = match (numbers(&parameters), states.as_ref().map(numbers)) {
            (Ok(parameters), None) => (parameters, None),
            (Ok(parameters), Some(Ok(states))) => (parameters, Some(states)),
            (Err(fault), _) | (_, Some(Err(fault))) => {
                return asks.iter().map(|_| Err(fault.clone())).collect();
            }
        };
        let mut first = 0;
        asks.iter_mut()
            .map(|ask| {
                let rows = first..first + ask.seat.generators.len();
                first = rows.end;
                let of = |len: usize| rows.start * len..rows.end * len;
                let before = if ask.observed.parts().wants_states {
                    ask.seat.states.clone()
                } else {
                    Vec::new()
                };
                if let Some(states) = states {
                    let own = &states[of(self.network.state_len())];
                    ask.seat.states.copy_from_slice(own);
                }
                self.sample(
                    ask,
                    &parameters[of(self.network.distribution_len())],
                    before,
                )
            })
            .collect()
    }

    /// The distributions' parameters [N, P] and the states after the step [N, S].
    fn forward(&self, asks: &[Ask]) -> (TensorData, Option<TensorData>) {
        let rows = asks.iter().map(|ask| ask.seat.generators.len()).sum();
        let (width, state_len) = (self.network.observation.len(), self.network.state_len());
        let mut shown = Vec::with_capacity(rows * width);
        let mut states = Vec::with_capacity(rows * state_len);
        for ask in asks {
            match ask.observed.parts().observations.as_ref() {
                ElementsRef::F32(values) => shown.extend_from_slice(values),
                bytes => shown.extend_from_slice(&bytes.to_f32()),
            }
            states.extend_from_slice(&ask.seat.states);
        }
        let shown = TensorData::new(shown, [rows, width]);
        let shown = Tensor::<2>::from_data(shown, &self.device);
        let state = (state_len > 0).then(|| {
            let states = TensorData::new(states, [rows, state_len]);
            Tensor::<2>::from_data(states, &self.device)
        });
        let (parameters, state) = self.policy.act(shown, state);
        let numbers = (parameters.into_data(), state.map(Tensor::into_data));
        // What a lost device answers is nothing that anybody should do.
        device::insist(&self.device);
        numbers
    }

    /// Draws the actions of one request from its distributions' `parameters` [K, P].
    fn sample(
        &mut self,
        ask: &mut Ask,
        parameters: &[f32],
        states: Vec<f32>,
    ) -> Result<ActedParts, ActFault> {
        let environments = ask.seat.generators.len();
        let (action_len, mask_len) = (self.network.action.len(), self.network.action.choices());
        let mut actions = match &self.network.action {
            ActionSpec::Box { .. } => Actions::Values(vec![0.0; environments * action_len]),
            _ => Actions::Indices(vec![0; environments * action_len]),
        };
        let mut log_probs = Vec::with_capacity(environments);
        let masks = &ask.observed.parts().action_masks;
        let rows = parameters.chunks_exact(self.network.distribution_len());
        for (index, (row, generator)) in rows.zip(&mut ask.seat.generators).enumerate() {
            let mask = masks.get(index * mask_len..(index + 1) * mask_len);
            let mut all = actions.as_mut();
            let mut own = all.slice(index * action_len..(index + 1) * action_len);
            let log_prob = self
                .distribution
                .sample(
                    row,
                    mask.unwrap_or_default(),
                    generator,
                    &mut own,
                    &mut self.scratch,
                )
                .ok_or(ActFault::NonFinite {
                    version: self.version,
                })?;
            log_probs.push(log_prob);
        }
        Ok(ActedParts {
            // When it was is for the edge to say, which has the clock.
            served: Served {
                newest: self.version,
                issued_us: 0,
            },
            actions,
            log_probs,
            states,
        })
    }
}

fn numbers(output: &TensorData) -> Result<&[f32], ActFault> {
    output
        .as_slice::<f32>()
        .map_err(|error| ActFault::Output(format!("{error:?}")))
}
