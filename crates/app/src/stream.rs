//! These streams stay open: events over REST and subscriptions over MCP. Each principal may have a few at once,
//! and none lasts for ever, so that nobody holds the server's connections by asking for nothing.

use std::time::Duration;

use countersign_rules::{Code, Refusal};

use crate::{
    auth::Principal,
    places::{Place, Places},
};

/// These streams are open, by principal.
#[derive(Debug, Clone)]
pub struct Streams {
    open: Places<String>,
    lasts: Duration,
}

/// One stream is open, and is closed when this is dropped.
pub type OpenStream = Place<String>;

impl Streams {
    /// Makes room for so many streams of each principal, each of them lasting so long.
    pub fn new(each_max: usize, lasts: Duration) -> Self {
        Self { open: Places::new(each_max), lasts }
    }

    /// Tells when a stream that begins now is over.
    pub fn until(&self) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        now.checked_add(self.lasts).unwrap_or(now)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// Returns [`Code::RateLimited`] if the principal has enough of them.
    pub fn open(&self, who: &Principal) -> Result<OpenStream, Refusal> {
        let principal = match who {
            Principal::Agent(agent) => format!("agent {}", agent.agent),
            Principal::Person(person) => format!("person {}", person.id),
        };
        self.open.take(principal.clone()).ok_or_else(|| {
            let message = format!("{} streams of this {principal} are open already", self.open.each_max());
            Refusal::new(Code::RateLimited, message)
                .help("close one of them; one stream tells of every change")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use countersign_rules::PersonId;

    use super::*;
    use crate::{auth::Person, role::Roles};

    #[test]
    fn a_closed_stream_makes_room_and_others_are_not_concerned() {
        let who = |id| {
            Principal::Person(Person {
                id: PersonId::parse(id).unwrap(),
                groups: BTreeSet::new(),
                roles: Roles::default(),
                credential: "k".into(),
            })
        };
        let streams = Streams::new(2, Duration::from_secs(1));
        let first = streams.open(&who("a")).unwrap();
        let _second = streams.open(&who("a")).unwrap();
        assert_eq!(streams.open(&who("a")).unwrap_err().code, Code::RateLimited);
        let _other = streams.open(&who("b")).unwrap();
        drop(first);
        let _third = streams.open(&who("a")).unwrap();
        assert_eq!(streams.open(&who("a")).unwrap_err().code, Code::RateLimited);
    }
}
