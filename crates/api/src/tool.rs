//! Tools, as an agent may see them.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Api, Problem, request::AsAgent};

/// A tool.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolBody {
    /// The name to call it by.
    name: String,
    /// The digest of its whole definition.
    version: String,
    /// What it does.
    description: String,
    /// `read`, `write`, `destructive` or `from_statement`.
    effect: String,
    /// The system it acts on.
    system: String,
    /// That system's environment.
    environment: String,
    /// What it is about, such as `money`.
    categories: Vec<String>,
    /// JSON Schema 2020-12 of the arguments, with the reserved `_reason`.
    #[schema(value_type = Object)]
    arguments: Value,
    /// JSON Schema 2020-12 of the result, when declared.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// How often it may be called.
    rates: Vec<String>,
    /// The most rows one call may touch or return.
    rows_max: u64,
}

/// A list of tools.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolsBody {
    /// Sorted by name.
    tools: Vec<ToolBody>,
}

/// The tools that this agent may ever call.
#[utoipa::path(
    get, path = "/v1/tools", tag = "tools", operation_id = "list_tools",
    responses((status = 200, body = ToolsBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn list(State(api): State<Api>, AsAgent(who): AsAgent) -> Result<Json<ToolsBody>, Problem> {
    let tools = api
        .app
        .offered(&who)
        .into_iter()
        .map(|offered| ToolBody {
            name: offered.spec.name.to_string(),
            version: offered.spec.version.to_string(),
            description: offered.spec.description.clone(),
            effect: offered.spec.effect.as_str().to_owned(),
            system: offered.spec.system.name.to_string(),
            environment: offered.spec.system.environment.clone(),
            categories: offered.spec.categories.iter().cloned().collect(),
            arguments: (*offered.input_schema).clone(),
            result: offered.output_schema.as_deref().cloned(),
            rates: offered.spec.rates.iter().map(ToString::to_string).collect(),
            rows_max: offered.spec.rows_max,
        })
        .collect();
    Ok(Json(ToolsBody { tools }))
}
