//! Why a call cannot be put before the policies.

use alloc::string::String;

use crate::{
    effect::Effect,
    id::{AgentId, SystemName, ToolName},
};

/// A call that does not fit the policies or their schema is denied for one of these reasons, which repeat no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// The tool has changed since the policies were loaded.
    #[error("the policies were not loaded for this version of tool `{0}`")]
    Version(ToolName),
    /// The call does what its tool does not declare.
    #[error("effect `{0}` is not what the tool declares")]
    Effect(Effect),
    /// The agent cannot be named in Cedar.
    #[error("the agent is no entity")]
    Agent,
    /// An argument that must be there is not.
    #[error("argument `{0}` is missing")]
    Missing(String),
    /// An argument cannot be what policies take it for.
    #[error("argument `{name}` {why}")]
    Argument {
        /// The argument.
        name: String,
        /// This is wrong with it.
        why: &'static str,
    },
    /// A record would have one field twice.
    #[error("a record has the same name twice")]
    Twice,
    /// The facts are not of the types that policies were checked against.
    #[error("the facts do not fit the schema")]
    Facts,
    /// The request as a whole is not.
    #[error("the request does not fit the schema")]
    Request,
}

/// Agents or systems cannot be made into Cedar's entities for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoEntity {
    /// A system cannot be named.
    #[error("system `{0}` is no entity")]
    System(SystemName),
    /// An agent cannot be named.
    #[error("agent `{0}` is no entity")]
    Agent(AgentId),
    /// Two agents have one name.
    #[error("two agents are named `{0}`")]
    Twice(AgentId),
    /// They are not of the types that the schema says.
    #[error("agents and systems do not fit the schema: {0}")]
    Schema(String),
}
