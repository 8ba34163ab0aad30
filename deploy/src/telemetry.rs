//! Logs and traces of a process that works for a run.

use springbok_common::{config::Config, telemetry, trace};
use tokio::runtime::Runtime;

use crate::exit::Failure;

#[cfg(feature = "otlp")]
mod otlp;

/// What is held for as long as the process works: what it then still has is sent.
pub(crate) struct Telemetry {
    #[cfg(feature = "otlp")]
    _exporter: Option<otlp::Exporter>,
}

/// Sets logs and traces of `process` up as configured; traces are sent by `runtime`, which must outlive what is given.
///
/// # Errors
/// Exit 64 if the log filter is malformed, or traces cannot be sent by this program.
pub(crate) fn start(
    config: &Config,
    process: &str,
    runtime: &Runtime,
) -> Result<Telemetry, Failure> {
    let own = &config.telemetry;
    trace::sample_every(own.trace_every_unrolls);
    #[cfg(feature = "otlp")]
    {
        let _inside = runtime.enter();
        let exported = own.otlp_endpoint.as_deref();
        let exported = exported.map(|endpoint| otlp::export(endpoint, process));
        let (spans, exporter) = exported.transpose()?.unzip();
        telemetry::init_with(own.log_format, spans).map_err(Failure::usage)?;
        Ok(Telemetry {
            _exporter: exporter,
        })
    }
    #[cfg(not(feature = "otlp"))]
    {
        // They have no meaning without the feature.
        let _ = (process, runtime);
        telemetry::init(own.log_format).map_err(Failure::usage)?;
        Ok(Telemetry {})
    }
}

/// The fault of a configuration that asks for what this program was built without.
pub(crate) fn fault(config: &Config) -> Option<String> {
    let endpoint = config.telemetry.otlp_endpoint.as_ref()?;
    (!cfg!(feature = "otlp")).then(|| {
        format!(
            "`telemetry.otlp_endpoint` is {endpoint:?}, but this program was built without the export of traces; build it \
             with `--features otlp`, or leave the key at \"none\""
        )
    })
}
