//! What every answer of the console tells the browser, and which requests are not looked at.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderName, HeaderValue, Method, header};

use crate::failure::Failure;

/// Everything comes from this server, no script or style stands in a page, no other page may show this one in a
/// frame, and forms go nowhere else.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Forms of our own pages still say where they come from, which `no-referrer` would take away.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Refuses what a page of another site has sent, by what the browser says of it (Fetch Metadata), and adds the headers.
/// A request that only looks may come from anywhere: a link in a message leads here.
pub(crate) async fn admit(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let foreign = site.is_some_and(|site| site != b"same-origin" && site != b"none");
    let mut response = if foreign && !looks {
        use axum::response::IntoResponse as _;
        Failure::foreign().into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Pages are for who is signed in, now: neither the browser nor a proxy keeps them.
pub(crate) async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
