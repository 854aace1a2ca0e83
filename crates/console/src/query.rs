//! The query of a page, as a type that knows all of its fields.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The fields of a page's query. What is no such query is told by a page.
pub(crate) struct UrlQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for UrlQuery<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Query::<T>::from_request_parts(parts, state).await.map(|query| Self(query.0)).map_err(|_why| {
            Failure::new(
                StatusCode::BAD_REQUEST,
                "No such page",
                "this page does not know what the address asks of it",
            )
            .help("begin at the inbox")
        })
    }
}
