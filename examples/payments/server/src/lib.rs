//! Stands in for a payment API with refunds.
//!
//! ```text
//! GET  /charges/{id}   what was charged, and how much of it can still be refunded
//! POST /refunds        {"charge", "reason"} refunds what is left of a charge; honours `Idempotency-Key`
//! GET  /refunds        every refund made
//! ```
//!
//! It wants a bearer token, keeps everything in memory, and can be told to lose answers or to end in the middle
//! of a refund, because that is what the example is about.

use std::{
    collections::BTreeMap,
    io,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

/// The API with its charges. Clones are handles on the same one, and it outlives a server that ends.
#[derive(Clone, Debug)]
pub struct Payments(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: String,
    books: Mutex<Books>,
    crash: Notify,
}

/// How the server misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// So many refunds are made and never answered.
    pub lose_answers: u32,
    /// The next refund is made, and the server ends before it is answered.
    pub crash_at_refund: bool,
}

#[derive(Debug)]
struct Books {
    charges: BTreeMap<&'static str, Charge>,
    refunds: Vec<Refund>,
    /// What was asked under an idempotency key, and the refund that it made.
    keys: BTreeMap<String, (Order, Refund)>,
    behaviour: Behaviour,
    raise: Option<Raise>,
}

/// A charge that grows when it has been looked at so many more times.
#[derive(Clone, Copy, Debug)]
struct Raise {
    charge: &'static str,
    looks: u32,
    by: u64,
}

#[derive(Clone, Copy, Debug)]
struct Charge {
    customer: &'static str,
    amount: u64,
    refunded: u64,
    currency: &'static str,
}

/// A refund that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refund {
    /// Its id.
    pub id: String,
    /// The charge.
    pub charge: String,
    /// How much, in minor units.
    pub amount: u64,
    /// The currency.
    pub currency: &'static str,
    /// What for.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    charge: String,
    reason: String,
}

const CHARGES: [(&str, &str, u64, &str); 6] = [
    ("ch_1001", "cus_41", 1_900, "EUR"),
    ("ch_1002", "cus_41", 12_500, "EUR"),
    ("ch_1003", "cus_77", 84_000, "EUR"),
    ("ch_1004", "cus_77", 4_500, "EUR"),
    ("ch_1005", "cus_90", 3_000, "USD"),
    ("ch_1006", "cus_90", 4_900, "EUR"),
];

impl Payments {
    /// An API that wants a token.
    #[must_use]
    pub fn new(token: &str, behaviour: Behaviour) -> Self {
        let charges = CHARGES
            .map(|(id, customer, amount, currency)| (id, Charge { customer, amount, refunded: 0, currency }));
        let books = Books {
            charges: charges.into(),
            refunds: Vec::new(),
            keys: BTreeMap::new(),
            behaviour,
            raise: None,
        };
        Self(Arc::new(Inner { token: token.to_owned(), books: Mutex::new(books), crash: Notify::new() }))
    }

    /// Every refund made so far.
    #[must_use]
    pub fn refunds(&self) -> Vec<Refund> {
        self.books().refunds.clone()
    }

    /// Changes how it misbehaves.
    pub fn behave(&self, behaviour: Behaviour) {
        self.books().behaviour = behaviour;
    }

    /// Lets a charge grow once it has been looked at `looks` more times.
    pub fn raise(&self, charge: &'static str, looks: u32, by: u64) {
        self.books().raise = Some(Raise { charge, looks, by });
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves on a listener until it crashes as it was told to. Connections that are open then break.
///
/// # Errors
/// When the listener cannot be served.
pub fn serve(listener: TcpListener, payments: &Payments) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // Dropped at the end with every connection, as in a process that ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = Router::new()
            .route("/charges/{id}", get(charge))
            .route("/refunds", get(refunds).post(refund))
            .layer(from_fn_with_state(payments.clone(), authenticate))
            .with_state(payments.clone());
        tokio::select! {
            served = axum::serve(listener, router) => served,
            () = payments.0.crash.notified() => Ok(()),
        }
    })
}

async fn authenticate(State(payments): State<Payments>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if presented.and_then(|value| value.strip_prefix("Bearer ")) == Some(payments.0.token.as_str()) {
        return next.run(request).await;
    }
    refused(StatusCode::UNAUTHORIZED, "the token is missing or wrong")
}

async fn charge(State(payments): State<Payments>, Path(id): Path<String>) -> Response {
    match payments.books().look(&id) {
        None => refused(StatusCode::NOT_FOUND, "there is no such charge"),
        Some(charge) => Json(json!({
            "id": id,
            "customer": charge.customer,
            "amount": charge.amount,
            "refunded": charge.refunded,
            "refundable": charge.amount.saturating_sub(charge.refunded),
            "currency": charge.currency,
        }))
        .into_response(),
    }
}

async fn refunds(State(payments): State<Payments>) -> Response {
    Json(json!({ "refunds": payments.refunds() })).into_response()
}

async fn refund(State(payments): State<Payments>, headers: HeaderMap, Json(order): Json<Order>) -> Response {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (made, behaviour) = {
        let mut books = payments.books();
        let made = books.refund(order, key);
        let behaviour = books.behaviour;
        if made.is_ok() {
            books.behaviour.lose_answers = behaviour.lose_answers.saturating_sub(1);
            books.behaviour.crash_at_refund = false;
        }
        (made, behaviour)
    };
    match made {
        Ok(refund) => {
            if behaviour.crash_at_refund {
                payments.0.crash.notify_one();
            }
            if behaviour.crash_at_refund || behaviour.lose_answers > 0 {
                std::future::pending::<()>().await;
            }
            (StatusCode::CREATED, Json(refund)).into_response()
        }
        Err((status, why)) => refused(status, why),
    }
}

impl Books {
    /// A charge as it is now.
    fn look(&mut self, id: &str) -> Option<Charge> {
        let seen = self.charges.get(id).copied();
        if let Some(raise) = self.raise.as_mut().filter(|raise| raise.charge == id) {
            raise.looks = raise.looks.saturating_sub(1);
            if raise.looks == 0
                && let Some(charge) = self.charges.get_mut(id)
            {
                charge.amount = charge.amount.saturating_add(raise.by);
                self.raise = None;
            }
        }
        seen
    }

    fn refund(&mut self, order: Order, key: Option<String>) -> Result<Refund, (StatusCode, &'static str)> {
        if let Some((before, refund)) = key.as_ref().and_then(|key| self.keys.get(key)) {
            if *before == order {
                return Ok(refund.clone());
            }
            return Err((
                StatusCode::UNPROCESSABLE_ENTITY,
                "the idempotency key was used for another refund",
            ));
        }
        let missing = (StatusCode::NOT_FOUND, "there is no such charge");
        let charge = self.charges.get_mut(order.charge.as_str()).ok_or(missing)?;
        let amount = charge.amount.saturating_sub(charge.refunded);
        if amount == 0 {
            return Err((StatusCode::CONFLICT, "the charge is refunded already"));
        }
        charge.refunded = charge.amount;
        let refund = Refund {
            id: format!("re_{}", self.refunds.len().saturating_add(1)),
            charge: order.charge.clone(),
            amount,
            currency: charge.currency,
            reason: order.reason.clone(),
        };
        self.refunds.push(refund.clone());
        if let Some(key) = key {
            self.keys.insert(key, (order, refund.clone()));
        }
        Ok(refund)
    }
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}
