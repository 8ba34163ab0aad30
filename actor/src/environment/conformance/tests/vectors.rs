//! Faults planted in vectors.

use springbok_common::{
    arrays::{ActionsRef, Elements},
    step::StepOutcome::{Continued, Terminated, Truncated, Void},
};

use super::*;
use crate::{
    environment::EnvironmentError,
    vector::{StepSink, SyncVector, VectorEnvironment},
};

const COUNT: usize = 3;

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// Right: every end is followed by a void row.
    VoidAfterEnds,
    VoidTwice,
    FinalMissing,
    FinalOfTerminated,
    FinalTooShort,
    FinalNotFinite,
    ObservationNotFinite,
    ObservationsTooFew,
    RewardUnwritten,
    OutcomeUnwritten,
    LimitIgnored,
    ReturnWrong,
    LengthWrong,
    SummaryMissing,
    SummaryTooMany,
    MaskForbidsAll,
    MasksMissing,
    SpecChanges,
    StepFails,
    RestartFails,
    RestartKeepsEpisodes,
}

/// `Synthetic` with masks, whose episodes are ended by the time limit of 4 steps, with one flaw.
struct Flawed {
    inner: SyncVector,
    flaw: Flaw,
    /// Observations and masks as shown.
    shown: Elements,
    masks: Vec<u8>,
    /// Void rows that follow, for all environments alike: they all end at once.
    void: u32,
    late: bool,
}

fn synthetic(options: &str) -> SyncVector {
    let options = options.parse().unwrap();
    SyncVector::new(&Registry::built_in(), "Synthetic", &options, COUNT, 7).unwrap()
}

impl Flawed {
    fn new(flaw: Flaw) -> Self {
        let limited = "episode_length = 4\nend = \"time_limit\"\naction_mask = true\nreward = 0.5";
        let mut vector = Self {
            inner: synthetic(limited),
            flaw,
            shown: Elements::default(),
            masks: Vec::new(),
            void: 0,
            late: false,
        };
        vector.show();
        vector
    }

    fn show(&mut self) {
        self.shown = self.inner.observations().to_owned();
        self.masks = self.inner.action_masks().to_vec();
        let Elements::F32(values) = &mut self.shown else {
            return;
        };
        match self.flaw {
            Flaw::ObservationNotFinite if self.late => values[5] = f32::NAN,
            Flaw::ObservationsTooFew if self.late => drop(values.pop()),
            Flaw::MaskForbidsAll if self.late => self.masks[2..4].fill(0),
            Flaw::MasksMissing if self.late => self.masks.clear(),
            _ => {}
        }
    }

    fn spoil(&self, sink: &mut StepSink<'_>) {
        let ended = sink.outcomes[1].is_end();
        match self.flaw {
            Flaw::RewardUnwritten => sink.rewards[1] = f32::NAN,
            Flaw::OutcomeUnwritten => sink.outcomes[1] = Void,
            Flaw::FinalOfTerminated if ended => sink.outcomes[1] = Terminated,
            Flaw::LimitIgnored if ended => sink.outcomes[1] = Continued,
            Flaw::ReturnWrong if ended => sink.episodes[1].episode_return += 0.1,
            Flaw::LengthWrong if ended => sink.episodes[1].length += 1,
            Flaw::SummaryMissing if ended => drop(sink.episodes.pop()),
            Flaw::SummaryTooMany if ended => sink.episodes.push(sink.episodes[1]),
            _ => {}
        }
    }
}

impl VectorEnvironment for Flawed {
    fn spec(&self) -> &EnvironmentSpec {
        self.inner.spec()
    }

    fn environments(&self) -> usize {
        COUNT + usize::from(self.late && self.flaw == Flaw::SpecChanges)
    }

