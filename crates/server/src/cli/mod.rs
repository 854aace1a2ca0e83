//! The command line.
//!
//! Exit codes: 0 done, and good · 1 done, and not good: a refusal, a failed check, a log that does not verify ·
//! 2 not done: wrong usage, a fault · 3 not yet: people are asked · 4 tried, and failed, or nobody knows what became of it.
//! What was asked for goes to standard output, everything else to standard error.

mod approvals;
mod audit;
mod budgets;
mod calls;
mod channels;
mod check;
mod client;
mod connect;
mod demo;
mod halts;
mod init;
mod journal;
mod kept;
mod keys;
mod levels;
mod login;
mod moment;
mod narrow;
pub(crate) mod output;
mod people;
mod policy;
mod propose;
mod request;
mod serve;
mod sql;
mod system;
mod tools;
mod undo;
mod watch;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{CommandFactory as _, Parser, Subcommand};
use countersign_gate::Vault;
use countersign_rules::Refusal;

use crate::{
    bundle::Bundle,
    config::{Config, Mistakes},
    vault::ConfigVault,
};
use output::Output;

/// The environment variable with the key to present.
pub(crate) const KEY_VARIABLE: &str = "COUNTERSIGN_KEY";

/// Agents propose, rules decide, people countersign what is risky, tools act, and a log proves it.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Start here:\n  countersign init my-folder     write a working folder with a sample database\n  \
                  countersign serve my-folder    start the server\n  countersign approvals watch    see what agents ask for\n\n\
                  Exit codes:\n  0  done, and good\n  1  the answer is no: refused, not verified, mistakes found\n  \
                  2  could not be done: wrong usage, no server, a fault\n  3  not yet: people are asked (`pending`)\n  \
                  4  tried and failed, or not known (`failed`, `in_doubt`)"
)]
pub struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a working, commented configuration folder with a sample database
    Init(init::Init),
    /// Play the incident this program exists for, with a real database, server and agent
    Demo(demo::Demo),
    /// Check a configuration folder, without touching any system unless `--live` says so
    Check(check::Check),
    /// Serve agents and people: MCP at /mcp, REST at /v1
    Serve(serve::Serve),
    /// Join an MCP client on standard input and output to a running server
    Connect(connect::Bridge),
    /// Propose a call as an agent, over REST
    Call(propose::Propose),
    /// See and answer what agents ask for
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    /// Read, export, prove and verify the log
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Test and explain policies
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Say what SQL statements do, without any database
    #[command(subcommand)]
    Sql(sql::Sql),
    /// Act as yourself: get a key of yours from the console, where you are signed in
    Login(login::Login),
    /// Give back the key that `login` got
    Logout(login::Logout),
    /// Say as whom you act, at which server, and by which key
    Whoami(login::Whoami),
    /// Issue, list and revoke API keys of agents and people
    #[command(subcommand)]
    Keys(keys::Keys),
    /// See who can sign in to the console, and make the links by which people set up their accounts
    #[command(subcommand)]
    People(people::People),
    /// Stop an agent, or all, from the next decision on
    Halt(halts::Halt),
    /// End a halt
    Resume(halts::Resume),
    /// See issued calls, and settle those in doubt
    #[command(subcommand)]
    Calls(calls::Calls),
    /// Take back what a call did
    Undo(undo::Undo),
    /// See what is spent and held of each budget
    Budgets(budgets::Budgets),
    /// See and test the channels that tell people, and try again what they were not told
    #[command(subcommand)]
    Channels(channels::Channels),
    /// Look after the databases that agents reach: inspect, prepare for undo, prune
    #[command(subcommand)]
    System(system::System),
    /// List tools, and digest upstream definitions for review
    #[command(subcommand)]
    Tools(tools::Tools),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where the configuration is, for commands that have no other argument: named alone, or with `-C` as everywhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Folder {
    /// The configuration folder [default: where you are]
    #[arg(value_name = "DIR", conflicts_with = "folder")]
    place: Option<PathBuf>,
    /// The configuration folder, as with every other command
    #[arg(long, short = 'C', value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Folder {
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.place.as_deref().or(self.folder.as_deref()).unwrap_or_else(|| std::path::Path::new("."))
    }
}

