//! What an environment shows and takes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::arrays::ElementType;

/// What an environment shows and takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// Registered name, such as `CartPole-v1`.
    pub id: String,
    /// Shape, element type and bounds of one observation.
    pub observation: ObservationSpec,
    /// The actions that may be taken.
    pub action: ActionSpec,
    /// Whether each state says which of the discrete actions it allows.
    pub action_mask: bool,
    /// Steps after which an episode is truncated; `None` if the environment ends by itself.
    pub episode_steps_max: Option<u32>,
}

impl EnvironmentSpec {
    /// An environment without time limit and action masks.
    #[must_use]
    pub fn new(id: impl Into<String>, observation: ObservationSpec, action: ActionSpec) -> Self {
        Self {
            id: id.into(),
            observation,
            action,
            action_mask: false,
            episode_steps_max: None,
        }
    }

    /// The same with a time limit, which is enforced for the environment, as a truncation.
    #[must_use]
    pub fn with_steps_max(mut self, steps: u32) -> Self {
        self.episode_steps_max = Some(steps);
        self
    }

    /// The same with action masks.
    #[must_use]
    pub fn with_action_mask(mut self) -> Self {
        self.action_mask = true;
        self
    }

    /// Bytes of the action mask of one state: one for each choice, 0 if there are no masks.
    #[must_use]
    pub fn mask_len(&self) -> usize {
        if self.action_mask {
            self.action.choices()
        } else {
            0
        }
    }
}

/// Shape, element type and bounds of one observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservationSpec {
    /// Extent of each axis, without time and batch.
    pub shape: Vec<usize>,
    /// Type of one element.
    pub element: ElementType,
    /// Lowest and highest value of any element; infinite where there is no bound (`null` in JSON).
    #[serde(with = "bounds")]
    pub bounds: [f32; 2],
    /// What a flattened dictionary observation consists of, in order; empty if the observation is one array.
    pub parts: Vec<ObservationPart>,
}

/// One entry of a dictionary observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservationPart {
    /// Its key; keys of nested dictionaries are joined by dots.
    pub name: String,
    /// Extent of each axis; its elements stand one after the other, in row-major order.
    pub shape: Vec<usize>,
}

impl ObservationSpec {
    /// One array of 32-bit floats.
    #[must_use]
    pub fn floats(shape: impl Into<Vec<usize>>, bounds: [f32; 2]) -> Self {
        Self {
            shape: shape.into(),
            element: ElementType::F32,
            bounds,
            parts: Vec::new(),
        }
    }

    /// One array of bytes from 0 to `high`, which the network scales to 0 to 1.
    #[must_use]
    pub fn bytes(shape: impl Into<Vec<usize>>, high: u8) -> Self {
        Self {
            shape: shape.into(),
            element: ElementType::U8,
            bounds: [0.0, f32::from(high)],
            parts: Vec::new(),
        }
    }

    /// Elements in one observation: O; the highest number there is for a shape that no memory holds.
    #[must_use]
    pub fn len(&self) -> usize {
        // A shape may come from another process, and has not been checked when it is first asked for its size.
        if self.shape.contains(&0) {
            return 0;
        }
        self.shape.iter().fold(1, |len, &n| len.saturating_mul(n))
    }

    /// Whether an observation has no element at all; no valid environment has such.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of one observation.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.len().saturating_mul(self.element.bytes())
    }
}

impl fmt::Display for ObservationSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.bounds;
        let element = self.element.as_str();
        write!(formatter, "Box({low}..{high}, {:?}, {element})", self.shape)?;
        for (index, part) in self.parts.iter().enumerate() {
            let gap = if index == 0 { " = " } else { " + " };
            write!(formatter, "{gap}{}{:?}", part.name, part.shape)?;
        }
        Ok(())
    }
}

/// The actions an environment takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionSpec {
    /// One of `n` actions, numbered from 0.
    Discrete(u32),
    /// One action of each head; head h has `n[h]` actions, numbered from 0.
    MultiDiscrete(Vec<u32>),
    /// A vector of real numbers between bounds, which may be infinite (`null` in JSON).
    Box {
        /// Lowest value of each dimension.
        #[serde(with = "low_bounds")]
        low: Vec<f32>,
        /// Highest value of each dimension.
        #[serde(with = "high_bounds")]
        high: Vec<f32>,
    },
}

