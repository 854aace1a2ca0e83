//! The web console: people see what waits for them, answer it, and look at what was done.
//!
//! A front door like the others: it sees `app` and no other door, and holds no rule. Pages are made on the server and
//! work without scripts; the one script adds keys, what changes meanwhile, and checking a proof. Nothing comes from
//! another host, and nothing stands in a page that a policy of the browser could not refuse.

mod account;
mod asset;
mod batch;
mod budget;
mod command_line;
mod event;
mod failure;
#[expect(unreachable_pub, reason = "made so by the macro of filters")]
mod filters;
mod frame;
mod grant;
mod guard;
mod halt;
mod health;
mod inbox;
mod level;
mod log;
mod narrow;
mod passkey;
mod people;
mod proof;
mod provider;
mod query;
mod request;
mod session;
mod sign_in;
mod signed;
mod statement;
mod tool;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::Redirect,
    routing::{any, get, post},
};
use countersign_app::App;
use tokio_util::sync::CancellationToken;

use self::failure::Failure;
pub use self::guard::CONTENT_SECURITY_POLICY;

/// A form of the console has at most so many bytes.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// What handlers share.
#[derive(Debug, Clone)]
pub struct Console {
    pub(crate) app: Arc<App>,
    pub(crate) stopping: CancellationToken,
}

impl Console {
    /// Makes the console of an application, until the server stops.
    #[must_use]
    pub const fn new(app: Arc<App>, stopping: CancellationToken) -> Self {
        Self { app, stopping }
    }
}

/// Returns every route under `/console`, and the one from `/` to it.
pub fn router(console: Console) -> Router {
    let pages = Router::new()
        .route("/console", get(|| async { Redirect::permanent("/console/") }))
        .route("/console/", get(inbox::show))
        .route("/console/waiting", get(inbox::waiting))
        .route("/console/events", get(event::events))
        .route("/console/requests", get(inbox::all))
        .route("/console/requests/{id}", get(request::show))
        .route("/console/requests/{id}/approve", post(request::approve))
        .route("/console/requests/{id}/confirm/options", post(passkey::confirm_options))
        .route("/console/requests/{id}/refuse", post(request::refuse))
        .route("/console/requests/{id}/alike", get(batch::show).post(batch::answer))
        .route("/console/requests/{id}/narrow", post(narrow::narrow))
        .route("/console/requests/{id}/look-closer", post(narrow::look_closer))
        .route("/console/requests/{id}/end-grant", post(request::end_grant))
        .route("/console/grants", get(grant::list))
        .route("/console/sessions", get(session::list))
        .route("/console/session", get(session::show))
        .route("/console/log", get(log::list))
        .route("/console/log/{index}", get(log::show))
        .route("/console/tools", get(tool::list))
        .route("/console/budgets", get(budget::list))
        .route("/console/people", get(people::list))
        .route("/console/levels", get(level::show))
        .route("/console/health", get(health::show))
        .route("/console/halts", post(halt::halt))
        .route("/console/halts/resume", post(halt::resume))
        .route("/console/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/console/sign-in/{provider}", get(provider::leave))
        .route("/console/sign-in/{provider}/return", get(provider::came_back))
        .route("/console/sign-in/{provider}/sign-out", post(provider::ordered_out))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/passkey/sign-in", post(passkey::sign_in))
        .route("/console/passkey/sign-in/options", post(passkey::sign_in_options))
        .route("/console/passkey/link", post(passkey::link))
        .route("/console/passkey/link/options", post(passkey::link_options))
        .route("/console/account", get(account::show))
        .route("/console/account/passkeys", post(account::add))
        .route("/console/account/passkeys/options", post(account::add_options))
        .route("/console/account/passkeys/remove", post(account::remove))
        .route("/console/account/password", post(account::password))
        .route("/console/account/password/options", post(account::password_options))
        .route("/console/command-line", get(command_line::show).post(command_line::answer))
        .route("/console/command-line/options", post(command_line::options))
        .route("/console/link", get(sign_in::link).post(sign_in::look))
        .route("/console/link/set-up", post(sign_in::set_up))
        .route("/console/{*page}", any(|| async { Failure::nothing_here() }))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::map_response(guard::never_stored));
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/console/") }))
        .route("/console/assets/{name}", get(asset::serve))
        .merge(pages)
        .layer(middleware::from_fn(guard::admit))
        .with_state(console)
}