/// Where the configuration is, for commands whose arguments are something else.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderOption {
    /// The configuration folder
    #[arg(long, short = 'C', default_value = ".", value_name = "DIR", visible_alias = "folder")]
    dir: PathBuf,
}

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be done.
    Failed(anyhow::Error),
    /// The configuration has mistakes.
    Config(Box<Mistakes>),
    /// The answer is no.
    Refused(Box<Refusal>),
    /// The answer is no, and was printed.
    No,
    /// There is no answer yet: people are asked.
    Pending,
    /// It was tried and failed, or nobody knows what became of it; what is known was printed.
    Unsuccessful,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(why: E) -> Self {
        Self::Failed(why.into())
    }
}

pub(crate) type Outcome = Result<(), Failure>;

pub(crate) fn load(dir: &std::path::Path) -> Result<Config, Failure> {
    Config::load(dir).map_err(|mistakes| Failure::Config(Box::new(mistakes)))
}

/// Runs the command line.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Output::new(cli.json);
    let outcome = dispatch(cli.command, &mut out);
    let code = match outcome {
        Ok(()) => 0,
        Err(Failure::No) => 1,
        Err(Failure::Pending) => 3,
        Err(Failure::Unsuccessful) => 4,
        Err(Failure::Refused(refusal)) => {
            out.refusal(&refusal);
            // A call that was performed and failed, or of which nothing is known, was not refused.
            if matches!(refusal.code.status(), "failed" | "in_doubt" | "unknown") { 4 } else { 1 }
        }
        Err(Failure::Config(mistakes)) => {
            out.mistakes(&mistakes);
            1
        }
        Err(Failure::Failed(why)) => {
            out.failure(&why);
            2
        }
    };
    ExitCode::from(code)
}

fn dispatch(command: Command, out: &mut Output) -> Outcome {
    match command {
        Command::Init(init) => init.run(out),
        Command::Check(check) => wait(check.run(out)),
        Command::Demo(demo) => wait(demo.run()),
        Command::Sql(sql) => sql.run(out),
        Command::Policy(policy) => policy.run(out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "countersign", &mut script);
            out.raw(&script);
            Ok(())
        }
        Command::Serve(serve) => wait(serve.run(out)),
        Command::Connect(connect) => wait(connect.run()),
        Command::Call(call) => wait(call.run(out)),
        Command::Approvals(approvals) => wait(approvals.run(out)),
        Command::Audit(audit) => wait(audit.run(out)),
        Command::Login(login) => wait(login.run(out)),
        Command::Logout(logout) => wait(logout.run(out)),
        Command::Whoami(whoami) => wait(whoami.run(out)),
        Command::Keys(keys) => wait(keys.run(out)),
        Command::People(people) => wait(people.run(out)),
        Command::Halt(halt) => wait(halt.run(out)),
        Command::Resume(resume) => wait(resume.run(out)),
        Command::Calls(calls) => wait(calls.run(out)),
        Command::Undo(undo) => wait(undo.run(out)),
        Command::Budgets(budgets) => wait(budgets.run(out)),
        Command::Channels(channels) => wait(channels.run(out)),
        Command::System(system) => wait(system.run(out)),
        Command::Tools(tools) => wait(tools.run(out)),
    }
}

fn wait(work: impl Future<Output = Outcome>) -> Outcome {
    wait_for(work)
}

/// Runs to the end what waits for others.
pub(crate) fn wait_for<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// So many of something, in words.
fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The tools and policies of a configuration, checked offline.
fn bundle(config: &Config) -> Result<Bundle, Failure> {
    let vault: Arc<dyn Vault> = Arc::new(ConfigVault::new(config));
    Bundle::new(config, &vault).map_err(|mistakes| Failure::Config(Box::new(mistakes)))
}
