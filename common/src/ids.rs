//! Names of runs, actors and unrolls.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One training run, through all restarts of its learner; random, shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(u128);

/// One life of an actor process; random, so that a restarted actor is a new actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ActorId(u128);

/// A run or actor id that is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an id: 32 hexadecimal digits are expected")]
pub struct ParseIdError(String);

macro_rules! random_id {
    ($id:ident) => {
        impl $id {
            /// A new id from the operating system's random numbers.
            #[must_use]
            pub fn random() -> Self {
                Self(rand::random())
            }

            /// The 16 bytes that stand for this id on the wire.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The id that 16 bytes from the wire stand for; `None` if there are not exactly 16.
            #[must_use]
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes
                    .try_into()
                    .ok()
                    .map(|array| Self(u128::from_be_bytes(array)))
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:032x}", self.0)
            }
        }

        impl FromStr for $id {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                match u128::from_str_radix(text, 16) {
                    Ok(id) if digits => Ok(Self(id)),
                    _ => Err(ParseIdError(text.to_owned())),
                }
            }
        }

        impl TryFrom<String> for $id {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.to_string()
            }
        }
    };
}

random_id!(RunId);
random_id!(ActorId);

/// Position of an unroll among those that one life of an actor made for one life of the learner: 1, 2, 3 ... without
/// gaps. A resent unroll keeps its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnrollSequence(pub u64);

impl UnrollSequence {
    /// The first unroll of an actor's life.
    pub const FIRST: Self = Self(1);

    /// The number of the unroll after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_bytes() {
        let id = RunId::random();
        assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        assert_eq!(RunId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(RunId::from_bytes(&id.to_bytes()[1..]), None);
        assert!("+123".parse::<RunId>().is_err());
    }
}
