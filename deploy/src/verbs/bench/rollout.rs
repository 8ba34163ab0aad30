//! An actor's work: inference, and whole unrolls.

use std::time::Duration;

use burn::tensor::{Device, Tensor, TensorData};
use springbok_actor::rollout::{Order, Rollout};
use springbok_common::{
    arrays::Actions,
    policy::ActorCritic,
    spec::ActionSpec,
    unroll::{Unroll, UnrollParts},
};

use super::{
    bare::BareActor,
    stage::{Cases, Loops, Note, Stage, repeat},
    subject::Subject,
};
use crate::exit::Failure;

/// Inference beside the bare forward, an unroll beside the bare loop of environments and inference.
pub(super) fn cases(subject: &Subject) -> Cases {
    Ok(vec![
        Box::new(inference(subject)?),
        Box::new(Unrolls::new(subject)?),
    ])
}

/// [`springbok_actor::inference::Inference::act`] beside the forward that it contains.
fn inference(subject: &Subject) -> Result<Loops, Failure> {
    let columns = subject.agreement.rollout.environments;
    let network = &subject.agreement.network;
    let vector = subject.vector()?;
    let mut inference = subject.inference()?;
    let mut actions = buffer(&network.action, columns);
    let mut log_probs = vec![0.0; columns];
    let policy = ActorCritic::new(network, subject.config.run.seed, &Device::flex());
    let state = vec![0.0_f32; columns * network.state_len()];
    let shape = [columns, network.observation.len()];
    let observations = TensorData::new(vector.observations().to_f32(), shape);
    let observations = Tensor::<2>::from_data(observations, &Device::flex());
    let state = (!state.is_empty()).then(|| {
        let state = TensorData::new(state, [columns, network.state_len()]);
        Tensor::<2>::from_data(state, &Device::flex())
    });
    Ok(Loops {
        case: "inference".to_owned(),
        unit: "steps/s",
        against: "the forward of the same network alone",
        ours: Box::new(move || {
            inference
                .act(
                    vector.observations(),
                    vector.action_masks(),
                    actions.as_mut(),
                    &mut log_probs,
                )
                .map_err(Failure::internal)?;
            Ok(columns as f64)
        }),
        ceiling: Box::new(move || {
            let (parameters, _) = policy.act(observations.clone(), state.clone());
            std::hint::black_box(parameters.into_data());
            Ok(columns as f64)
        }),
    })
}

/// Unrolls in reused buffers, beside environments and inference without an unroll.
struct Unrolls {
    rollout: Rollout,
    order: Order,
    spare: Option<UnrollParts>,
    bare: BareActor,
    /// Microseconds of the last slice: in all, in inference, in environments.
    spent: [u64; 3],
}

impl Unrolls {
    fn new(subject: &Subject) -> Result<Self, Failure> {
        Ok(Self {
            rollout: subject.rollout()?,
            order: subject.order(1),
            spare: None,
            bare: BareActor::new(subject)?,
            spent: [0; 3],
        })
    }
}

impl Stage for Unrolls {
    fn case(&self) -> String {
        "unrolls".to_owned()
    }

    fn unit(&self) -> &'static str {
        "steps/s"
    }

    fn against(&self) -> &'static str {
        "the bare loop of environments and inference"
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        let (rollout, spare) = (&mut self.rollout, &mut self.spare);
        self.spent = [0; 3];
        let spent = &mut self.spent;
        repeat(slice, || {
            let filled = rollout.fill(self.order, spare.take(), &mut || false);
            let filled = filled.map_err(Failure::internal)?;
            let steps = filled.as_ref().map_or(0, Unroll::steps);
            *spare = filled.map(Unroll::into_parts);
            if let Some(timing) = spare.as_ref().map(|parts| parts.timing) {
                spent[0] += timing.rollout_us;
                spent[1] += timing.inference_us;
                spent[2] += timing.environment_us;
            }
            Ok(steps as f64)
        })
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        repeat(slice, || self.bare.unroll())
    }

    /// Where the time of the last slice went.
    fn notes(&self) -> Vec<Note> {
        let [all, inference, environments] = self.spent;
        let share = |part: u64| part as f64 / all.max(1) as f64;
        vec![
            ("share of inference".to_owned(), share(inference)),
            ("share of environments".to_owned(), share(environments)),
        ]
    }
}

/// Room for `rows` actions.
pub(super) fn buffer(action: &ActionSpec, rows: usize) -> Actions {
    let len = rows * action.len();
    match action {
        ActionSpec::Box { .. } => Actions::Values(vec![0.0; len]),
        ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => Actions::Indices(vec![0; len]),
    }
}
