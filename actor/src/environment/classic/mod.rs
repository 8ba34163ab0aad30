//! The classic control tasks, equal to Gymnasium's bit for bit: states in 64 bits, its order of operations and no fused
//! multiplication, observations rounded to 32 bits at the end, and resets drawn from numpy's generator.
//!
//! Sine and cosine are those of the platform's C library: equality is tested bit for bit on Linux with glibc, and to
//! 1e-12 for a single step elsewhere.

pub mod acrobot;
pub mod cartpole;
pub mod mountain_car;
pub mod pendulum;

#[cfg(test)]
mod recorded;

pub use acrobot::Acrobot;
pub use cartpole::CartPole;
pub use mountain_car::MountainCar;
pub use pendulum::Pendulum;

/// Size of all pictures of these tasks.
const FRAME: [usize; 2] = [150, 100];

const PAPER: [u8; 3] = [255, 255, 255];
const GROUND: [u8; 3] = [60, 60, 60];
const BODY: [u8; 3] = [30, 90, 160];
const LIMB: [u8; 3] = [200, 140, 60];
const GOAL: [u8; 3] = [40, 150, 70];

/// Rounds a state to the observation that shows it as it is.
fn round(state: &[f64], observation: &mut [f32]) {
    for (element, &value) in observation.iter_mut().zip(state) {
        *element = value as f32;
    }
}
