//! What PostgreSQL keeps of passwords, keys and connection strings, under every name that leads there.
//!
//! Told by the relation, by the function, and by a text that is run as SQL or names a relation, a setting or a file. A text
//! that is put together while it runs does not show what it says: what runs it is `opaque` then, and no more is known.

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::functions;
use super::implicit::Reading;
use super::walk::Walk;
use crate::statement::{Category, TableRef};

/// Relations in the server's own schema. A table of the same name in a schema of the user's own is none of them.
const RELATIONS: [&str; 9] = [
    "pg_authid",
    "pg_shadow",
    "pg_user_mapping",
    "pg_user_mappings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_file_settings",
    "pg_subscription",
    // Of Citus, which puts it there.
    "pg_dist_authinfo",
];

/// The views of the standard that show them, and where their wide values are kept.
const ELSEWHERE: [(&str, &str); 5] = [
    ("information_schema", "user_mapping_options"),
    ("information_schema", "_pg_user_mappings"),
    ("pg_toast", "pg_toast_1260"),
    ("pg_toast", "pg_toast_1418"),
    ("pg_toast", "pg_toast_6100"),
];

/// Settings whose value may hold a password.
const SETTINGS: [&str; 2] = ["primary_conninfo", "ssl_passphrase_command"];

/// Words in the names of files that say how people and servers sign in.
const FILES: [&str; 3] = ["pg_hba", "pg_ident", "pgpass"];

/// What of it a walk has met: only together do a text and what reads by it mean anything.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// A constant speaks of credentials.
    text: bool,
    /// Something reads what a text names.
    reader: bool,
}

impl Walk<'_> {
    /// A constant of the statement, or of what it runs.
    pub(super) fn spoken(&mut self, text: &str) {
        self.spoken.text |= speaks(text);
    }

    pub(super) fn constant(&mut self, constant: &pb::AConst) {
        if constant.isnull {
            self.met.reads(Reading::Nulls);
        }
        if let Some(pb::a_const::Val::Sval(text)) = &constant.val {
            self.met.reads(Reading::Texts);
            self.spoken(&text.sval);
        }
    }

    /// From here on a text decides what is read.
    pub(super) fn reads_by_text(&mut self) {
        self.spoken.reader = true;
    }

    /// `SHOW`.
    pub(super) fn shows(&mut self, name: &str) {
        if name.eq_ignore_ascii_case("all") {
            self.found.categories.insert(Category::Catalog);
        }
        self.reads_by_text();
        self.spoken(name);
    }

    /// A call of a function. Those of bundled extensions may be in any schema; `own`: it is PostgreSQL's.
    pub(super) fn told_by(&mut self, function: &str, own: bool) {
        if by_text(function) {
            self.reads_by_text();
        }
        if own && functions::tells_catalog(function) {
            self.found.categories.insert(Category::Catalog);
        }
    }

    /// `current_setting` of whatever comes: the settings as a whole are shown by a view of the catalog.
    pub(super) fn any_setting(&mut self, name: &str, args: &[pb::Node]) {
        let constant = |node: &pb::Node| matches!(node.node, Some(NodeEnum::AConst(_)));
        if name == "current_setting" && !args.first().is_some_and(constant) {
            self.found.categories.insert(Category::Catalog);
        }
    }

    /// Sums up, when all of a statement was walked.
    pub(super) fn credentials(&mut self) {
        let found = &self.found;
        let touched = found.reads.iter().chain(&found.writes);
        let touched: Vec<String> = touched
            .chain(&found.reads_through)
            .chain(&found.writes_through)
            .filter(|table| held(table))
            .map(ToString::to_string)
            .collect();
        for table in touched {
            let text = format!("`{table}` holds passwords, keys or connection strings");
            self.found.categories.insert(Category::Credentials);
            self.found.note("credentials", text);
        }
        if self.spoken.text && self.spoken.reader {
            self.found.categories.insert(Category::Credentials);
            self.found
                .note("credentials", "reads by a text that names passwords, keys or connection strings");
        }
    }
}

/// Whether a relation holds credentials.
fn held(table: &TableRef) -> bool {
    let name = table.name.as_str();
    match table.schema.as_deref() {
        // Whatever the search path is: it may be meant.
        None => RELATIONS.contains(&name) || ELSEWHERE.iter().any(|(_, other)| *other == name),
        Some("pg_catalog") => RELATIONS.contains(&name),
        Some(schema) => ELSEWHERE.contains(&(schema, name)),
    }
}

/// Whether a text names a relation, setting or file that holds credentials. `schema_to_xml` prints all of a schema.
fn speaks(text: &str) -> bool {
    let known = |word: &str| {
        let elsewhere = ELSEWHERE.iter().map(|(_, name)| name);
        let mut all = RELATIONS.iter().chain(elsewhere).chain(&SETTINGS).chain(&FILES);
        all.any(|one| one.eq_ignore_ascii_case(word))
    };
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    text == "pg_catalog" || text == "global/1260" || words.any(known)
}

/// Whether a function runs a text as SQL, or reads the relation, setting, pages or file that a text names.
fn by_text(name: &str) -> bool {
    functions::runs_text(name)
        || matches!(
            name,
            "current_setting"
                | "pg_show_all_settings"
                | "get_raw_page"
                | "pg_read_file"
                | "pg_read_binary_file"
                | "pg_read_file_old"
                | "pg_file_read"
                | "lo_import"
        )
        || name.starts_with("dblink")
}
