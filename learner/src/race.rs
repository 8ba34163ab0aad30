//! Which device a learner computes on, where only a measurement tells: a GPU and the processor make the same update.

use std::{
    panic::resume_unwind,
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use burn::tensor::Device;
use springbok_common::{config::Config, unroll::Agreement};
use tokio_util::sync::CancellationToken;

use crate::{
    device::{self, Chosen, DeviceError, DeviceFailed},
    trainer::{
        STACK_BYTES,
        update::{UpdateFault, Updater},
    },
};

/// Updates of the GPU that are timed, after one in which it compiles.
const GPU_UPDATES: usize = 2;

/// The device for a learner with this configuration, as asked for or as it turns out; `stop` ends the race.
///
/// # Errors
/// A [`DeviceError`] if a GPU is asked for and there is none.
pub fn select(
    config: &Config,
    agreement: &Agreement,
    stop: &CancellationToken,
) -> Result<Chosen, DeviceError> {
    let step_rows = config.batch_rows() / config.algorithm.minibatches.max(1);
    let chosen = device::choose(config.learner.device, &agreement.network, step_rows)?;
    Ok(settled(chosen, config, agreement, stop))
}

/// The same device, or the faster one if that was a guess.
pub(crate) fn settled(
    chosen: Chosen,
    config: &Config,
    agreement: &Agreement,
    stop: &CancellationToken,
) -> Chosen {
    // In lock-step the same configuration computes on the same device, whatever else the machine does.
    if !chosen.is_guess || config.run.deterministic {
        return chosen;
    }
    let guess = chosen.clone();
    thread::scope(|scope| {
        let racing = thread::Builder::new()
            .name("race".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || race(chosen, config, agreement, stop));
        match racing.map(ScopedJoinHandle::join) {
            Ok(Ok(chosen)) => chosen,
            Ok(Err(panic)) => resume_unwind(panic),
            // No thread: the trainer will say so.
            Err(_) => guess,
        }
    })
}

/// Lets `gpu` and the processor make an update of the configured size, of which nothing remains, and takes the faster one.
fn race(gpu: Chosen, config: &Config, agreement: &Agreement, stop: &CancellationToken) -> Chosen {
    let unrolls = config.learner.batch_unrolls;
    let updater = |device: &Device, stop: CancellationToken| {
        Updater::new(config, agreement, device.clone()).stopped_by(stop)
    };
    let on_gpu = device::guard(&gpu.device, &gpu.name, || {
        let mut updater = updater(&gpu.device, stop.clone());
        updater.rehearsal_time(agreement, unrolls)?;
        let mut best = Duration::MAX;
        for _ in 0..GPU_UPDATES {
            best = best.min(updater.rehearsal_time(agreement, unrolls)?);
        }
        Ok(best)
    });
    let on_processor = |limit: Duration| {
        within(limit, stop, |stop| {
            updater(&Device::flex(), stop).rehearsal_time(agreement, unrolls)
        })
    };
    winner(gpu, on_gpu, on_processor)
}

/// The faster one, given how long the GPU takes and what the processor needs if it is given no longer than that.
fn winner(
    gpu: Chosen,
    on_gpu: Result<Result<Duration, UpdateFault>, DeviceFailed>,
    on_processor: impl FnOnce(Duration) -> Result<Duration, UpdateFault>,
) -> Chosen {
    let Chosen { name, .. } = &gpu;
    let milliseconds = |time: Duration| format!("{:.1} ms", 1e3 * time.as_secs_f64());
    let there = match on_gpu {
        Ok(Ok(time)) => time,
        Ok(Err(fault)) => return Chosen::processor(format!("on {name} {fault}")),
        Err(DeviceFailed { device, cause }) => {
            return Chosen::processor(format!("{device} failed: {cause}"));
        }
    };
    match on_processor(there) {
        Ok(here) if here < there => Chosen::processor(format!(
            "an update took {} here and {} on {name}",
            milliseconds(here),
            milliseconds(there)
        )),
        // Where they are equally fast the processor is left to the actors.
        _ => Chosen {
            reason: format!(
                "an update took {} there and no less on the processor",
                milliseconds(there)
            ),
            is_guess: false,
            ..gpu
        },
    }
}

/// What `work` gives, which is told to stop after `limit` or with `stop`.
fn within<T>(
    limit: Duration,
    stop: &CancellationToken,
    work: impl FnOnce(CancellationToken) -> T,
) -> T {
    let late = stop.child_token();
    let (working, watched) = crossbeam_channel::bounded::<()>(1);
    thread::scope(|scope| {
        let own = late.clone();
        scope.spawn(move || {
            // Nothing is sent: it ends by the limit or when the work is done.
            let _ = watched.recv_timeout(limit);
            own.cancel();
        });
        let result = work(late);
        drop(working);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: Duration = Duration::from_millis(20);

    fn gpu() -> Chosen {
        Chosen {
            name: "Tester".to_owned(),
            is_guess: true,
            ..Chosen::processor("a guess")
        }
    }

    fn after(on_processor: Result<Duration, UpdateFault>) -> Chosen {
        winner(gpu(), Ok(Ok(THERE)), |limit| {
            assert_eq!(limit, THERE, "it need not go on when it has lost");
            on_processor
        })
    }

    #[test]
    fn the_faster_one_is_taken_and_says_why() {
        let chosen = after(Ok(THERE / 2));
        assert_eq!(chosen.name, "cpu");
        assert_eq!(
            chosen.reason,
            "an update took 10.0 ms here and 20.0 ms on Tester"
        );
        for slower in [Ok(THERE), Ok(2 * THERE), Err(UpdateFault::Stopped)] {
            let chosen = after(slower);
            assert_eq!((chosen.name.as_str(), chosen.is_guess), ("Tester", false));
            assert!(
                chosen.reason.starts_with("an update took 20.0 ms there"),
                "{}",
                chosen.reason
            );
        }
    }

    #[test]
    fn a_gpu_that_cannot_do_it_leaves_it_to_the_processor() {
        let failed = DeviceFailed {
            device: "Tester".to_owned(),
            cause: "no memory left".to_owned(),
        };
        let never = |_| panic!("the processor has won");
        let chosen = winner(gpu(), Err(failed), never);
        assert_eq!(
            (chosen.name.as_str(), chosen.reason.as_str()),
            ("cpu", "Tester failed: no memory left")
        );
        let fault = UpdateFault::NonFinite {
            what: "a parameter",
        };
        let chosen = winner(gpu(), Ok(Err(fault)), never);
        assert!(
            chosen
                .reason
                .starts_with("on Tester a parameter became NaN"),
            "{}",
            chosen.reason
        );
    }

    #[test]
    fn work_is_told_when_its_time_is_over() {
        let stop = CancellationToken::new();
        let waits = |stop: CancellationToken| {
            while !stop.is_cancelled() {
                thread::yield_now();
            }
        };
        within(Duration::from_millis(1), &stop, waits);
        assert!(!stop.is_cancelled(), "only the work is");
        // Nor does it wait for the limit when the work is done, or when all is to stop.
        let never = Duration::from_secs(86_400);
        assert_eq!(within(never, &stop, |_| 5), 5);
        stop.cancel();
        within(never, &stop, waits);
    }
}
