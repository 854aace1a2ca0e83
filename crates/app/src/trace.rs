//! Calls come from these places in their clients' traces (W3C Trace Context).

use countersign_rules::TraceParent;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Reads the place in a trace that a request comes from; `None` if its headers name none or several, or what
/// they name is no such place.
pub fn trace_of(headers: &http::HeaderMap) -> Option<TraceParent> {
    let mut given = headers.get_all("traceparent").iter();
    let only = given.next().filter(|_| given.next().is_none())?;
    TraceParent::parse(only.to_str().ok()?).ok()
}

/// Makes the span of a call that came from a place in its client's trace, which it continues.
pub(crate) fn continued(from: &TraceParent) -> tracing::Span {
    let span = tracing::info_span!("call_received", otel.name = "call", otel.kind = "server");
    let parent = Context::new().with_remote_span_context(place(from));
    // Without a collector there is no trace to continue.
    drop(span.set_parent(parent));
    span
}

/// Links the span of what is performed later to the place that its call came from.
pub(crate) fn linked(span: &tracing::Span, from: &TraceParent) {
    span.add_link(place(from));
}

/// Returns a place in a client's trace as spans refer to it. It counts as sampled whatever the client says:
/// nobody hides calls from us.
fn place(of: &TraceParent) -> SpanContext {
    let (trace, span) =
        (TraceId::from_bytes(of.trace().to_be_bytes()), SpanId::from_bytes(of.span().to_be_bytes()));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE)
}
