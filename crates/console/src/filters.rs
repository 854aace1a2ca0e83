//! How templates write what somebody else wrote. HTML is escaped beside it, by the template's type.

use std::fmt::Display;

use askama::Values;

/// On one line, with what is invisible spelled out.
#[askama::filter_fn]
pub(crate) fn one_line(text: impl Display, _values: &dyn Values) -> askama::Result<String> {
    Ok(countersign_app::text::one_line(&text.to_string()))
}

/// With its lines, and what is invisible spelled out.
#[askama::filter_fn]
pub(crate) fn visible(text: impl Display, _values: &dyn Values) -> askama::Result<String> {
    Ok(countersign_app::text::visible(&text.to_string()))
}

/// What may not be there, on one line.
#[askama::filter_fn]
pub(crate) fn shown(text: Option<&str>, _values: &dyn Values) -> askama::Result<String> {
    Ok(countersign_app::text::one_line(text.unwrap_or("-")))
}

/// A word of ours as people write it.
#[askama::filter_fn]
pub(crate) fn words(text: impl Display, _values: &dyn Values) -> askama::Result<String> {
    Ok(text.to_string().replace('_', " "))
}

/// Names with commas between them.
#[askama::filter_fn]
pub(crate) fn joined(names: &[String], _values: &dyn Values) -> askama::Result<String> {
    Ok(countersign_app::text::one_line(&names.join(", ")))
}
