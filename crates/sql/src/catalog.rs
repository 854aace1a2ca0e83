//! A snapshot of what a database holds, which sharpens the answer.
//!
//! Optional everywhere. It may show that a view, a trigger, a cascade or a function does more than the text says, and
//! that a function of the user's own is declared stable or immutable, which the database itself holds it to. A snapshot
//! ages: what it does not mention is treated as if there were none.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::statement::TableRef;

/// What is known of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalog {
    /// PostgreSQL: where unqualified names are looked up; empty means `public`.
    pub search_path: Vec<String>,
    /// Tables and views.
    pub relations: Vec<Relation>,
    /// Functions and procedures that are not PostgreSQL's own.
    pub routines: Vec<Routine>,
    /// Names of operators the user defined, without schema. They may stand in front of PostgreSQL's own.
    pub operators: BTreeSet<String>,
    /// Types whose conversions run no user code: enums, arrays of them, row types. `name` or `schema.name`.
    pub types: BTreeSet<String>,
    /// SQLite: the texts of `sqlite_schema.sql`, in the order of their `rowid`.
    pub schema: Vec<String>,
}

/// A table or view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default)]
    pub columns: Vec<String>,
    /// The query of a view.
    #[serde(default)]
    pub definition: Option<String>,
    /// Foreign keys of *this* table.
    #[serde(default)]
    pub foreign_keys: Vec<ForeignKey>,
    /// Enabled triggers, those of foreign keys excepted.
    #[serde(default)]
    pub triggers: Vec<Trigger>,
    /// Names of rewrite rules, that of a view excepted.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Whether row security applies: what a statement sees or touches is then decided by policies.
    #[serde(default)]
    pub row_security: bool,
}

/// Kinds of relations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignKey {
    /// Schema of the table it points to.
    pub schema: String,
    /// The table it points to.
    pub table: String,
    /// What deleting there does here.
    #[serde(default)]
    pub on_delete: Action,
    /// What changing the key there does here.
    #[serde(default)]
    pub on_update: Action,
}

/// The referential action of a foreign key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// `insert`, `update`, `delete`, `truncate`.
    pub events: BTreeSet<String>,
}

/// A function or procedure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routine {
    /// Its schema.
    pub schema: String,
    /// Its name, as the database stores it.
    pub name: String,
    /// What it was declared to be. Several functions of one name count as the strictest.
    pub volatility: Volatility,
    /// Runs with its owner's privileges.
    #[serde(default)]
    pub security_definer: bool,
}

/// What a function was declared to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volatility {
    /// Depends on nothing but its arguments.
    Immutable,
    /// Reads, and may not change the database.
    Stable,
    /// May do anything.
    Volatile,
}

impl Routine {
    /// Whether the database refuses data changes in it.
    #[must_use]
    pub fn reads_only(&self) -> bool {
        self.volatility != Volatility::Volatile
    }
}

impl Catalog {
    /// The relation a name means, following the search path.
    #[must_use]
    pub fn relation(&self, table: &TableRef) -> Option<&Relation> {
        self.schemas(table.schema.as_deref()).find_map(|schema| {
            self.relations.iter().find(|relation| relation.schema == schema && relation.name == table.name)
        })
    }

    /// The strictest routine a name may mean.
    #[must_use]
    pub fn routine(&self, schema: Option<&str>, name: &str) -> Option<&Routine> {
        let schemas: Vec<_> = self.schemas(schema).collect();
        self.routines
            .iter()
            .filter(|routine| routine.name == name && schemas.contains(&routine.schema.as_str()))
            .max_by_key(|routine| routine.volatility)
    }

    /// Tables with a foreign key on `table`, and those keys.
    pub(crate) fn referencing<'c>(
        &'c self,
        table: &'c Relation,
    ) -> impl Iterator<Item = (&'c Relation, &'c ForeignKey)> {
        self.relations.iter().flat_map(move |relation| {
            relation
                .foreign_keys
                .iter()
                .filter(move |key| key.schema == table.schema && key.table == table.name)
                .map(move |key| (relation, key))
        })
    }

    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.relations.iter().any(|relation| relation.columns.iter().any(|column| column == name))
    }

    fn schemas<'c>(&'c self, schema: Option<&'c str>) -> impl Iterator<Item = &'c str> {
        let path = self.search_path.iter().map(String::as_str);
        let default = (self.search_path.is_empty()).then_some("public");
        let searched = schema.is_none();
        schema.into_iter().chain(path.chain(default).filter(move |_| searched))
    }
}
