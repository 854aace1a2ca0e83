//! `countersign policy`: what the rules say, without a server.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use clap::Subcommand;
use countersign_audit::from_slice_strict;
use countersign_rules::{
    AgentId, AgentSpec, Foretold, GroupName, Observed, Observer, PersonId, PolicyId, Refusal, ToolName,
    ToolSpec, explain,
    matrix::{Matrix, matrix},
    scenario::{Deployment, Question, Scenario, ScenarioReport},
};
use serde::Serialize;
use serde_json::Value;

use super::{Failure, FolderOption, Outcome, Output, bundle, counted, load};
use crate::{
    bundle::{Bundle, agents},
    config::Config,
};

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Judge the scenarios of the folder: each call must get the answer it expects
    Test {
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Say why a call would get its answer: every policy, and what it says
    #[command(
        after_help = "CALL.json: {\"agent\", \"tool\", \"arguments\", \"facts\"}; the facts are those of a scenario's case, such as\n\
                            {\"effect\": \"destructive\", \"reach\": {\"rows\": 14200}}. What is not said is as quiet as can be."
    )]
    Explain {
        /// The call, as a JSON file
        call: PathBuf,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Print the Cedar schema that policies are checked against: everything they can look at
    Schema {
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Print what each agent gets from each tool, before any call is known
    Matrix {
        /// Compare with this file, and fail when it differs
        #[arg(long, value_name = "FILE")]
        expect: Option<PathBuf>,
        /// Write it to this file, to be reviewed and committed
        #[arg(long, value_name = "FILE", conflicts_with = "expect")]
        write: Option<PathBuf>,
        #[command(flatten)]
        folder: FolderOption,
    },
}

/// What came out of the scenarios of a folder.
#[derive(Debug, Default, Serialize)]
pub(super) struct Judged {
    files: BTreeMap<String, Verdict>,
    /// Policies that applied in no case.
    untested: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    report: ScenarioReport,
}

impl Judged {
    pub(super) fn mismatches(&self) -> usize {
        self.files
            .values()
            .map(|file| file.report.mismatches.len().saturating_add(usize::from(file.error.is_some())))
            .sum()
    }

    fn cases(&self) -> usize {
        self.files.values().map(|file| file.report.cases).sum()
    }
}

impl Policy {
    pub(super) fn run(self, out: &Output) -> Outcome {
        match self {
            Self::Test { folder } => {
                let config = load(&folder.dir)?;
                let judged = judge(&config, &bundle(&config)?)?;
                out.value(&judged);
                print(&judged, out);
                if judged.mismatches() == 0 { Ok(()) } else { Err(Failure::No) }
            }
            Self::Explain { call, folder } => explain_call(&call, &load(&folder.dir)?, out),
            Self::Schema { folder } => {
                let schema = bundle(&load(&folder.dir)?)?.policies.schema_text();
                out.value(&serde_json::json!({ "schema": schema }));
                out.line(schema.trim_end());
                Ok(())
            }
            Self::Matrix { expect, write, folder } => {
                let config = load(&folder.dir)?;
                let bundle = bundle(&config)?;
                let table = matrix(&bundle.policies);
                out.value(&table);
                if out.terminal() {
                    cells(&table, out);
                } else {
                    out.line(table.to_string().trim_end());
                }
                if let Some(file) = write {
                    std::fs::write(file, table.to_string())?;
                }
                expect.map_or(Ok(()), |file| compare(&table, &file, out))
            }
        }
    }
}

/// The matrix for a terminal, which may be too narrow for the table that is committed.
fn cells(table: &Matrix, out: &Output) {
    let rows = table.rows.iter().map(|row| {
        let by: Vec<&str> = row.policies.iter().map(PolicyId::as_str).collect();
        vec![
            format!("{} {}", row.agent, row.tool),
            row.environment.clone(),
            row.effect.to_string(),
            row.answer.clone(),
            by.join(", "),
            row.possible.join(", "),
        ]
    });
    out.table(&["agent and tool", "environment", "effect", "answer", "by", "possible"], rows);
}

fn compare(table: &Matrix, file: &std::path::Path, out: &Output) -> Outcome {
    let expected = std::fs::read_to_string(file)?;
    if expected.trim_end() == table.to_string().trim_end() {
        return Ok(());
    }
    if !out.json() {
        out.note(format!("the matrix is not the one of `{}`", file.display()));
    }
    Err(Failure::No)
}

/// A folder as the server would see a call of it: through its tools, and with the agents and people that it names.
#[derive(Debug)]
struct Seen<'a> {
    config: &'a Config,
    bundle: &'a Bundle,
}

