//! The file in memory through which actions, observations and outcomes pass, and where in it each of them stands.

use std::{fs::File, io, os::unix::fs::FileExt};

use serde::Serialize;
use springbok_common::{
    arrays::{ActionsRef, ElementType, Elements},
    spec::{ActionSpec, EnvironmentSpec},
};

/// Most bytes that one vector may share with its server.
const SHARED_BYTES_MAX: u64 = 4 << 30;
/// Regions begin at multiples of this: a cache line.
const ALIGNMENT_BYTES: usize = 64;

/// Where the regions begin, in bytes, and what they hold; the server gets this as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Layout {
    environments: usize,
    observation_len: usize,
    element: ElementType,
    action_len: usize,
    action_element: &'static str,
    mask_len: usize,
    frame_len: usize,
    actions: usize,
    observations: usize,
    rewards: usize,
    outcomes: usize,
    masks: usize,
    finals: usize,
    frame: usize,
    bytes: usize,
}

impl Layout {
    /// For K = `environments` with room for a picture of `frame_len` bytes.
    ///
    /// # Errors
    /// If that is more than may be shared.
    pub(super) fn new(
        spec: &EnvironmentSpec,
        environments: usize,
        frame_len: usize,
    ) -> io::Result<Self> {
        let layout = Self::arranged(spec, environments, frame_len)
            .filter(|layout| layout.bytes as u64 <= SHARED_BYTES_MAX);
        layout.ok_or_else(|| {
            io::Error::other(format!(
                "{environments} environments with observations of {} bytes need more than {SHARED_BYTES_MAX} bytes of \
                 shared memory; lower `actor.environments_per_actor`",
                spec.observation.row_bytes()
            ))
        })
    }

    fn arranged(spec: &EnvironmentSpec, environments: usize, frame_len: usize) -> Option<Self> {
        let mut end = 0_usize;
        let mut region = |rows: usize, bytes: usize| {
            let begin = end;
            end = rows
                .checked_mul(bytes)?
                .checked_add(begin)?
                .checked_next_multiple_of(ALIGNMENT_BYTES)?;
            Some(begin)
        };
        let row = spec.observation.row_bytes();
        Some(Self {
            environments,
            observation_len: spec.observation.len(),
            element: spec.observation.element,
            action_len: spec.action.len(),
            action_element: match spec.action {
                ActionSpec::Box { .. } => "float32",
                ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => "uint32",
            },
            mask_len: spec.mask_len(),
            frame_len,
            // What the actor reads at each step stands together.
            observations: region(environments, row)?,
            rewards: region(environments, size_of::<f32>())?,
            outcomes: region(environments, 1)?,
            masks: region(environments, spec.mask_len())?,
            actions: region(environments, spec.action.len() * size_of::<u32>())?,
            finals: region(environments, row)?,
            frame: region(1, frame_len)?,
            bytes: end,
        })
    }
}

/// The actor's view of the file.
pub(super) struct Shared {
    file: File,
    layout: Layout,
    bytes: Vec<u8>,
}

impl Shared {
    /// A file for K = `environments` with room for a picture of `frame_len` bytes.
    ///
    /// # Errors
    /// If it would be too large, or there is no memory.
    pub(super) fn new(
        spec: &EnvironmentSpec,
        environments: usize,
        frame_len: usize,
    ) -> io::Result<Self> {
        let layout = Layout::new(spec, environments, frame_len)?;
        let file = anonymous_file()?;
        file.set_len(layout.bytes as u64)?;
        Ok(Self {
            file,
            layout,
            bytes: Vec::new(),
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes `[K, A]`.
    pub(super) fn write_actions(&mut self, actions: ActionsRef<'_>) -> io::Result<()> {
        self.bytes.clear();
        match actions {
            ActionsRef::Indices(indices) => {
                self.bytes
                    .extend(indices.iter().flat_map(|index| index.to_ne_bytes()));
            }
            ActionsRef::Values(values) => {
                self.bytes
                    .extend(values.iter().flat_map(|value| value.to_ne_bytes()));
            }
        }
        self.file
            .write_all_at(&self.bytes, self.layout.actions as u64)
    }

    /// Reads observations `[K, O]`, rewards `[K]`, outcome bytes `[K]` and masks `[K, M]`.
    pub(super) fn read_step(
        &mut self,
        observations: &mut Elements,
        rewards: &mut [f32],
        outcomes: &mut [u8],
        masks: &mut [u8],
    ) -> io::Result<()> {
        let layout = &self.layout;
        let begin = match observations {
            Elements::U8(bytes) => {
                self.file.read_exact_at(bytes, layout.observations as u64)?;
                layout.rewards
            }
            Elements::F32(_) => layout.observations,
        };
        self.bytes.resize(layout.masks + masks.len() - begin, 0);
        self.file.read_exact_at(&mut self.bytes, begin as u64)?;
        if let Elements::F32(values) = observations {
            floats(&self.bytes[layout.observations - begin..], values);
        }
        floats(&self.bytes[layout.rewards - begin..], rewards);
        copy(&self.bytes[layout.outcomes - begin..], outcomes);
        copy(&self.bytes[layout.masks - begin..], masks);
        Ok(())
    }

    /// Reads the final observation of one environment, `[O]`.
    pub(super) fn read_final(&mut self, index: usize, row: &mut Elements) -> io::Result<()> {
        let row_bytes = self.layout.observation_len * self.layout.element.bytes();
        let begin = (self.layout.finals + index * row_bytes) as u64;
        match row {
            Elements::U8(bytes) => self.file.read_exact_at(bytes, begin),
            Elements::F32(values) => {
                self.bytes.resize(row_bytes, 0);
                self.file.read_exact_at(&mut self.bytes, begin)?;
                floats(&self.bytes, values);
                Ok(())
            }
        }
    }

    /// Reads a picture of as many bytes as `rgb` has.
    pub(super) fn read_frame(&self, rgb: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(rgb, self.layout.frame as u64)
    }

    pub(super) fn frame_len(&self) -> usize {
        self.layout.frame_len
    }
}

fn floats(bytes: &[u8], values: &mut [f32]) {
    for (value, word) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = f32::from_ne_bytes(*word);
    }
}

fn copy(from: &[u8], to: &mut [u8]) {
    to.copy_from_slice(&from[..to.len()]);
}

/// A file without a name that no other program inherits.
#[cfg(target_os = "linux")]
fn anonymous_file() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(File::from(memfd_create(
        "springbok-environments",
        MemfdFlags::CLOEXEC,
    )?))
}

/// A file without a name that no other program inherits.
#[cfg(not(target_os = "linux"))]
fn anonymous_file() -> io::Result<File> {
    tempfile::tempfile()
}
