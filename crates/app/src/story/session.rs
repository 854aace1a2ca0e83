//! The story of an agent's session: the stories of its calls, and how it began.

use countersign_gate::entry::{SessionOpened, Told};
use countersign_store::StoredEntry;
use serde::Serialize;

use super::{
    MARGIN, Story, calls,
    read::Read,
    words::{arguments, clock, counted, quoted, ranges},
};
use crate::text::one_line;

/// This is the story of one agent's session.
#[derive(Debug, Default, Serialize)]
pub struct Session {
    /// The session has this name.
    pub session: String,
    /// The session is this agent's.
    pub agent: String,
    /// The session began so, if the entry that opened it is among those read.
    pub opened: Option<Opened>,
    /// The session's calls, in the order in which they came.
    pub calls: Vec<Story>,
}

/// A session began so.
#[derive(Debug, Serialize)]
pub struct Opened {
    /// The session began at this time (RFC 3339).
    pub at: String,
    /// This entry says so.
    pub entry: u64,
    /// The session came by this door: `mcp`, `rest`, …
    pub front_door: String,
    /// The client calls itself this.
    pub client: Option<String>,
    /// The agent belonged to these teams then.
    pub teams: Vec<String>,
    /// The agent acted for this person then.
    pub on_behalf_of: Option<String>,
}

/// Returns the sessions in some entries, one per agent: two agents may give theirs the same name.
pub fn sessions(entries: &[StoredEntry]) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut of = |agent: &str, session: &str| -> usize {
        if let Some(place) = sessions.iter().position(|known| known.agent == agent) {
            return place;
        }
        sessions.push(Session { session: session.into(), agent: agent.into(), ..Session::default() });
        sessions.len().saturating_sub(1)
    };
    let mut opened = Vec::new();
    for entry in entries.iter().map(Read::new) {
        let (Some(agent), Some(session)) = (entry.text("agent"), entry.text("session")) else { continue };
        let place = of(agent, session);
        if let Some(Told::SessionOpened(told)) = &entry.told {
            opened.push((place, Opened::new(&entry, told)));
        }
    }
    for (place, how) in opened {
        if let Some(session) = sessions.get_mut(place) {
            session.opened.get_or_insert(how);
        }
    }
    for story in calls(entries) {
        if let Some(session) = sessions.iter_mut().find(|session| session.agent == story.agent) {
            session.calls.push(story);
        }
    }
    sessions
}

impl Opened {
    fn new(entry: &Read, told: &SessionOpened<'_>) -> Self {
        Self {
            at: entry.word("at"),
            entry: entry.index,
            front_door: one_line(&told.front_door),
            client: told.client.as_deref().map(one_line),
            teams: told.teams.iter().map(|team| one_line(team.as_str())).collect(),
            on_behalf_of: told.on_behalf_of.as_ref().map(|person| one_line(person.as_str())),
        }
    }
}

impl Session {
    /// Writes the session as text: how it began, a few lines for each call, and what it comes to.
    pub fn told(&self) -> String {
        let mut text = format!("session `{}` of agent `{}`", one_line(&self.session), one_line(&self.agent));
        if let Some(opened) = &self.opened {
            if !opened.teams.is_empty() {
                text.push_str(&format!(" (team {})", opened.teams.join(", ")));
            }
            if let Some(person) = &opened.on_behalf_of {
                text.push_str(&format!(", acting for `{person}`"));
            }
            let client = opened.client.as_ref().map(|client| format!(" by \"{client}\"")).unwrap_or_default();
            text.push_str(&format!(
                "\nopened {} over {}{client}  [{}]",
                opened.at, opened.front_door, opened.entry
            ));
        }
        let mut day = String::new();
        for story in &self.calls {
            let at = story.steps.first().map(|step| step.at.as_str()).unwrap_or_default();
            let today = at.get(..10).unwrap_or_default();
            if today != day {
                text.push_str(&format!("\n\n{today}, times in UTC, log entries in [ ]"));
                day = today.to_owned();
            }
            text.push_str(&format!(
                "\n\n  {:<12}  {} {}: {}  {}",
                clock(at),
                one_line(&story.call),
                story.tool,
                story.end(),
                ranges(&story.entries())
            ));
            for line in arguments(story.arguments.as_object()) {
                text.push_str(&format!("\n{MARGIN}{line}"));
            }
            if let Some(claim) = &story.reason_claimed {
                text.push_str(&format!("\n{MARGIN}it claims: {}", quoted(claim)));
            }
        }
        let performed = self.calls.iter().filter(|story| story.state.starts_with("done")).count();
        let doubt = self.calls.iter().filter(|story| story.state == "in_doubt").count();
        let rows = self.calls.iter().filter_map(|story| story.rows).fold(0_u64, u64::saturating_add);
        text.push_str(&format!(
            "\n\n{} calls: {performed} performed ({}), {doubt} in doubt, {} not performed",
            self.calls.len(),
            counted(rows),
            self.calls.len().saturating_sub(performed).saturating_sub(doubt)
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sessions_of_the_same_name_are_told_apart() {
        let rejected = |agent: &str, call: &str| {
            json!({ "v": 1, "at": "2026-03-01T10:00:00.000Z", "kind": "call_rejected", "agent": agent, "session": "s",
                    "call": call, "body": { "tool": "sql", "code": "R001", "message": "no" } })
        };
        let entries = [rejected("a", "call-1"), rejected("b", "call-2")]
            .map(|entry| StoredEntry { index: 1, bytes: entry.to_string().into_bytes() });
        let sessions = sessions(&entries);
        let agents: Vec<(&str, usize)> =
            sessions.iter().map(|session| (session.agent.as_str(), session.calls.len())).collect();
        assert_eq!(agents, [("a", 1), ("b", 1)]);
    }
}
