//! A snapshot of what a database holds, which sharpens the answer.
//!
//! Optional everywhere. It may show that a view, a trigger, a cascade or a function does more than the text says. It makes
//! a statement a read only where it shows all that runs: see [`Routine`]. A snapshot ages: what it does not mention is
//! treated as if there were none.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What is known of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalog {
    /// PostgreSQL: where unqualified names are looked up; empty means `public`.
    pub search_path: Vec<String>,
    /// PostgreSQL: bundled extensions that the database has (`citext`, `citext@1.6`, or `standard` for all), whose functions,
    /// operators and types are known without being listed here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// Tables and views.
    pub relations: Vec<Relation>,
    /// Functions and procedures that are not PostgreSQL's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routines: Vec<Routine>,
    /// Operators that are not PostgreSQL's own. They may stand in front of PostgreSQL's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<Operator>,
    /// Types that are not PostgreSQL's own, row types of relations excepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Type>,
    /// Conversions that are not PostgreSQL's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub casts: Vec<Cast>,
    /// SQLite: the texts of `sqlite_schema.sql`, in the order of their `rowid`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<String>,
}

/// A table or view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name, as the database stores it.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: RelationKind,
    /// Its columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    /// The columns of its primary key, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary_key: Vec<String>,
    /// The query of a view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// A view that is read with the privileges of whoever asks, not of its owner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub security_invoker: bool,
    /// Foreign keys of *this* table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_keys: Vec<ForeignKey>,
    /// Enabled triggers, those of foreign keys excepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// Enabled rewrite rules, that of a view excepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Whether row security applies: what a statement sees or touches is then decided by policies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub row_security: bool,
    /// The policies, whether row security applies or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// Expressions that planning works out wherever it is read, as far as no column stands in them: of indexes, statistics,
    /// conditions and partition keys, if they call what is not PostgreSQL's own. Each may be a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<String>,
    /// The tables it is a partition or a child of: reading or changing those reads or changes this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherits: Vec<Name>,
}

/// Kinds of relations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// An ordinary or partitioned table.
    #[default]
    Table,
    /// A view: its query runs in place of its name.
    View,
    /// A stored query.
    MaterializedView,
    /// A table of another server.
    ForeignTable,
    /// SQLite: a table that a module answers for.
    VirtualTable,
}

/// A name with its schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// Its schema.
    pub schema: String,
    /// The name, as the database stores it.
    pub name: String,
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as the database writes it.
    #[serde(default, rename = "type")]
    pub data_type: String,
    /// The text of its default or, when it is generated, of its expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Computed from other columns; `expression` says how, where the database tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generated: bool,
    /// Numbered by the database (`GENERATED … AS IDENTITY`, `AUTOINCREMENT`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub identity: bool,
}

/// A foreign key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignKey {
    /// Its columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Schema of the table it points to.
    pub schema: String,
    /// The table it points to.
    pub table: String,
    /// The columns it points to, in the same order; empty means the primary key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// What deleting there does here.
    #[serde(default)]
    pub on_delete: Action,
    /// What changing the key there does here.
    #[serde(default)]
    pub on_update: Action,
}

/// The referential action of a foreign key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `NO ACTION` and `RESTRICT`: the statement fails instead.
    #[default]
    Refuse,
    /// `CASCADE`.
    Cascade,
    /// `SET NULL`.
    SetNull,
    /// `SET DEFAULT`.
    SetDefault,
}

/// A trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// `insert`, `update`, `delete`, `truncate`.
    pub events: BTreeSet<String>,
    /// It acts in place of the change (`INSTEAD OF`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub instead: bool,
    /// The function it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Name>,
}

/// A rewrite rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// `insert`, `update`, `delete`.
    pub events: BTreeSet<String>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// A policy of row security. Its expressions run with every statement it applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// `select`, `insert`, `update`, `delete`.
    pub events: BTreeSet<String>,
    /// Which rows are seen (`USING`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub using: Option<String>,
    /// Which rows may be written (`WITH CHECK`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

