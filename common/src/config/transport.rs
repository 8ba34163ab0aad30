//! Choices of how learner and actors are connected.

use std::path::PathBuf;

use figment::value::Value;

use super::setting::{NONE, Setting};

/// Longest path of a Unix socket that every system takes: macOS has 104 bytes for it, Linux 108, both with a zero byte.
pub const UNIX_PATH_BYTES_MAX: usize = 103;

choice! {
    /// How the numbers of a snapshot travel.
    SnapshotEncoding {
        /// As they are.
        F32 = "f32",
        /// Weights rounded to 16 bits, in half the bytes; running statistics as they are.
        Bf16 = "bf16",
    }
}

choice! {
    /// How the observations of an unroll travel.
    ObservationEncoding {
        /// Compressed, unless actor and learner are on one machine.
        Auto = "auto",
        /// As they are.
        Raw = "raw",
        /// Bytes compressed by zstd; floating-point numbers as they are.
        Zstd = "zstd",
    }
}

/// Where a learner's Unix socket is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UnixListen {
    /// `train` makes one for its actors; a learner alone has none.
    Auto,
    /// There is none.
    None,
    /// At this path.
    At(PathBuf),
}

const AUTO: &str = "auto";

impl Setting for UnixListen {
    const EXPECTED: &'static str = "\"auto\", \"none\" or a path";
    const IS_TEXT: bool = true;

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            AUTO => Some(Self::Auto),
            NONE => Some(Self::None),
            path => Some(Self::At(PathBuf::from(path))),
        }
    }

    fn write(&self) -> toml::Value {
        let text = match self {
            Self::Auto => AUTO.to_owned(),
            Self::None => NONE.to_owned(),
            Self::At(path) => path.to_string_lossy().into_owned(),
        };
        toml::Value::String(text)
    }
}