impl Observer for Seen<'_> {
    fn observe(&self, tool: &ToolName, arguments: &Value) -> Option<Result<Observed, Refusal>> {
        self.bundle.tools.get(tool).map(|offer| offer.tool.observe(arguments.clone()))
    }

    fn foretell(&self, tool: &ToolName, arguments: &Value) -> Option<Result<Foretold, Refusal>> {
        self.bundle.tools.get(tool).map(|offer| offer.tool.foretell(arguments))
    }

    fn acts_for(&self, agent: &AgentId) -> Option<Option<PersonId>> {
        self.config.agents.get(agent).map(|agent| agent.on_behalf_of.clone())
    }

    fn groups(&self, person: &PersonId) -> Option<BTreeSet<GroupName>> {
        Some(self.config.people.get(person).map(|person| person.groups.clone()).unwrap_or_default())
    }
}

/// Judges the scenarios of a folder with its tools, agents and policies.
pub(super) fn judge(config: &Config, bundle: &Bundle) -> Result<Judged, Failure> {
    let (tools, agents) = deployment(config, bundle);
    let deployment = Deployment {
        observer: &Seen { config, bundle },
        sources: &config.policies,
        tools: &tools,
        agents: &agents,
    };
    let mut judged = Judged::default();
    for (name, text) in &config.scenarios {
        let verdict = match toml::from_str::<Scenario>(text) {
            Err(why) => Verdict { error: Some(why.to_string()), report: ScenarioReport::default() },
            Ok(scenario) => match scenario.check(&deployment) {
                Ok(report) => Verdict { error: None, report },
                Err(why) => Verdict { error: Some(why.to_string()), report: ScenarioReport::default() },
            },
        };
        judged.files.insert(name.clone(), verdict);
    }
    Ok(judged)
}

fn deployment(config: &Config, bundle: &Bundle) -> (Vec<Arc<ToolSpec>>, Vec<AgentSpec>) {
    (bundle.tools.values().map(|offer| Arc::clone(offer.spec())).collect(), agents(config))
}

pub(super) fn print(judged: &Judged, out: &Output) {
    for (name, file) in &judged.files {
        if let Some(error) = &file.error {
            out.line(format!("{name}: {}", error.trim_end()));
        }
        for mismatch in &file.report.mismatches {
            out.line(format!(
                "{name}: case `{}`: {} is {}, expected {}",
                mismatch.case, mismatch.field, mismatch.found, mismatch.expected
            ));
        }
    }
    let wrong = judged.mismatches();
    let verdict = if wrong == 0 { "all as expected".to_owned() } else { format!("{wrong} not as expected") };
    let cases = counted(judged.cases(), "case", "cases");
    let files = counted(judged.files.len(), "scenario file", "scenario files");
    out.line(format!("{cases} in {files}: {verdict}"));
}

fn explain_call(path: &std::path::Path, config: &Config, out: &Output) -> Outcome {
    let bundle = bundle(config)?;
    let (tools, agents) = deployment(config, &bundle);
    let question: Question = serde_json::from_value(from_slice_strict(&std::fs::read(path)?)?)?;
    let (call, facts) =
        question.call(&tools, &agents, &Seen { config, bundle: &bundle }).map_err(anyhow::Error::msg)?;
    let explanation = explain(&call, &facts, &bundle.policies);
    out.value(&explanation);
    out.line(explanation.to_string().trim_end());
    Ok(())
}
