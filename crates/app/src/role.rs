//! What people may do here, beside answering what their groups are asked: by roles, which the configuration gives.
//!
//! A role opens what [`Right`] says and nothing else. It widens no group: whom a policy asks is the policy's to say.

use std::{collections::BTreeSet, fmt};

use countersign_rules::{Code, Refusal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Person;

/// This is what somebody is here. Everybody with any role may look: at calls, sessions, tools, budgets, halts and the log,
/// and at the requests that ask one of their groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks, and does nothing.
    Viewer,
    /// Answers what their groups are asked; halts; undoes.
    Approver,
    /// Keeps agents running: resumes what is halted, settles calls in doubt, tries channels, ends grants.
    Operator,
    /// Looks at everything, also at what others are asked and how they answer.
    Auditor,
    /// Keeps what opens this server: keys, and the evidence that is to be erased.
    Admin,
}

impl Role {
    /// Every role, the narrowest first.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Approver, Self::Operator, Self::Auditor, Self::Admin];

    /// Returns the role as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Approver => "approver",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    /// Returns the role that is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// This takes a role of those that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Approving, refusing and changing what one's groups are asked.
    Answer,
    /// Halting an agent, or all.
    Halt,
    /// Proposing to undo a call, which others approve.
    Undo,
    /// Ending a halt, settling a call in doubt, trying channels again, ending any grant.
    Operate,
    /// Seeing the requests and grants of all groups, and how everybody answers.
    SeeAll,
    /// Seeing which keys there are.
    SeeKeys,
    /// Revoking keys, and erasing evidence.
    Administer,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 7] =
        [Self::Answer, Self::Halt, Self::Undo, Self::Operate, Self::SeeAll, Self::SeeKeys, Self::Administer];

    /// Returns the roles that have the right: any one of them will do.
    #[must_use]
    pub const fn of(self) -> &'static [Role] {
        match self {
            Self::Answer => &[Role::Approver],
            Self::Halt => &[Role::Approver, Role::Operator, Role::Admin],
            Self::Undo => &[Role::Approver, Role::Operator],
            Self::Operate => &[Role::Operator],
            Self::SeeAll => &[Role::Operator, Role::Auditor, Role::Admin],
            Self::SeeKeys => &[Role::Auditor, Role::Admin],
            Self::Administer => &[Role::Admin],
        }
    }
}

/// These are the roles of a person. Nobody says of one who is in a group what they are: then they answer for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Roles(BTreeSet<Role>);

impl Default for Roles {
    fn default() -> Self {
        Self(BTreeSet::from([Role::Approver]))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().collect())
    }
}

impl Roles {
    /// Returns the roles, the narrowest first.
    pub fn iter(&self) -> impl Iterator<Item = Role> {
        self.0.iter().copied()
    }

    /// Returns true if there is none: then nothing is open, not even looking.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if one of the roles has the right.
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        right.of().iter().any(|role| self.0.contains(role))
    }

    /// Returns those of the roles that a key is narrowed to.
    #[must_use]
    pub fn narrowed_to(&self, roles: &Self) -> Self {
        self.0.intersection(&roles.0).copied().collect()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, role) in self.0.iter().enumerate() {
            let between = if at == 0 { "" } else { ", " };
            write!(f, "{between}{role}")?;
        }
        Ok(())
    }
}

impl Person {
    /// Checks that the person has a right, by the credential that they have presented.
    ///
    /// # Errors
    /// Returns [`Code::OutOfScope`] with the roles that it takes.
    pub fn may(&self, right: Right) -> Result<(), Refusal> {
        if self.roles.may(right) {
            return Ok(());
        }
        let (last, others) = match right.of() {
            [others @ .., last] => (last.as_str(), others),
            [] => ("none", &[][..]),
        };
        let mut wanted = others.iter().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(", ");
        if !wanted.is_empty() {
            wanted.push_str(" or ");
        }
        let message =
            format!("this takes the role {wanted}`{last}`, and `{}` has {} here", self.id, self.roles);
        Err(Refusal::new(Code::OutOfScope, message).help(format!(
            "`roles` of `[person.{}]` says what a person is, and a key may be narrowed to less",
            self.id
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_it_is_written_and_opens_what_its_rights_say() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        for odd in ["", "Admin", "root", "approver ", "аdmin"] {
            assert_eq!(Role::parse(odd), None, "{odd}");
        }
        // Who only looks does nothing, and nobody who keeps keys or reads everything answers by that.
        for right in Right::ALL {
            let of = |role| Roles::from_iter([role]).may(right);
            assert!(!of(Role::Viewer), "{right:?}");
            assert!(Role::ALL.into_iter().any(of), "nobody has {right:?}");
            assert!(!Roles::from_iter([]).may(right), "{right:?}");
        }
        assert_eq!(Right::Answer.of(), [Role::Approver]);
        let all: Roles = Role::ALL.into_iter().collect();
        assert!(all.narrowed_to(&Roles::default()).may(Right::Answer));
        assert!(!all.narrowed_to(&Roles::default()).may(Right::Administer));
        assert!(Roles::default().narrowed_to(&Roles::from_iter([Role::Admin])).is_empty());
    }
}
