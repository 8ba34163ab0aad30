//! Pure maths: no clock, no socket, no file.

pub mod adam;
pub mod gradient;
pub mod health;
pub mod normalise;
pub mod on_device;
pub mod penalty;
pub mod phasic;
pub mod popart;
pub mod real;
pub mod retrace;
pub mod returns;
pub mod running;
pub mod schedule;
pub mod surrogate;
pub mod trust_region;
pub mod value_loss;
pub mod vtrace;

#[cfg(test)]
mod acceptance;
#[cfg(test)]
pub(crate) mod testing;
