//! What the machine is and does besides, as far as it says so.

use std::{fs, thread};

use serde::Serialize;

/// The machine.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    /// Processors that this process may use.
    pub(super) cores: usize,
    /// Their name.
    pub(super) processor: String,
    /// Processes that wanted a processor on average over the last minute, before the first slice; without Linux, none.
    pub(super) load_before: Option<f64>,
    /// Whether the program is optimised; the numbers of another say nothing.
    pub(super) is_optimised: bool,
}

/// Looks.
pub(super) fn look() -> Machine {
    let named = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let load = fs::read_to_string("/proc/loadavg").ok();
    Machine {
        cores: thread::available_parallelism().map_or(1, usize::from),
        processor: named.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        load_before: load.and_then(|text| text.split(' ').next()?.parse().ok()),
        is_optimised: !cfg!(debug_assertions),
    }
}
