//! Where the learner computes: the processor, or a graphics processor if there is one and it pays.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind},
};

use burn::tensor::Device;
use springbok_common::{config::DeviceChoice, policy::multiply_adds, spec::NetworkSpec};

/// Multiply-adds of the network on the rows of one optimiser step from which a GPU may pay.
///
/// One optimiser step of a multi-layer perceptron is some 150 GPU kernels, each of which costs about 10 us to launch:
/// 1.5 ms. A processor core does about 2e10 multiply-adds per second and a step needs 3 times those of the network, so
/// both take equally long near 1e7. That is no more than where it is worth asking: which one wins is measured.
const GPU_MAY_PAY_FROM: f64 = 1e7;

/// Why there is no device as asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without the GPU backend.
    #[error(
        "this program was built without GPU support; build it with `--features gpu` or use --device cpu"
    )]
    NotBuilt,
    /// No driver offers a graphics processor.
    #[error(
        "no GPU adapter was found by the Vulkan, Metal or DirectX 12 drivers of this machine; use --device cpu"
    )]
    NoAdapter,
}

/// A graphics processor that was there is not any more, or cannot do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{device} failed: {cause}; what was trained since the last checkpoint is gone: once the device is well again, or with \
     --device cpu, --resume goes on from there"
)]
pub struct DeviceFailed {
    /// Its name.
    pub device: String,
    /// The first line of what its driver or the tensor library said.
    pub cause: String,
}

/// A graphics processor, or a program that imitates one.
#[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "none is ever found"))]
struct Adapter {
    name: String,
    is_software: bool,
    device: Device,
}

/// Where a learner computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The device.
    pub device: Device,
    /// What its driver calls it.
    pub name: String,
    /// Why it was taken, as a part of a sentence.
    pub reason: String,
    /// Whether the processor may be faster: only a measurement tells.
    pub is_guess: bool,
}

impl Chosen {
    /// The processor.
    #[must_use]
    pub fn processor(reason: impl Into<String>) -> Self {
        Self {
            device: Device::flex(),
            name: "cpu".to_owned(),
            reason: reason.into(),
            is_guess: false,
        }
    }
}

/// The device for a network whose optimiser steps take `step_rows` rows each.
///
/// # Errors
/// A [`DeviceError`] if a GPU is asked for and there is none.
pub fn choose(
    choice: DeviceChoice,
    network: &NetworkSpec,
    step_rows: usize,
) -> Result<Chosen, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(Chosen::processor("it was asked for")),
        DeviceChoice::Gpu => {
            if !cfg!(feature = "gpu") {
                return Err(DeviceError::NotBuilt);
            }
            let adapter = adapter().ok_or(DeviceError::NoAdapter)?;
            let reason = if adapter.is_software {
                "it was asked for, but it is a software driver that imitates a GPU on the processor, slowly"
            } else {
                "it was asked for"
            };
            Ok(Chosen {
                device: adapter.device,
                name: adapter.name,
                reason: reason.to_owned(),
                is_guess: false,
            })
        }
        DeviceChoice::Auto => {
            let work = multiply_adds(network) * step_rows as f64;
            let amount = format!("{work:.0e} multiply-adds in each optimiser step");
            if work < GPU_MAY_PAY_FROM {
                return Ok(Chosen::processor(format!(
                    "{amount} are faster on the processor, because each GPU kernel launch costs more than its work"
                )));
            }
            Ok(match adapter().filter(|adapter| !adapter.is_software) {
                Some(adapter) => Chosen {
                    device: adapter.device,
                    name: adapter.name,
                    reason: format!("{amount} keep a GPU busy"),
                    is_guess: true,
                },
                None if cfg!(feature = "gpu") => Chosen::processor("no GPU adapter was found"),
                None => Chosen::processor("this program was built without GPU support"),
            })
        }
    }
}