impl ActionSpec {
    /// Numbers that make up one action: 1, heads, or dimensions.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Discrete(_) => 1,
            Self::MultiDiscrete(heads) => heads.len(),
            Self::Box { low, .. } => low.len(),
        }
    }

    /// Whether an action has no number at all; no valid environment has such.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Discrete choices over all heads, which is the length of an action mask; 0 for a continuous action.
    #[must_use]
    pub fn choices(&self) -> usize {
        let heads = self.heads().iter();
        heads.fold(0, |sum, &n| sum.saturating_add(n as usize))
    }

    /// Number of actions of each discrete head; empty for a continuous action.
    #[must_use]
    pub fn heads(&self) -> &[u32] {
        match self {
            Self::Discrete(n) => std::slice::from_ref(n),
            Self::MultiDiscrete(heads) => heads,
            Self::Box { .. } => &[],
        }
    }
}

impl fmt::Display for ActionSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discrete(n) => write!(formatter, "Discrete({n})"),
            Self::MultiDiscrete(heads) => write!(formatter, "MultiDiscrete({heads:?})"),
            Self::Box { low, high } => {
                let least = low.iter().copied().fold(f32::INFINITY, f32::min);
                let most = high.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                write!(formatter, "Box({least}..{most}, [{}])", low.len())
            }
        }
    }
}

/// JSON has no infinity: a missing bound is `null` there.
mod bounds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bounds: &[f32; 2],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bounds
            .map(|bound| bound.is_finite().then_some(bound))
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[f32; 2], D::Error> {
        let [low, high] = <[Option<f32>; 2]>::deserialize(deserializer)?;
        Ok([
            low.unwrap_or(f32::NEG_INFINITY),
            high.unwrap_or(f32::INFINITY),
        ])
    }
}

/// The same for a list of bounds; what is missing lies at `$missing`.
macro_rules! list_of_bounds {
    ($module:ident, $missing:expr) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(super) fn serialize<S: Serializer>(
                bounds: &[f32],
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                let finite: Vec<Option<f32>> = bounds
                    .iter()
                    .map(|&bound| bound.is_finite().then_some(bound))
                    .collect();
                finite.serialize(serializer)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Vec<f32>, D::Error> {
                let bounds = Vec::<Option<f32>>::deserialize(deserializer)?;
                Ok(bounds
                    .into_iter()
                    .map(|bound| bound.unwrap_or($missing))
                    .collect())
            }
        }
    };
}

list_of_bounds!(low_bounds, f32::NEG_INFINITY);
list_of_bounds!(high_bounds, f32::INFINITY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_the_kind_of_action() {
        let heads = ActionSpec::MultiDiscrete(vec![3, 2]);
        assert_eq!((heads.len(), heads.choices()), (2, 5));
        let torque = ActionSpec::Box {
            low: vec![-2.0],
            high: vec![2.0],
        };
        assert_eq!((torque.len(), torque.choices()), (1, 0));
        let plain = EnvironmentSpec::new("E", ObservationSpec::bytes([2, 3], 255), heads);
        assert_eq!(plain.mask_len(), 0);
        assert_eq!(plain.with_action_mask().mask_len(), 5);
    }

    #[test]
    fn spaces_read_like_gymnasium() {
        let mut observation = ObservationSpec::floats([3], [0.0, 1.0]);
        observation.parts = vec![
            ObservationPart {
                name: "a".into(),
                shape: vec![2],
            },
            ObservationPart {
                name: "b".into(),
                shape: vec![1],
            },
        ];
        assert_eq!(
            observation.to_string(),
            "Box(0..1, [3], float32) = a[2] + b[1]"
        );
        assert_eq!(
            ObservationSpec::bytes([4, 84, 84], 255).to_string(),
            "Box(0..255, [4, 84, 84], uint8)"
        );
    }
}
