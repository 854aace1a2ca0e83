//! The style and the script, from this server and no other, under a name that changes with them.

use axum::{
    extract::Path,
    response::{IntoResponse as _, Response},
};
use countersign_audit::sha256;
use http::{HeaderValue, header};
use std::sync::LazyLock;

use crate::failure::Failure;

const STYLE: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// Pages name their assets by this, so that a browser keeps those of one version for ever and never mixes two.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    sha256([STYLE, SCRIPT, ICON].concat().as_bytes()).to_string().chars().take(12).collect()
});

/// The version of the assets, as a template writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version;

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&VERSION)
    }
}

/// Serves an asset, whatever version is asked for: there is one.
pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.split_once('-').map_or(name.as_str(), |(_version, name)| name) {
        "console.css" => ("text/css; charset=utf-8", STYLE),
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Failure::nothing_here().into_response(),
    };
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    response
}
