//! What PostgreSQL's bundled extensions bring that changes nothing: functions, operators and types, by name.
//!
//! `extensions.txt` is made from real servers by `extensions.sh`; a test holds it against them. A name counts only where
//! every form of it is harmless, in every extension and version that is meant. Whoever names an extension says that it is
//! installed: the names are looked up where unqualified ones are, for nobody sees here which schema has them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

/// All of them.
const STANDARD: &str = "standard";

static TABLE: LazyLock<Vec<Section>> = LazyLock::new(|| sections(include_str!("extensions.txt")));

static BUNDLED: LazyLock<Extensions> = LazyLock::new(|| Extensions::of(TABLE.iter()));

/// An extension in one version.
struct Section {
    name: &'static str,
    version: &'static str,
    /// Kinds and names.
    members: Vec<(&'static str, &'static str)>,
}

/// The extensions that a database is said to have.
#[derive(Default)]
pub(crate) struct Extensions {
    functions: BTreeSet<&'static str>,
    operators: BTreeSet<&'static str>,
    types: BTreeSet<&'static str>,
    /// Functions that are harmless although they are declared volatile.
    volatile: BTreeSet<&'static str>,
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} functions, {} operators, {} types",
            self.functions.len(),
            self.operators.len(),
            self.types.len()
        )
    }
}

/// Words that name no extension whose facts are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no extension whose functions are known")]
pub struct UnknownExtension(pub String);

/// Whether the facts of an extension are known: `citext`, in one version `citext@1.6`, or `standard` for all of them.
///
/// # Errors
///
/// [`UnknownExtension`] when they are not.
pub fn check_extension(written: &str) -> Result<(), UnknownExtension> {
    let known = written == STANDARD || TABLE.iter().any(|section| section.is(written));
    if known { Ok(()) } else { Err(UnknownExtension(written.to_owned())) }
}

/// The extensions whose facts are known, each once.
#[must_use]
pub fn known_extensions() -> Vec<&'static str> {
    let names: BTreeSet<_> = TABLE.iter().map(|section| section.name).collect();
    names.into_iter().collect()
}

impl Section {
    fn is(&self, written: &str) -> bool {
        match written.split_once('@') {
            Some((name, version)) => self.name == name && self.version == version,
            None => self.name == written,
        }
    }
}

impl Extensions {
    /// Those that are named. What is not known brings nothing.
    pub(crate) fn named(names: &[String]) -> Self {
        let meant = |section: &&Section| names.iter().any(|name| name == STANDARD || section.is(name));
        Self::of(TABLE.iter().filter(meant))
    }

    fn of(sections: impl Iterator<Item = &'static Section>) -> Self {
        let (mut brought, mut harmful) = (Self::default(), BTreeSet::new());
        for (kind, name) in sections.flat_map(|section| &section.members) {
            match *kind {
                "f" => brought.functions.insert(name),
                "o" => brought.operators.insert(name),
                "t" => brought.types.insert(name),
                "v" => brought.volatile.insert(name),
                _ => harmful.insert(*name),
            };
        }
        brought.functions.retain(|name| !harmful.contains(name));
        brought
    }

    /// Whether a call of this name changes nothing: of a function, or of a type, which converts to it.
    pub(super) fn function(&self, name: &str) -> bool {
        self.functions.contains(name) || self.types.contains(name)
    }

    pub(super) fn operator(&self, name: &str) -> bool {
        self.operators.contains(name)
    }

    pub(super) fn type_name(&self, name: &str) -> bool {
        self.types.contains(name)
    }
}

/// Whether a native function of this name is one of a bundled extension's that only computes: it reads no table, whatever
/// it is declared to be.
pub(super) fn bundled(name: &str) -> bool {
    BUNDLED.functions.contains(name)
}

/// Whether a native function of this name may be volatile, and is harmless all the same: chance, a sample, the clock.
pub(super) fn bundled_volatile(name: &str) -> bool {
    BUNDLED.volatile.contains(name)
}

fn sections(text: &'static str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("="), Some(name), Some(version)) => {
                sections.push(Section { name, version, members: Vec::new() });
            }
            (Some(kind), Some(name), None) => {
                if let Some(section) = sections.last_mut() {
                    section.members.push((kind, name));
                }
            }
            _ => {}
        }
    }
    sections
}
