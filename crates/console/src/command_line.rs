//! Letting a command line act as who is signed in.

use askama::Template;
use axum::{
    Json,
    extract::{FromRequest as _, OriginalUri, Request, State},
    response::{Html, IntoResponse as _, Response},
};
use countersign_app::auth::{Ceremony, CommandLine, CommandLineAsks, PasswordShown};
use countersign_rules::{Code, Refusal};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    Console, asset,
    failure::Failure,
    frame::{Frame, at},
    passkey::Told,
    query::UrlQuery,
    sign_in::{inside, providers},
    signed::{Sent, Signed, address},
};

#[derive(Template)]
#[template(path = "command_line.html")]
struct Page<'a> {
    frame: Frame,
    asks: &'a CommandLineAsks,
    check: String,
    until: String,
    /// The person shows once more who they are.
    show: bool,
    password: bool,
    passkey: bool,
    /// Each provider by which they may do so, with its address.
    providers: Vec<(String, String)>,
    refused: String,
    why: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "command_line_done.html")]
struct Done<'a> {
    assets: asset::Version,
    person: &'a str,
    location: &'a str,
}

/// Asks whether a command line may act as who is signed in.
pub(crate) async fn show(
    State(console): State<Console>,
    OriginalUri(uri): OriginalUri,
    signed: Signed,
    UrlQuery(asks): UrlQuery<CommandLineAsks>,
) -> Result<Html<String>, Failure> {
    let line = asks.checked()?;
    let here = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    page(&console, &signed, &line, &here, None).await.map(Html)
}

async fn page(
    console: &Console,
    signed: &Signed,
    line: &CommandLine,
    here: &str,
    why: Option<&str>,
) -> Result<String, Failure> {
    let (frame, _waiting) = console.frame(signed, "account").await?;
    let look = console.app.accounts().look_at_command_line(&signed.session, line).await?;
    let page = Page {
        frame,
        asks: line.asks(),
        check: line.check_word(),
        until: at(look.until_ms),
        show: look.show,
        password: look.password,
        passkey: look.passkey,
        providers: providers(console, inside(here))
            .into_iter()
            .map(|(address, title)| (address, title.to_owned()))
            .collect(),
        refused: line.refused(),
        why,
    };
    Ok(page.render()?)
}

#[derive(Deserialize)]
pub(crate) struct Answer {
    #[serde(flatten)]
    asks: CommandLineAsks,
    password: Option<String>,
    sealed: Option<String>,
    said: Option<String>,
}

/// Asks a passkey to show once more who is signed in.
pub(crate) async fn options(
    State(console): State<Console>,
    Sent { by, form: Answer { asks, .. } }: Sent<Answer>,
) -> Result<Json<Ceremony>, Told> {
    let line = asks.checked()?;
    Ok(Json(console.app.accounts().begin_command_line(&by.session, &line).await?))
}

/// Lets the command line act as who is signed in, and leads the browser back to it.
pub(crate) async fn answer(State(console): State<Console>, request: Request) -> Result<Response, Failure> {
    let (from, request) = address(request, &console).await;
    let Sent { by, form } = Sent::<Answer>::from_request(request, &console).await?;
    let line = form.asks.checked()?;
    let text = |value: Option<String>| value.unwrap_or_default();
    let (password, sealed, said) = (text(form.password), text(form.sealed), text(form.said));
    let shown = if said.is_empty() {
        PasswordShown::Typed(&password)
    } else {
        PasswordShown::Passkey { sealed: &sealed, said: &said }
    };
    match console.app.accounts().let_command_line(&by.session, &line, shown, from).await {
        // A form leads nowhere else than to this server (`form-action`), so that a page leads on.
        Ok(location) => {
            let page = Done { assets: asset::Version, person: by.person().id.as_str(), location: &location };
            Ok(Html(page.render()?).into_response())
        }
        Err(refusal) => not_done(&console, &by, &line, refusal).await,
    }
}

/// Says on the page itself what was not done, and why.
async fn not_done(
    console: &Console,
    signed: &Signed,
    line: &CommandLine,
    refusal: Refusal,
) -> Result<Response, Failure> {
    if !matches!(refusal.code, Code::Unauthenticated | Code::Malformed) {
        return Err(refusal.into());
    }
    let why = match &refusal.help {
        Some(help) => format!("Nothing was done: {}; {help}", refusal.message),
        None => format!("Nothing was done: {}", refusal.message),
    };
    let page = page(console, signed, line, &address_of(line.asks()), Some(&why)).await?;
    Ok((StatusCode::BAD_REQUEST, Html(page)).into_response())
}

/// Returns the page that asks about a command line.
fn address_of(asks: &CommandLineAsks) -> String {
    let CommandLineAsks { code_challenge, redirect_uri, state, machine, seconds, .. } = asks;
    // What was checked has nothing else to escape.
    let redirect_uri = redirect_uri.replace(':', "%3A").replace('/', "%2F");
    format!(
        "/console/command-line?code_challenge={code_challenge}&code_challenge_method=S256&redirect_uri={redirect_uri}\
         &state={state}&machine={machine}&seconds={seconds}"
    )
}
