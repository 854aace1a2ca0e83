//! One decision: Cedar alone, ours with 20 policies, ours with 1,000 of which a slice names the tool, and ours remembered.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use cedar_policy::{Authorizer, Context, Entities, EntityUid, PolicySet, Request};
use countersign_gate::Remembered;
use countersign_rules::{
    AgentId, AgentSpec, Arguments, Call, CallDigest, CallId, Counters, DeclaredEffect, Effect, Facts,
    Policies, PolicySource, Requester, SessionId, SystemName, SystemSpec, TeamName, ToolName, ToolSpec,
    ToolVersion, decide,
};
use serde_json::json;

/// Median times, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decisions {
    /// Cedar itself, 20 policies, request and entities ready.
    pub(crate) bare_20: f64,
    /// Ours, 20 policies.
    pub(crate) ours_20: f64,
    /// Ours, 1,000 policies over 500 tools.
    pub(crate) ours_1000: f64,
    /// Ours, 20 policies of which those of the tool look at no more than a key holds: evaluated each time.
    pub(crate) plain: f64,
    /// The same, remembered.
    pub(crate) remembered: f64,
}

/// Measures all of them in turns, so that a slow moment slows them all.
pub(crate) fn measure() -> anyhow::Result<Decisions> {
    let few = World::new(10, policy)?;
    let many = World::new(500, policy)?;
    let plain = World::new(10, plain_policy)?;
    let remembered = World::new(10, plain_policy)?.remembering();
    let bare = Bare::new()?;
    let mut cases: [(&mut dyn FnMut(), Vec<f64>); 5] = [
        (&mut || bare.decide(), Vec::new()),
        (&mut || few.decide(), Vec::new()),
        (&mut || many.decide(), Vec::new()),
        (&mut || plain.decide(), Vec::new()),
        (&mut || remembered.decide(), Vec::new()),
    ];
    for _ in 0..15 {
        for (case, times) in &mut cases {
            let started = Instant::now();
            for _ in 0..400 {
                case();
            }
            times.push(started.elapsed().as_secs_f64() * 1e9 / 400.0);
        }
    }
    let [bare_20, ours_20, ours_1000, plain, remembered] =
        cases.map(|(_, times)| crate::report::median(times));
    Ok(Decisions { bare_20, ours_20, ours_1000, plain, remembered })
}

/// Two policies a tool: one permit that fits, one forbid that does not.
fn policy(tool: usize) -> String {
    format!(
        "permit (principal in Team::\"finance\", action == Action::\"tool_{tool}\", resource)\n\
         when {{ context.effect == \"read\" && context.session.calls < 1000000 }};\n\
         forbid (principal, action == Action::\"tool_{tool}\", resource)\n\
         when {{ resource.environment == \"production\" && context.args.months > 12 }};\n"
    )
}

/// As many, that look at nothing but agent, system and effect.
fn plain_policy(tool: usize) -> String {
    format!(
        "permit (principal in Team::\"finance\", action == Action::\"tool_{tool}\", resource)\n\
         when {{ context.effect == \"read\" }};\n\
         forbid (principal, action == Action::\"tool_{tool}\", resource)\n\
         when {{ resource.environment == \"production\" && context.effect != \"read\" }};\n"
    )
}

struct World {
    policies: Policies,
    call: Call<()>,
    facts: Facts,
}

