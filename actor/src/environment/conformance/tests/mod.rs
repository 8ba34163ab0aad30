//! Faults planted in environments and vectors that are otherwise right.

mod vectors;

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec},
    step::StepOutcome,
};

use super::*;
use crate::environment::{Environment, Registry, Step};

/// A built-in environment with one fault planted, which shows after 20 steps at the latest.
struct Faulty {
    inner: Box<dyn Environment>,
    spec: EnvironmentSpec,
    fault: Fault,
    /// Since the last seed.
    steps: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Unwritten,
    UnwrittenAtReset,
    ReadsTheRow,
    NotANumber,
    OutOfBounds,
    Reward,
    SpecChanges,
    IgnoresTheSeed,
    KeepsState,
    NoActions,
    Void,
    MaskUnwritten,
    MaskForbidsAll,
    HurtsWhereMasked,
    FrameTooShort,
    FrameKeepsOld,
}

fn made(id: &str, options: &str) -> Box<dyn Environment> {
    let options = options.parse().unwrap();
    Registry::built_in().make(id, &options).unwrap()
}

impl Environment for Faulty {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if seed.is_some() && self.fault != Fault::KeepsState {
            self.steps = 0;
        }
        let seed = seed.filter(|_| self.fault != Fault::IgnoresTheSeed);
        let before = observation.as_ref().to_owned();
        self.inner.reset(seed, observation.reborrow());
        if self.fault == Fault::UnwrittenAtReset {
            restore(&mut observation, before.as_ref(), 2);
        }
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        self.steps += 1;
        let before = observation.as_ref().to_owned();
        let mut mask = [1; 4];
        self.inner.action_mask(&mut mask);
        let forbidden = mask[action.index() as usize] == 0;
        let mut step = self.inner.step(action, observation.reborrow());
        let late = self.steps >= 20;
        match self.fault {
            Fault::Unwritten if late => restore(&mut observation, before.as_ref(), 1),
            Fault::ReadsTheRow => observation.f32()[2] += before.as_ref().to_f32()[2],
            Fault::NotANumber if late => observation.f32()[3] = f32::INFINITY,
            Fault::OutOfBounds if late => observation.f32()[0] = 101.0,
            Fault::Reward if late => step.reward = f32::NAN,
            Fault::SpecChanges if late => self.spec.action = ActionSpec::Discrete(3),
            Fault::KeepsState => step.reward += self.steps as f32,
            Fault::Void if late => step.outcome = StepOutcome::Void,
            Fault::HurtsWhereMasked if forbidden => step.reward = f32::INFINITY,
            _ => {}
        }
        step
    }

    fn action_mask(&self, mask: &mut [u8]) {
        let before = mask[3];
        self.inner.action_mask(mask);
        match self.fault {
            Fault::MaskUnwritten => mask[3] = before,
            Fault::MaskForbidsAll if self.steps >= 20 => mask.fill(0),
            _ => {}
        }
    }

    fn render(&self, frame: &mut Frame) -> bool {
        let before = frame.clone();
        self.inner.render(frame);
        match self.fault {
            Fault::FrameTooShort => drop(frame.rgb.pop()),
            Fault::FrameKeepsOld if before.width > 0 => frame.rgb[0] = before.rgb[0],
            _ => {}
        }
        true
    }
}

/// Puts back what one element held before.
fn restore(observation: &mut ElementsMut<'_>, before: ElementsRef<'_>, element: usize) {
    match (observation, before) {
        (ElementsMut::F32(row), ElementsRef::F32(before)) => row[element] = before[element],
        (ElementsMut::U8(row), ElementsRef::U8(before)) => row[element] = before[element],
        _ => {}
    }
}

fn checked(inner: Box<dyn Environment>, fault: Fault) -> Result<Report, ConformanceFault> {
    let mut spec = inner.spec().clone();
    if spec.id == "CartPole-v1" {
        spec.observation.bounds = [-100.0, 100.0];
    }
    if fault == Fault::NoActions {
        spec.action = ActionSpec::Discrete(0);
    }
    let mut faulty = Faulty {
        inner,
        spec,
        fault,
        steps: 0,
    };
    check(&mut faulty, 0..3, 200)
}

