//! The two floating-point types that the host maths runs on.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// `f32` in production, `f64` where the tests ask for more digits: the same code for both.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + Send
    + Sync
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Largest log-ratio that is exponentiated when no cap follows: keeps products of ratios finite.
    const LOG_RATIO_MAX: Self;

    /// The nearest value to `wide`.
    fn from_f64(wide: f64) -> Self;
    /// The same value, exactly.
    fn to_f64(self) -> f64;
    /// e to the power of `self`.
    #[must_use]
    fn exp(self) -> Self;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOG_RATIO_MAX: Self = 20.0;

    fn from_f64(wide: f64) -> Self {
        wide as Self
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn exp(self) -> Self {
        Self::exp(self)
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOG_RATIO_MAX: Self = 300.0;

    fn from_f64(wide: f64) -> Self {
        wide
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn exp(self) -> Self {
        Self::exp(self)
    }
}