/// Whether tensors of `device` live in the host's own memory and every operation has been done when it returns.
#[must_use]
pub fn is_processor(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

/// Bytes that the tensor library holds on `device`; `None` on the processor, where they are part of the process.
#[must_use]
pub fn memory_bytes(device: &Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

/// Waits until `device` has done all that it was asked to do. A graphics processor that is lost answers as if nothing had
/// happened, and what it answers is nothing: only its driver says so, and only when it is asked.
///
/// # Panics
/// As the tensor library itself does where a result cannot be had, for [`guard`] to catch: the device is lost.
pub fn insist(device: &Device) {
    if is_processor(device) {
        return;
    }
    if let Err(lost) = device.sync() {
        panic_any(lost.to_string());
    }
}

/// Does `work`, all of whose tensors are on the `device` called `name`.
///
/// The tensor library has no other word for a device that is lost, or that has no memory left, than a panic of whoever
/// next asks for a result. On the processor a panic is a mistake of this program, and goes on.
///
/// # Errors
/// [`DeviceFailed`] if it panics on a graphics processor.
pub fn guard<T>(device: &Device, name: &str, work: impl FnOnce() -> T) -> Result<T, DeviceFailed> {
    // What it was working on is dropped, or is not used again.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Ok(done),
        Err(panic) if is_processor(device) => resume_unwind(panic),
        Err(panic) => Err(DeviceFailed::of(name, panic.as_ref())),
    }
}

impl DeviceFailed {
    fn of(device: &str, panic: &(dyn Any + Send)) -> Self {
        Self {
            device: device.to_owned(),
            cause: first_line(panic),
        }
    }
}

/// The first line of the message of a panic.
fn first_line(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let line = text.and_then(|text| text.lines().next());
    line.unwrap_or("it gave no reason").to_owned()
}

#[cfg(not(feature = "gpu"))]
fn adapter() -> Option<Adapter> {
    None
}

/// The best adapter: a discrete GPU, else an integrated, a virtual or an unknown one, else software.
#[cfg(feature = "gpu")]
fn adapter() -> Option<Adapter> {
    use burn::tensor::DeviceKind;
    use wgpu::DeviceType;

    if wgpu::Instance::enabled_backend_features().is_empty() {
        return None;
    }
    // OpenGL is left out: burn does not compute on it, and without a display it complains.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = immediate(instance.enumerate_adapters(wgpu::Backends::PRIMARY))?;
    let infos: Vec<_> = found.iter().map(wgpu::Adapter::get_info).collect();
    let kinds = [
        (DeviceType::DiscreteGpu, DeviceKind::DiscreteGpu(0)),
        (DeviceType::IntegratedGpu, DeviceKind::IntegratedGpu(0)),
        (DeviceType::VirtualGpu, DeviceKind::VirtualGpu(0)),
        (DeviceType::Other, DeviceKind::DefaultDevice),
        (DeviceType::Cpu, DeviceKind::Cpu),
    ];
    kinds.into_iter().find_map(|(wanted, kind)| {
        let info = infos.iter().find(|info| info.device_type == wanted)?;
        Some(Adapter {
            name: format!("{} ({})", info.name, info.backend),
            is_software: wanted == DeviceType::Cpu,
            device: Device::wgpu(kind),
        })
    })
}

/// The output of a future that never waits, as those of wgpu outside a browser.
#[cfg(feature = "gpu")]
fn immediate<F: Future>(future: F) -> Option<F::Output> {
    use std::task::{Context, Poll, Waker};

    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A graphics processor of whatever kind, its name, and what takes it away. It is this process's only one of its kind.
#[cfg(all(test, feature = "gpu"))]
pub(crate) fn losable() -> (Device, String, impl FnOnce()) {
    let adapter = adapter().expect("SPRINGBOK_TEST_GPU is set, so there must be an adapter");
    let kind = if adapter.is_software {
        burn::tensor::DeviceKind::Cpu
    } else {
        burn::tensor::DeviceKind::DiscreteGpu(0)
    };
    let options = Device::wgpu_options().device_kind(kind);
    let (device, setup) = options.init_with_setup().unwrap();
    assert_eq!(device, adapter.device);
    (device, adapter.name, move || setup.device.destroy())
}

#[cfg(test)]
mod tests {
    use springbok_common::spec::{ActionSpec, Activation, EnvironmentSpec, ObservationSpec};

    use super::*;

    #[test]
    fn small_networks_stay_on_the_processor_and_say_why() {
        let environment = EnvironmentSpec::new(
            "E",
            ObservationSpec::floats([4], [-1.0, 1.0]),
            ActionSpec::Discrete(2),
        );
        let network = NetworkSpec::mlp(&environment, vec![64, 64], Activation::Relu, false);
        let chosen = choose(DeviceChoice::Auto, &network, 1024).unwrap();
        assert_eq!(
            (&chosen.device, chosen.name.as_str()),
            (&Device::flex(), "cpu")
        );
        let reason = chosen.reason;
        assert!(reason.contains("kernel launch"), "{reason}");
        assert!(choose(DeviceChoice::Cpu, &network, 1).is_ok());
        // Here it depends on the machine, and not on the arithmetic.
        let reason = choose(DeviceChoice::Auto, &network, 100_000)
            .unwrap()
            .reason;
        assert!(!reason.contains("kernel launch"), "{reason}");
    }

    #[test]
    fn a_panic_on_the_processor_is_a_mistake_and_goes_on() {
        assert_eq!(guard(&Device::flex(), "cpu", || 3), Ok(3));
        let device = Device::flex().autodiff();
        let guarded = || {
            guard(&device, "cpu", || {
                std::panic::resume_unwind(Box::new("ours"))
            })
        };
        let panic = catch_unwind(AssertUnwindSafe(guarded)).unwrap_err();
        assert_eq!(first_line(panic.as_ref()), "ours");
        assert_eq!(memory_bytes(&device), None);
    }

    #[test]
    fn of_a_failed_device_there_is_one_line() {
        let panic: Box<dyn Any + Send> = Box::new("lost\nBacktrace:\n  0: ...".to_owned());
        let text = DeviceFailed::of("Tester", panic.as_ref()).to_string();
        assert!(text.starts_with("Tester failed: lost; "), "{text}");
        assert!(text.contains("--device cpu, --resume"), "{text}");
        assert_eq!(first_line(&5), "it gave no reason");
    }

    #[test]
    fn a_missing_gpu_is_one_sentence_with_a_way_out() {
        for error in [DeviceError::NotBuilt, DeviceError::NoAdapter] {
            let text = error.to_string();
            assert!(text.ends_with("use --device cpu"), "{text}");
        }
        assert!(
            DeviceError::NoAdapter
                .to_string()
                .starts_with("no GPU adapter was found")
        );
    }
}