fn cart_pole(fault: Fault) -> Breach {
    checked(made("CartPole-v1", ""), fault).unwrap_err().breach
}

#[test]
fn planted_faults_are_found() {
    assert!(checked(made("CartPole-v1", ""), Fault::None).is_ok());
    let not_finite = |fault, at| match cart_pole(fault) {
        Breach::NotFinite { element, .. } => assert_eq!(element, at),
        other => panic!("{other}"),
    };
    not_finite(Fault::Unwritten, 1);
    not_finite(Fault::UnwrittenAtReset, 2);
    not_finite(Fault::ReadsTheRow, 2);
    not_finite(Fault::NotANumber, 3);
    assert!(matches!(
        cart_pole(Fault::OutOfBounds),
        Breach::OutOfBounds { element: 0, .. }
    ));
    assert!(matches!(cart_pole(Fault::Reward), Breach::Reward(_)));
    assert_eq!(cart_pole(Fault::SpecChanges), Breach::SpecChanged);
    assert_eq!(cart_pole(Fault::IgnoresTheSeed), Breach::NotDeterministic);
    assert_eq!(cart_pole(Fault::KeepsState), Breach::NotDeterministic);
    assert_eq!(
        cart_pole(Fault::NoActions),
        Breach::Spec("it has no actions")
    );
    assert_eq!(cart_pole(Fault::Void), Breach::Void);
    assert!(matches!(
        cart_pole(Fault::FrameTooShort),
        Breach::Frame { .. }
    ));
    assert_eq!(cart_pole(Fault::FrameKeepsOld), Breach::FramesDiffer);
}

#[test]
fn bytes_that_were_not_written_are_found() {
    for (id, options) in [("GridWorld", ""), ("Synthetic", "element = \"uint8\"")] {
        let breach = |fault| checked(made(id, options), fault).unwrap_err().breach;
        assert!(checked(made(id, options), Fault::None).is_ok());
        assert_eq!(breach(Fault::Unwritten), Breach::NotWritten { element: 1 });
        assert_eq!(
            breach(Fault::UnwrittenAtReset),
            Breach::NotWritten { element: 2 }
        );
        assert_eq!(breach(Fault::IgnoresTheSeed), Breach::NotDeterministic);
    }
}

#[test]
fn broken_masks_are_found_and_right_ones_obeyed() {
    let masked = |fault| checked(made("GridWorld", ""), fault);
    assert_eq!(
        masked(Fault::HurtsWhereMasked).map(|report| report.steps),
        Ok(600)
    );
    let breach = |fault| masked(fault).unwrap_err().breach;
    assert!(matches!(
        breach(Fault::MaskUnwritten),
        Breach::Mask { element: 3, .. }
    ));
    assert_eq!(
        breach(Fault::MaskForbidsAll),
        Breach::NothingAllowed { head: 0 }
    );
}

#[test]
fn a_fault_says_where_it_is() {
    let fault = checked(made("CartPole-v1", ""), Fault::OutOfBounds);
    assert_eq!(
        fault.unwrap_err().to_string(),
        "seed 0, step 20: observation element 0 is 101, outside of -100 to 100"
    );
}

#[test]
fn a_report_counts_what_was_seen() {
    let mut synthetic = made(
        "Synthetic",
        "episode_length = 8\nreward = 0.5\nend = \"time_limit\"",
    );
    let report = check(synthetic.as_mut(), 0..3, 100).unwrap();
    assert_eq!((report.steps, report.episodes), (300, 36));
    assert_eq!(report.returns, Some([4.0, 4.0]));
    assert_eq!(report.lengths, Some([8, 8]));
    let text = report.to_string();
    assert!(
        text.contains("36 episodes in 300 steps, returns 4.000 to 4.000, 8 to 8 steps each"),
        "{text}"
    );
    assert_eq!(text.matches("  ok  ").count(), 5);
}
