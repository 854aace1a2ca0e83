//! What can decide about one tool: the policies whose scope lets them apply, as they are needed at each
//! step of a call.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString as _},
    sync::Arc,
    vec::Vec,
};
use core::str::FromStr as _;

use cedar_policy::{ActionConstraint, EntityTypeName, EntityUid, Policy, PolicySet, ResourceConstraint};

use crate::{
    entity::uid,
    id::PolicyId,
    mentions::Mentions,
    schema::{self, Attribute},
    source::Rule,
    tool::ToolSpec,
};

/// A slice is what can decide about one tool.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) tool: Arc<ToolSpec>,
    pub(crate) types: BTreeMap<String, Attribute>,
    pub(crate) principals: EntityTypeName,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    /// Every policy that can apply.
    pub(crate) all: Judged,
    /// Their ids, in the order of the bundle.
    pub(crate) members: Vec<PolicyId>,
    /// Those whose answer does not wait for the reach or an approval.
    pub(crate) early: Judged,
    /// This is true if a permit waits for the reach or an approval.
    pub(crate) late_permit: bool,
    /// Policies that look at the reach, reduced to the conditions that do not.
    pub(crate) reach_guards: Judged,
    /// Permits and forbids, reduced to what is known before any call.
    pub(crate) listed_permits: Judged,
    pub(crate) listed_forbids: Judged,
}

/// A part of a slice answers one question about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Every policy that can apply.
    All,
    /// See [`Slice::early`].
    Early,
    /// See [`Slice::reach_guards`].
    ReachGuards,
}

impl Slice {
    pub(crate) const fn part(&self, part: Part) -> &Judged {
        match part {
            Part::All => &self.all,
            Part::Early => &self.early,
            Part::ReachGuards => &self.reach_guards,
        }
    }
}

/// A set of policies that is evaluated together, with what it looks at.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) set: PolicySet,
    pub(crate) mentions: Mentions,
}

impl Judged {
    /// INVARIANT: `mentions` covers every policy of `set`.
    pub(crate) fn add(&mut self, policy: Policy, mentions: &Mentions) -> bool {
        self.mentions.add(mentions);
        self.set.add(policy).is_ok()
    }
}

/// Slices the policies for a tool. `None` when they cannot be put together, which is a fault.
pub(crate) fn slice(
    tool: &Arc<ToolSpec>,
    types: BTreeMap<String, Attribute>,
    rules: &[Rule],
) -> Option<Slice> {
    let action = uid("Action", tool.name.as_str())?;
    let resource = uid("System", tool.system.name.as_str())?;
    let mut slice = Slice {
        tool: tool.clone(),
        types,
        principals: EntityTypeName::from_str("Agent").ok()?,
        action,
        resource,
        all: Judged::default(),
        members: Vec::new(),
        early: Judged::default(),
        late_permit: false,
        reach_guards: Judged::default(),
        listed_permits: Judged::default(),
        listed_forbids: Judged::default(),
    };
    let scope = Scope::of(tool)?;
    let late = |m: &Mentions| m.sees("reach") || m.sees("approval");
    for rule in rules.iter().filter(|rule| scope.admits(&rule.policy)) {
        slice.members.push(rule.id.clone());
        let mut added = slice.all.add(rule.policy.clone(), &rule.mentions);
        if late(&rule.mentions) {
            slice.late_permit |= !rule.forbids;
        } else {
            added &= slice.early.add(rule.policy.clone(), &rule.mentions);
        }
        if rule.mentions.sees("reach") {
            let guard = rule.reduced(|m| !late(m))?;
            added &= slice.reach_guards.add(guard.policy, &guard.mentions);
        }
        let listed = rule.reduced(|m| m.only(&["effect"]))?;
        if !rule.forbids {
            added &= slice.listed_permits.add(listed.policy, &listed.mentions);
        } else if listed.complete {
            added &= slice.listed_forbids.add(listed.policy, &listed.mentions);
        }
        if !added {
            return None;
        }
    }
    Some(slice)
}

/// The scopes of policies are compared with this: a tool's action and system and what they are in.
pub(crate) struct Scope {
    actions: Vec<EntityUid>,
    resources: Vec<EntityUid>,
}

impl Scope {
    pub(crate) fn of(tool: &ToolSpec) -> Option<Self> {
        let groups = schema::groups(tool);
        let actions = core::iter::once(tool.name.as_str()).chain(groups.iter().map(String::as_str));
        let system = &tool.system;
        let resources = [
            uid("System", system.name.as_str()),
            uid("Environment", &system.environment),
            uid("Account", &system.account),
        ];
        Some(Self {
            actions: actions.map(|id| uid("Action", id)).collect::<Option<_>>()?,
            resources: resources.into_iter().collect::<Option<_>>()?,
        })
    }

    /// Returns true if a policy's scope lets it apply. Where it does not, the policy can neither be satisfied nor
    /// fail, because Cedar looks at the scope first.
    pub(crate) fn admits(&self, policy: &Policy) -> bool {
        self.admits_action(policy) && self.admits_resource(policy)
    }

    pub(crate) fn admits_action(&self, policy: &Policy) -> bool {
        match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(action) => self.actions.first() == Some(&action),
            ActionConstraint::In(any) => any.iter().any(|a| self.actions.contains(a)),
        }
    }

    fn admits_resource(&self, policy: &Policy) -> bool {
        let system = |kind: &EntityTypeName| kind.to_string() == "System";
        match policy.resource_constraint() {
            ResourceConstraint::Any => true,
            ResourceConstraint::Eq(one) => self.resources.first() == Some(&one),
            ResourceConstraint::In(group) => self.resources.contains(&group),
            ResourceConstraint::Is(kind) => system(&kind),
            ResourceConstraint::IsIn(kind, group) => system(&kind) && self.resources.contains(&group),
        }
    }
}