impl World {
    fn new(tools: usize, policy: fn(usize) -> String) -> anyhow::Result<Self> {
        let arguments = Arguments::parse(&crate::upstream::schema()).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let spec = |n: usize| -> anyhow::Result<Arc<ToolSpec>> {
            Ok(Arc::new(ToolSpec {
                name: ToolName::parse(&format!("tool_{n}"))?,
                version: ToolVersion::parse("v1")?,
                system: SystemSpec {
                    name: SystemName::parse("billing")?,
                    kind: "postgres".into(),
                    environment: "production".into(),
                    account: "acme".into(),
                },
                description: String::new(),
                effect: DeclaredEffect::Read,
                categories: BTreeSet::new(),
                reversible: false,
                measurable: false,
                idempotent: false,
                arguments: arguments.schema().clone(),
                result: None,
                rates: Vec::new(),
                rows_max: 100,
            }))
        };
        let specs: Vec<_> = (0..tools).map(spec).collect::<anyhow::Result<_>>()?;
        let text: String = (0..tools).map(policy).collect();
        let agent = AgentId::parse("bot")?;
        let agents = [AgentSpec {
            id: agent.clone(),
            teams: BTreeSet::from([TeamName::parse("finance")?]),
            accounts: BTreeSet::from(["acme".into()]),
        }];
        let policies = Policies::load(&[PolicySource::user("bench", text)], &specs, &agents)?;
        let Some(tool) = specs.get(tools / 2).map(Arc::clone) else { anyhow::bail!("no tools") };
        let arguments = crate::upstream::arguments();
        let call = Call {
            id: CallId::parse("call-1")?,
            requester: Requester {
                agent,
                teams: vec![TeamName::parse("finance")?],
                session: SessionId::parse("s1")?,
                on_behalf_of: None,
            },
            digest: CallDigest::compute(&tool.name, &tool.version, &arguments)?,
            tool,
            arguments,
            reason: None,
            key: None,
            replaces: None,
            again: None,
            trace: None,
            narrowed: None,
            parsed: (),
        };
        let facts = Facts {
            effect: Effect::Read,
            categories: BTreeSet::new(),
            reversible: false,
            reach: None,
            statement: None,
            session: Counters::default(),
            agent_today: Counters::default(),
            provenance: BTreeSet::new(),
            now_ms: 1_795_363_200_000,
            approval: None,
        };
        let world = Self { policies, call, facts };
        anyhow::ensure!(
            decide(&world.call, &world.facts, &world.policies).as_str() == "allow",
            "the benchmark's call must be allowed"
        );
        Ok(world)
    }

    fn remembering(self) -> Self {
        Self { policies: self.policies.with_memory(Remembered::default()), ..self }
    }

    fn decide(&self) {
        std::hint::black_box(decide(&self.call, &self.facts, &self.policies));
    }
}

/// Cedar with the same policies and everything built beforehand.
struct Bare {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    request: Request,
}

impl Bare {
    fn new() -> anyhow::Result<Self> {
        let text: String = (0..10).map(policy).collect();
        let entities = json!([
            { "uid": { "type": "Team", "id": "finance" }, "attrs": {}, "parents": [] },
            { "uid": { "type": "Agent", "id": "bot" }, "attrs": {}, "parents": [{ "type": "Team", "id": "finance" }] },
            { "uid": { "type": "System", "id": "billing" }, "attrs": { "environment": "production" }, "parents": [] },
        ]);
        let context = json!({
            "effect": "read",
            "session": { "calls": 0 },
            "args": { "months": 12 },
        });
        let uid = |text: &str| text.parse::<EntityUid>().map_err(Box::new);
        Ok(Self {
            authorizer: Authorizer::new(),
            policies: text.parse()?,
            entities: Entities::from_json_value(entities, None)?,
            request: Request::new(
                uid("Agent::\"bot\"")?,
                uid("Action::\"tool_5\"")?,
                uid("System::\"billing\"")?,
                Context::from_json_value(context, None)?,
                None,
            )?,
        })
    }

    fn decide(&self) {
        std::hint::black_box(self.authorizer.is_authorized(&self.request, &self.policies, &self.entities));
    }
}

#[cfg(test)]
mod tests {
    use countersign_rules::Decision;

    use super::*;

    /// What the rules learn to refuse must not stop the benchmark before it measures anything.
    #[test]
    fn the_policies_are_accepted_and_allow_the_call() {
        for policy in [policy, plain_policy] {
            let world = World::new(10, policy).unwrap().remembering();
            assert!(matches!(decide(&world.call, &world.facts, &world.policies), Decision::Allow(_)));
        }
        let bare = Bare::new().unwrap();
        let answer = bare.authorizer.is_authorized(&bare.request, &bare.policies, &bare.entities);
        assert_eq!(answer.decision(), cedar_policy::Decision::Allow);
    }
}
