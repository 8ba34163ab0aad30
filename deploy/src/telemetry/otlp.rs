//! Spans are sent to an OpenTelemetry collector, over gRPC.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue,
    trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        TracerProvider as _,
    },
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter as Export},
};
use springbok_common::{
    telemetry::SpanLayer,
    trace::{self, TARGET, TraceParent, Tracer},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer as _, filter::filter_fn};

use crate::exit::Failure;

/// Time for a batch of spans to be taken.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(5);
/// Time for the last ones at the end of the process.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// Sends spans until it is dropped; then the last ones.
pub(super) struct Exporter(SdkTracerProvider);

impl Drop for Exporter {
    fn drop(&mut self) {
        // What cannot be sent has been complained about.
        let _ = self.0.shutdown_with_timeout(END_TIME_MAX);
    }
}

/// What takes the spans of `process` and sends them to `endpoint`, from within an asynchronous runtime.
///
/// # Errors
/// Exit 64 if the endpoint is no address.
pub(super) fn export(endpoint: &str, process: &str) -> Result<(SpanLayer, Exporter), Failure> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIME_MAX)
        .build()
        .map_err(|error| {
            Failure::usage(format!(
                "`telemetry.otlp_endpoint` is {endpoint:?}, which cannot be used: {error}; name the gRPC port of a \
                 collector, such as http://127.0.0.1:4317"
            ))
        })?;
    let resource = Resource::builder()
        .with_service_name(format!("springbok-{process}"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(Complaining {
            exporter,
            endpoint: endpoint.to_owned(),
            complained: AtomicBool::new(false),
        })
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("springbok"))
        .with_location(false)
        .with_threads(false)
        .with_filter(filter_fn(|metadata| {
            metadata.is_span() && metadata.target() == TARGET
        }));
    trace::install(Box::new(Names));
    Ok((layer.boxed(), Exporter(provider)))
}

/// Says once that the collector does not take spans.
struct Complaining {
    exporter: SpanExporter,
    endpoint: String,
    complained: AtomicBool,
}

impl fmt::Debug for Complaining {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exporter.fmt(formatter)
    }
}

impl Export for Complaining {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let taken = self.exporter.export(batch).await;
        if let Err(error) = &taken
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            let endpoint = &self.endpoint;
            tracing::warn!("traces do not reach {endpoint}: {error}; the run goes on without them");
        }
        taken
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// What OpenTelemetry calls spans.
struct Names;

impl Tracer for Names {
    fn name(&self, span: &Span) -> Option<TraceParent> {
        let context = span.context();
        let context = context.span().span_context().clone();
        if !context.is_sampled() {
            return None;
        }
        let trace_id = u128::from_be_bytes(context.trace_id().to_bytes());
        let span_id = u64::from_be_bytes(context.span_id().to_bytes());
        TraceParent::new(trace_id, span_id)
    }

    fn follow(&self, span: &Span, parent: TraceParent) {
        let context = SpanContext::new(
            TraceId::from_bytes(parent.trace_id().to_be_bytes()),
            SpanId::from_bytes(parent.span_id().to_be_bytes()),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        // A span that is not recorded has no parent to get.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
}
