//! What a bundle's policies said of late, in this process.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use countersign_rules::{DecisionKey, Memory, Verdict};

/// So many verdicts are kept at most: some megabytes.
pub const VERDICTS_MAX: usize = 10_000;

/// The verdicts that were given under one bundle, up to [`VERDICTS_MAX`]. Where another would be one too many, all are
/// forgotten, and what is asked again is soon there again.
#[derive(Debug, Default)]
pub struct Remembered {
    verdicts: RwLock<BTreeMap<DecisionKey, Arc<Verdict>>>,
}

impl Memory for Remembered {
    fn recall(&self, key: &DecisionKey) -> Option<Arc<Verdict>> {
        self.verdicts.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: DecisionKey, verdict: Arc<Verdict>) {
        let mut verdicts = self.verdicts.write().unwrap_or_else(PoisonError::into_inner);
        let forgotten = (verdicts.len() >= VERDICTS_MAX).then(|| std::mem::take(&mut *verdicts));
        verdicts.insert(key, verdict);
        drop(verdicts);
        // Nobody waits while they are dropped.
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use countersign_rules::{
        AgentId, AgentSpec, Arguments, Call, CallDigest, CallId, Counters, DeclaredEffect, Effect, Facts,
        Policies, PolicySource, Requester, SessionId, SystemName, SystemSpec, ToolName, ToolSpec,
        ToolVersion, decide,
    };
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Lent(Arc<Remembered>);

    impl Memory for Lent {
        fn recall(&self, key: &DecisionKey) -> Option<Arc<Verdict>> {
            self.0.recall(key)
        }

        fn keep(&self, key: DecisionKey, verdict: Arc<Verdict>) {
            self.0.keep(key, verdict);
        }
    }

    fn tool() -> Arc<ToolSpec> {
        Arc::new(ToolSpec {
            name: ToolName::parse("query").unwrap(),
            version: ToolVersion::parse("v1").unwrap(),
            system: SystemSpec {
                name: SystemName::parse("billing").unwrap(),
                kind: "postgres".into(),
                environment: "production".into(),
                account: "acme".into(),
            },
            description: String::new(),
            effect: DeclaredEffect::FromStatement,
            categories: BTreeSet::new(),
            reversible: false,
            measurable: false,
            idempotent: false,
            arguments: Arguments::parse(&json!({})).unwrap().schema().clone(),
            result: None,
            rates: Vec::new(),
            rows_max: 100,
        })
    }

    fn call(tool: &Arc<ToolSpec>, agent: &AgentId) -> Call<()> {
        Call {
            id: CallId::parse("c1").unwrap(),
            requester: Requester {
                agent: agent.clone(),
                teams: Vec::new(),
                session: SessionId::parse("s1").unwrap(),
                on_behalf_of: None,
            },
            digest: CallDigest::compute(&tool.name, &tool.version, &json!({})).unwrap(),
            tool: Arc::clone(tool),
            arguments: json!({}),
            reason: None,
            key: None,
            replaces: None,
            again: None,
            trace: None,
            narrowed: None,
            parsed: (),
        }
    }

    fn facts(category: String) -> Facts {
        Facts {
            effect: Effect::Read,
            categories: BTreeSet::from([category]),
            reversible: false,
            reach: None,
            statement: None,
            session: Counters::default(),
            agent_today: Counters::default(),
            provenance: BTreeSet::new(),
            now_ms: 0,
            approval: None,
        }
    }

    #[test]
    fn whatever_is_asked_no_more_is_kept_than_the_bound() {
        let (tool, agent) = (tool(), AgentId::parse("bot").unwrap());
        let accounts = BTreeSet::from(["acme".into()]);
        let agents = [AgentSpec { id: agent.clone(), teams: BTreeSet::new(), accounts }];
        let text = "permit (principal, action, resource) when { context.categories.contains(\"x-7\") };";
        let remembered = Arc::new(Remembered::default());
        let policies = Policies::load(&[PolicySource::user("test", text)], &[Arc::clone(&tool)], &agents)
            .unwrap()
            .with_memory(Lent(Arc::clone(&remembered)));
        let call = call(&tool, &agent);
        let kept = || remembered.verdicts.read().unwrap().len();
        let answer = |n: usize| decide(&call, &facts(format!("x-{n}")), &policies);
        for n in 0..VERDICTS_MAX {
            assert_eq!(answer(n).as_str(), if n == 7 { "allow" } else { "deny" });
            assert_eq!(kept(), n.saturating_add(1));
        }
        assert_eq!(answer(7).as_str(), "allow");
        assert_eq!(kept(), VERDICTS_MAX);
        assert_eq!(answer(VERDICTS_MAX).as_str(), "deny");
        assert_eq!(kept(), 1);
        assert_eq!(answer(7).as_str(), "allow");
        assert_eq!(kept(), 2);
    }
}
