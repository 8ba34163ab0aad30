//! Where the learner computes: the processor, or a graphics processor if there is one and it pays.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind},
};

use burn::tensor::Device;
use springbok_common::{config::DeviceChoice, policy::payload_bytes, spec::NetworkSpec};

/// Parameters times batch rows from which a GPU is taken without being asked for.
///
/// One optimiser step of a multi-layer perceptron is some 150 GPU kernels, each of which costs about 10 us to launch:
/// 1.5 ms. A processor core does about 2e10 multiply-adds per second and a step needs 3 of them per parameter and
/// row, so both take equally long near 1e7; beyond ten times that the GPU is surely ahead.
const GPU_PAYS_FROM: f64 = 1e8;

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

/// The device, its name, and the reason for taking it, for a network that trains on batches of `batch_rows` steps.
///
/// # Errors
/// A [`DeviceError`] if a GPU is asked for and there is none.
pub fn choose(
    choice: DeviceChoice,
    network: &NetworkSpec,
    batch_rows: usize,
) -> Result<(Device, String, String), DeviceError> {
    let cpu = |reason: String| (Device::flex(), "cpu".to_owned(), reason);
    match choice {
        DeviceChoice::Cpu => Ok(cpu("it was asked for".to_owned())),
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
            Ok((adapter.device, adapter.name, reason.to_owned()))
        }
        DeviceChoice::Auto => {
            let parameters = payload_bytes(network) / size_of::<f32>();
            let work = parameters as f64 * batch_rows as f64;
            if work < GPU_PAYS_FROM {
                return Ok(cpu(format!(
                    "{parameters} parameters on {batch_rows} rows are faster on the processor, because each GPU kernel \
                     launch costs more than its work"
                )));
            }
            Ok(match adapter().filter(|adapter| !adapter.is_software) {
                Some(adapter) => {
                    let reason =
                        format!("{parameters} parameters on {batch_rows} rows keep a GPU busy");
                    (adapter.device, adapter.name, reason)
                }
                None if cfg!(feature = "gpu") => cpu("no GPU adapter was found".to_owned()),
                None => cpu("this program was built without GPU support".to_owned()),
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
        let (device, name, reason) = choose(DeviceChoice::Auto, &network, 1024).unwrap();
        assert_eq!((device, name.as_str()), (Device::flex(), "cpu"));
        assert!(reason.contains("kernel launch"), "{reason}");
        assert!(choose(DeviceChoice::Cpu, &network, 1).is_ok());
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
