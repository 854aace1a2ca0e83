//! Arguments: placeholder until validation lands.

use alloc::string::String;

use serde_json::Value;

use crate::{Refusal, call::REASON_FIELD};

/// Takes the reserved reason out of the arguments.
///
/// # Errors
/// None yet.
pub fn split_reason(mut arguments: Value) -> Result<(Value, Option<String>), Refusal> {
    let reason = arguments
        .as_object_mut()
        .and_then(|object| object.remove(REASON_FIELD))
        .and_then(|reason| reason.as_str().map(String::from));
    Ok((arguments, reason))
}