/// A function, procedure or aggregate.
///
/// PostgreSQL itself refuses changes in a function declared `STABLE` or `IMMUTABLE`, but not in a volatile function that
/// it calls. So a declaration alone proves nothing: a routine is a read when all that it runs can be seen and is a read,
/// which only a text in SQL shows, or when it is native code that is declared so, or the tool's author vouches for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routine {
    /// Its schema.
    pub schema: String,
    /// Its name, as the database stores it.
    pub name: String,
    /// The types of its arguments: they tell functions of one name apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// What it is.
    #[serde(default)]
    pub kind: RoutineKind,
    /// What it was declared to be. Several functions of one name count as the strictest.
    pub volatility: Volatility,
    /// Runs with its owner's privileges.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub security_definer: bool,
    /// The language it is written in: `sql`, `plpgsql`, `c`, `internal`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language: String,
    /// Where it looks up unqualified names, when it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_path: Option<String>,
    /// Its text, of a function that is written in `sql`, or in `plpgsql` and not volatile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Which types of its arguments and results are not PostgreSQL's own; none where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<Name>>,
    /// What stands in for arguments that a call leaves out, as a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<String>,
    /// The functions an aggregate is made of. Of native code that no extension brought: by which names it is known to
    /// PostgreSQL or to one of its extensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Name>,
    /// A person vouches that it changes nothing. Never part of a snapshot.
    #[serde(skip)]
    pub vouched: bool,
}

/// Kinds of routines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutineKind {
    /// A function, window functions included.
    #[default]
    Function,
    /// A procedure, which only `CALL` runs.
    Procedure,
    /// An aggregate. PostgreSQL calls each of them immutable, whatever its functions are.
    Aggregate,
}

/// What a function was declared to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volatility {
    /// Depends on nothing but its arguments.
    Immutable,
    /// Reads, and may not change the database.
    Stable,
    /// May do anything.
    #[default]
    Volatile,
}

/// An operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The function it calls.
    pub function: Name,
}

/// A type.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Type {
    /// Its schema.
    pub schema: String,
    /// Its name, as the database stores it.
    pub name: String,
    /// The types it is made of: columns of a row type, the base of a domain, the element of a range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<Name>,
    /// The conditions of a domain, which run with every conversion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// Functions that convert it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Name>,
}

/// A conversion.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The type it starts from.
    pub source: Name,
    /// The type it ends in.
    pub target: Name,
    /// The function it calls.
    pub function: Name,
    /// It happens where no text asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub implicit: bool,
}

impl Catalog {
    /// Puts everything in its one order, so that equal databases have equal snapshots.
    pub fn settle(&mut self) {
        for relation in &mut self.relations {
            relation.foreign_keys.sort();
            relation.triggers.sort();
            relation.rules.sort();
            relation.policies.sort();
            relation.planned.sort();
            relation.inherits.sort();
        }
        self.relations.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        self.routines.sort_by(|a, b| {
            (&a.schema, &a.name, &a.arguments, a.kind).cmp(&(&b.schema, &b.name, &b.arguments, b.kind))
        });
        self.operators.sort();
        self.operators.dedup();
        self.types.sort();
        self.casts.sort();
    }

    /// Whether a name with or without a schema may mean an object of the schema `of`. `anywhere`: whatever the search
    /// path is when the name is looked up.
    pub(crate) fn meant(&self, schema: Option<&str>, of: &str, anywhere: bool) -> bool {
        match schema {
            Some(schema) => schema == of,
            None => anywhere || self.schemas(None).any(|searched| searched == of),
        }
    }

    /// The schemas a name is looked up in, in their order.
    pub(crate) fn schemas<'c>(&'c self, schema: Option<&'c str>) -> impl Iterator<Item = &'c str> {
        let path = self.search_path.iter().map(String::as_str);
        let default = (self.search_path.is_empty()).then_some("public");
        let searched = schema.is_none();
        // PostgreSQL looks into its own schema first, whether the path names it or not.
        schema
            .into_iter()
            .chain(["pg_catalog"].into_iter().chain(path).chain(default).filter(move |_| searched))
    }
}
