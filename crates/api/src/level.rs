//! Service levels: how soon people answer.

use axum::{Json, extract::State};
use countersign_app::level::{DAYS, DAYS_MAX, LevelsBody};
use countersign_rules::Code;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Api, Problem, ProblemBody, UrlQuery, request::AsPerson};

/// Of which time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LevelQuery {
    /// Requests of so many days before now, 1 to 90; 30 if not said.
    days: Option<u32>,
}

/// How soon people answer: by group and by tool, and what the caller answered; operators see what everybody answered. For
/// people.
#[utoipa::path(
    get, path = "/v1/service-levels", tag = "approvals", operation_id = "get_service_levels",
    params(LevelQuery),
    responses(
        (status = 200, body = LevelsBody),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
    UrlQuery(query): UrlQuery<LevelQuery>,
) -> Result<Json<LevelsBody>, Problem> {
    let days = query.days.unwrap_or(DAYS);
    if !(1..=DAYS_MAX).contains(&days) {
        let message = format!("`days` is {days}, and 1 to {DAYS_MAX} can be looked at");
        return Err(Problem::new(Code::Malformed, message));
    }
    Ok(Json(api.app.service_levels(&person, days).await?))
}
