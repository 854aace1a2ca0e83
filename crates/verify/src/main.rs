//! Verifies a Countersign log, or one entry of it, with nothing but the audit crate.
//!
//! It trusts the key on its command line and the checkpoints that somebody kept,
//! and nothing in the folder. It writes no file and connects to nothing.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use arguments::Arguments;

mod arguments;
mod folder;
mod log;
mod proof;

fn main() -> ExitCode {
    let answer = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Arguments::Help) => Ok(Printed { text: arguments::HELP.to_owned(), good: true }),
        Ok(Arguments::Version) => Ok(Printed { text: VERSION.to_owned(), good: true }),
        Ok(Arguments::Log(arguments)) => log::verify(&arguments),
        Ok(Arguments::Proof(arguments)) => proof::verify(&arguments),
        Err(message) => {
            Err(format!("{message}\n   help: `countersign-verify --help` explains the arguments"))
        }
    };
    // Nobody may take an answer that was not delivered for a good one.
    let delivered = answer.and_then(|answer| {
        let written = io::stdout().lock().write_all(answer.text.as_bytes());
        written.map(|()| answer.good).map_err(|error| format!("the answer cannot be written: {error}"))
    });
    match delivered {
        Ok(true) => ExitCode::from(VERIFIED),
        Ok(false) => ExitCode::from(FINDINGS),
        Err(message) => {
            // If even this cannot be written, the exit code still says it.
            drop(writeln!(io::stderr().lock(), "countersign-verify: {message}"));
            ExitCode::from(UNUSABLE)
        }
    }
}

const VERSION: &str = concat!("countersign-verify ", env!("CARGO_PKG_VERSION"), "\n");
const VERIFIED: u8 = 0;
const FINDINGS: u8 = 1;
const UNUSABLE: u8 = 2;

/// What is printed, and whether it is good news.
struct Printed {
    text: String,
    good: bool,
}

/// Text from a file, made harmless for a terminal: control characters and those that reorder
/// or hide text are escaped.
fn shown(text: &str) -> String {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}
