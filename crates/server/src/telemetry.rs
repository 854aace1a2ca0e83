//! What the server says about itself: lines on standard error, JSON where it is no terminal, and traces by OTLP over HTTP.
//!
//! Standard output is never written to: with `--stdio` it belongs to the protocol.

use std::io::IsTerminal as _;

use countersign_rules::{Code, Refusal};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::TelemetryConfig;

/// Ends with what is left being sent.
#[derive(Debug, Default)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends what is left and ends. Blocks for a few seconds at most.
    pub fn end(self) {
        if let Some(provider) = self.0
            && let Err(why) = provider.shutdown()
        {
            tracing::warn!(%why, "the last traces could not be sent");
        }
    }
}

/// Begins to log and trace, once per process.
///
/// # Errors
/// When the exporter cannot be made, or somebody logs already.
pub fn begin(config: &TelemetryConfig) -> Result<Telemetry, Refusal> {
    let fault = |why: String| Refusal::new(Code::Internal, format!("telemetry cannot begin: {why}"));
    // The exporter's own client must not be traced: it would feed itself.
    let quiet = "opentelemetry=off,opentelemetry_sdk=error,opentelemetry_otlp=error,hyper=warn,hyper_util=warn,\
                 reqwest=warn,h2=warn,tower=warn,rustls=warn,rmcp=warn,tokio_postgres=warn";
    let filter = EnvFilter::new(format!("{},{quiet}", config.level.as_str().to_lowercase()));
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A person at a terminal reads lines; whatever else reads gets JSON.
    let lines = if std::io::stderr().is_terminal() {
        stderr.compact().with_target(false).with_filter(filter).boxed()
    } else {
        stderr.json().with_filter(filter).boxed()
    };
    let provider = match &config.otlp_endpoint {
        None => None,
        Some(endpoint) => {
            let endpoint = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
            let exporter = SpanExporter::builder()
                .with_http()
                .with_endpoint(endpoint)
                .with_timeout(std::time::Duration::from_secs(5))
                .build()
                .map_err(|why| fault(why.to_string()))?;
            let resource = Resource::builder().with_service_name(config.service_name.clone()).build();
            Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
        }
    };
    let traces = provider.as_ref().map(|provider| {
        let tracer = provider.tracer("countersign");
        // Our own spans and nothing of the libraries'.
        let ours = EnvFilter::new("off,countersign=info,countersign_gate=info");
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours)
    });
    tracing_subscriber::registry()
        .with(lines)
        .with(traces)
        .try_init()
        .map_err(|why| fault(why.to_string()))?;
    Ok(Telemetry(provider))
}
