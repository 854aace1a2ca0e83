//! `payments-stand-in`: a payment API on loopback, to try the example with.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
};

use clap::Parser;
use payments_stand_in::{Behaviour, Payments, serve};

/// Stands in for a payment API with refunds. Everything is in memory and begins anew with each start.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7790")]
    listen: SocketAddr,
    /// The bearer token that requests must present
    #[arg(long, env = "PAYMENTS_TOKEN", hide_env_values = true)]
    token: String,
    /// Make so many refunds without ever answering, as a network does that loses answers
    #[arg(long, default_value_t = 0)]
    lose_answers: u32,
    /// Make the next refund and end before it is answered
    #[arg(long)]
    crash_at_refund: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let behaviour =
        Behaviour { lose_answers: arguments.lose_answers, crash_at_refund: arguments.crash_at_refund };
    let payments = Payments::new(&arguments.token, behaviour);
    let served = TcpListener::bind(arguments.listen).and_then(|listener| {
        writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
        serve(listener, &payments)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // If even this cannot be written, the exit code still says it.
            drop(writeln!(std::io::stderr(), "cannot serve on `{}`: {why}", arguments.listen));
            ExitCode::FAILURE
        }
    }
}