    fn observations(&self) -> ElementsRef<'_> {
        self.shown.as_ref()
    }

    fn action_masks(&self) -> &[u8] {
        &self.masks
    }

    fn step(
        &mut self,
        actions: ActionsRef<'_>,
        sink: &mut StepSink<'_>,
    ) -> Result<(), EnvironmentError> {
        self.late = true;
        if self.void > 0 {
            self.void -= 1;
            sink.rewards.fill(0.0);
            sink.outcomes.fill(Void);
            return Ok(());
        }
        if self.flaw == Flaw::StepFails {
            return Err(EnvironmentError::Failed {
                environment: "Synthetic".into(),
                reason: "it died".into(),
            });
        }
        let mut finals = Vec::new();
        self.inner.step(
            actions,
            &mut StepSink {
                rewards: &mut *sink.rewards,
                outcomes: &mut *sink.outcomes,
                on_truncated: &mut |index, row| finals.push((index, row.to_f32())),
                episodes: &mut *sink.episodes,
            },
        )?;
        for (index, mut row) in finals {
            match self.flaw {
                Flaw::FinalMissing | Flaw::LimitIgnored if index == 1 => continue,
                Flaw::FinalTooShort if index == 1 => drop(row.pop()),
                Flaw::FinalNotFinite if index == 1 => row[0] = f32::INFINITY,
                _ => {}
            }
            (sink.on_truncated)(index, ElementsRef::F32(&row));
        }
        if sink.outcomes[0] == Truncated {
            self.void = match self.flaw {
                Flaw::VoidAfterEnds => 1,
                Flaw::VoidTwice => 2,
                _ => 0,
            };
        }
        self.spoil(sink);
        self.show();
        Ok(())
    }

    fn restart(&mut self) -> Result<(), EnvironmentError> {
        match self.flaw {
            Flaw::RestartFails => Err(EnvironmentError::Failed {
                environment: "Synthetic".into(),
                reason: "it restarted too often".into(),
            }),
            Flaw::RestartKeepsEpisodes => Ok(()),
            _ => {
                self.void = 0;
                self.inner.restart()?;
                self.show();
                Ok(())
            }
        }
    }

    fn render(&mut self, environment: usize, frame: &mut Frame) -> Result<bool, EnvironmentError> {
        self.inner.render(environment, frame)
    }
}

/// 18 steps: the restart after the 9th falls into the middle of an episode.
fn checked(flaw: Flaw) -> Result<Report, VectorFault> {
    check_vector(&mut Flawed::new(flaw), 18)
}

#[test]
fn right_vectors_pass_and_their_episodes_are_counted() {
    let report = checked(Flaw::None).unwrap();
    assert_eq!(report.steps, 54);
    // Two episodes before the restart and two after it, in each of three environments.
    assert_eq!(report.episodes, 12);
    assert_eq!(report.returns, Some([2.0, 2.0]));
    assert_eq!(report.frame, Some([160, 16]));
    assert!(checked(Flaw::VoidAfterEnds).is_ok());
}

#[test]
fn planted_flaws_are_found() {
    let breach = |flaw| checked(flaw).unwrap_err().breach;
    let finals = |given, outcome| Breach::FinalObservations { given, outcome };
    assert_eq!(breach(Flaw::VoidTwice), Breach::Void);
    assert_eq!(breach(Flaw::FinalMissing), finals(0, Truncated));
    assert_eq!(breach(Flaw::FinalOfTerminated), finals(1, Terminated));
    assert!(matches!(breach(Flaw::FinalTooShort), Breach::Layout { .. }));
    for flaw in [Flaw::FinalNotFinite, Flaw::ObservationNotFinite] {
        assert!(matches!(breach(flaw), Breach::NotFinite { .. }));
    }
    assert_eq!(
        breach(Flaw::ObservationsTooFew).to_string(),
        "there are 11 float32 elements in the observations, but the specification says 12 float32"
    );
    assert!(matches!(breach(Flaw::RewardUnwritten), Breach::Reward(_)));
    assert_eq!(breach(Flaw::OutcomeUnwritten), Breach::Void);
    let limit = Breach::TimeLimit {
        length: 4,
        limit: 4,
    };
    assert_eq!(breach(Flaw::LimitIgnored), limit);
    for flaw in [
        Flaw::ReturnWrong,
        Flaw::LengthWrong,
        Flaw::RestartKeepsEpisodes,
    ] {
        assert!(matches!(
            breach(flaw),
            Breach::Summary { .. } | Breach::TimeLimit { .. }
        ));
    }
    for flaw in [Flaw::SummaryMissing, Flaw::SummaryTooMany] {
        assert!(matches!(breach(flaw), Breach::Summaries { .. }));
    }
    assert_eq!(
        breach(Flaw::MaskForbidsAll),
        Breach::NothingAllowed { head: 0 }
    );
    assert!(matches!(breach(Flaw::MasksMissing), Breach::Layout { .. }));
    assert_eq!(breach(Flaw::SpecChanges), Breach::SpecChanged);
    for flaw in [Flaw::StepFails, Flaw::RestartFails] {
        assert!(matches!(breach(flaw), Breach::Failed(_)));
    }
}

#[test]
fn a_flaw_says_where_it_is() {
    assert_eq!(
        checked(Flaw::FinalMissing).unwrap_err().to_string(),
        "step 4, environment 1: it gave 0 final observations for a step that is Truncated; only a truncated one has \
         one, in order"
    );
}
