//! How people start Springbok: the command line, the supervisor of local processes, and their reports.
//!
//! A crate with an environment of its own depends on this library and gets the whole command line:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use springbok_actor::environment::catch::Catch;
//!
//! fn main() -> ExitCode {
//!     springbok::Launcher::new()
//!         .environment("MyCatch-v0", "what it is, in a line", Catch::from_options)
//!         .main()
//! }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod cli;
mod exit;
mod figures;
mod keys;
mod lab;
mod launcher;
mod output;
mod page;
mod progress;
mod reference;
mod report;
mod run_directory;
mod screen;
mod shutdown;
mod supervisor;
mod telemetry;
#[doc(hidden)]
pub mod untrusted;
mod verbs;

pub use launcher::Launcher;
/// The allocator of the program `springbok`; a program of your own takes it with
/// `#[global_allocator] static ALLOCATOR: springbok::Allocator = springbok::Allocator;`. Training is 1.2 to 1.7 times as fast
/// as with that of glibc, which goes to the operating system and back for tensors of some 100 kB.
pub use mimalloc::MiMalloc as Allocator;

/// Compiles the README's code with the documentation tests, so that it cannot go stale.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeCode;
