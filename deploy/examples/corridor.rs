//! An environment and a network of one's own, with the whole command line around them:
//!
//! ```sh
//! cargo run --release --example corridor -- train --env Corridor-v0 --set policy.encoder=fourier --stop-return 0.8
//! cargo run --release --example corridor -- eval runs/Corridor-v0-s1-...
//! cargo run --release --example corridor -- envs check Corridor-v0
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;

use burn::tensor::Tensor;
use springbok_actor::environment::{Environment, EnvironmentError, Step, options::Options};
use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    policy::{Encoder, EncoderParameters, Initialisation, ParameterShape},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

#[global_allocator]
static ALLOCATOR: springbok::Allocator = springbok::Allocator;

const ID: &str = "Corridor-v0";
const LEFT: u32 = 0;
const RIGHT: u32 = 1;
const STEP_REWARD: f32 = -0.02;
const ARRIVAL_REWARD: f32 = 1.0;

/// A corridor with the pay at its right end. At its left end there is a wall, so going left is not allowed there.
struct Corridor {
    spec: EnvironmentSpec,
    fields: u32,
    field: u32,
}

impl Corridor {
    /// Option `fields`: steps from the wall to the pay, 2 to 100 (10).
    fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        let options = Options::new(ID, options, &["fields"])?;
        let fields = options.integer("fields", 10, 2..=100)?;
        let observation = ObservationSpec::floats([1], [0.0, 1.0]);
        let spec = EnvironmentSpec::new(ID, observation, ActionSpec::Discrete(2))
            .with_action_mask()
            .with_steps_max(5 * fields); // enforced for it, as a truncation
        Ok(Self {
            spec,
            fields,
            field: 0,
        })
    }

    fn show(&self, mut observation: ElementsMut<'_>) {
        observation
            .f32()
            .fill(self.field as f32 / self.fields as f32);
    }
}

impl Environment for Corridor {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, _seed: Option<u64>, observation: ElementsMut<'_>) {
        self.field = 0;
        self.show(observation);
    }

    fn step(&mut self, action: ActionsRef<'_>, observation: ElementsMut<'_>) -> Step {
        match action.index() {
            RIGHT => self.field += 1,
            _ => self.field = self.field.saturating_sub(1),
        }
        self.show(observation);
        if self.field == self.fields {
            Step::new(ARRIVAL_REWARD, true)
        } else {
            Step::new(STEP_REWARD, false)
        }
    }

    fn action_mask(&self, mask: &mut [u8]) {
        mask.fill(1);
        mask[LEFT as usize] = u8::from(self.field > 0);
    }
}

/// Fourier features cos(x W + b) with frequencies W and phases b that are learnt (after Rahimi and Recht 2007, where
/// they are random).
struct Fourier {
    features: usize,
}

impl Encoder for Fourier {
    fn parameters(&self, observation: &ObservationSpec) -> Vec<ParameterShape> {
        let frequencies = Initialisation::Orthogonal { gain: 20.0 };
        vec![
            ParameterShape::new(
                "frequencies",
                [observation.len(), self.features],
                frequencies,
            ),
            ParameterShape::new("phases", [self.features], Initialisation::Constant(0.8)),
        ]
    }

    fn output_len(&self, _observation: &ObservationSpec) -> usize {
        self.features
    }

    fn forward(
        &self,
        observations: Tensor<2>,
        _observation: &ObservationSpec,
        parameters: &EncoderParameters,
    ) -> Tensor<2> {
        let frequencies = parameters.get::<2>("frequencies");
        let phases = parameters.get::<1>("phases");
        (observations.matmul(frequencies) + phases.unsqueeze()).cos()
    }
}

fn main() -> ExitCode {
    springbok::Launcher::new()
        .environment(
            ID,
            "walk right to be paid; 0.82 is the best return",
            Corridor::from_options,
        )
        .encoder("fourier", Fourier { features: 32 })
        .main()
}
