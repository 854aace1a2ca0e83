//! Conversions that happen where no text asks for them.
//!
//! One happens only where a value of the type it starts from meets a place of the type it ends in. Types that are not
//! PostgreSQL's own come into a statement by the columns of its relations, by conversions that its text asks for, and by
//! functions and operators that are not PostgreSQL's own. Whatever cannot be told to bring none may bring each.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::walk::Walk;
use super::{functions, names};
use crate::catalog::{Cast, Name, Relation, Routine, Type};
use crate::known::Known;
use crate::statement::{Category, Effect};

/// The types, other than PostgreSQL's own, of which a statement may have values, and what may convert them.
#[derive(Debug, Default)]
pub(super) struct Met<'c> {
    anything: bool,
    types: BTreeSet<(String, String)>,
    /// Those of columns, which a text or a row beside them may be read as.
    columns: BTreeSet<Column>,
    /// Those that routines take and give, to which every value is converted.
    arguments: BTreeSet<(String, String)>,
    /// What may be read as a value of the type that stands beside it.
    readings: BTreeSet<Reading>,
    /// Conversions of the catalog that a text asks for, if there is a value to convert, and whether their type has one of
    /// PostgreSQL's own names.
    pub(super) asked: Vec<(&'c Cast, bool)>,
    /// There are calls of what converts to the types of columns that are not named.
    pub(super) populates: bool,
    /// What relations are called.
    rows: BTreeMap<String, Vec<&'c Relation>>,
    /// Names that stand where a column or a whole row may.
    pub(super) named: BTreeSet<String>,
    /// Types of which values were made.
    made: BTreeSet<(String, String)>,
}

/// What makes values of types that the text does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reading {
    /// Texts, parameters and rows, which are read as values of whatever type they meet.
    Texts,
    /// Nulls, which a domain may refuse like any other value.
    Nulls,
    /// Arrays that are put together, and functions that take several values of any one type: beside a domain they read a text
    /// as a value of that domain, where all else reads it as one of its base.
    Elements,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Column {
    schema: String,
    name: String,
    array: bool,
}

impl Column {
    /// Whether it is one of PostgreSQL's own.
    fn is_own(&self) -> bool {
        self.schema == "pg_catalog"
    }
}

impl<'c> Met<'c> {
    /// From here on each type may be there.
    pub(super) fn anything(&mut self) {
        self.anything = true;
    }

    /// A name may stand for the whole row of a relation.
    pub(super) fn called_as(&mut self, name: &str, relation: &'c Relation) {
        self.rows.entry(name.to_owned()).or_default().push(relation);
    }

    pub(super) fn reads(&mut self, reading: Reading) {
        self.readings.insert(reading);
    }

    /// Whether values of a type may be there. Those of PostgreSQL's own are everywhere.
    fn has(&self, name: &Name) -> bool {
        let schema = &name.schema;
        let met = |name: &str| self.types.contains(&(schema.clone(), name.to_owned()));
        // An array is there with its elements.
        let elements = name.name.strip_prefix('_');
        schema == "pg_catalog" || self.anything || met(&name.name) || elements.is_some_and(met)
    }
}

impl Walk<'_> {
    /// What is converted without a word of it, when all of a statement was walked.
    pub(super) fn conversions(&mut self) {
        let Some(known) = self.known else { return };
        let mut implicit: Vec<_> = known.implicit_casts().collect();
        // What runs may meet types of its own, and ask for more.
        loop {
            if self.met.populates {
                self.populated(known);
            }
            self.values(known);
            let (meant, left): (Vec<_>, Vec<_>) = implicit
                .into_iter()
                .partition(|cast| self.met.has(&cast.source) && self.met.has(&cast.target));
            let (asked, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.met.asked)
                .into_iter()
                .partition(|(cast, _)| self.met.has(&cast.source));
            self.met.asked = others;
            if meant.is_empty() && asked.is_empty() {
                return;
            }
            for (cast, own) in asked {
                let shown = format!("the conversion of `{}` to `{}`", cast.source.name, cast.target.name);
                self.runs_named(&cast.function, &shown, own);
            }
            for cast in meant {
                let shown =
                    format!("the implicit conversion of `{}` to `{}`", cast.source.name, cast.target.name);
                self.runs_named(&cast.function, &shown, true);
            }
            implicit = left;
        }
    }

    /// `json_populate_record` and its like read each column as a text of its type: of any row type that is there.
    fn populated(&mut self, known: &Known) {
        for one in &known.catalog().types {
            let name = Name { schema: one.schema.clone(), name: one.name.clone() };
            if self.met.has(&name) {
                self.made(&one.schema, &one.name);
            }
        }
    }

    /// Values of types that the text does not name are made where a routine takes or gives one, and where a text, a parameter
    /// or a row stands beside a column of one (`coalesce(c, '(1)')`).
    fn values(&mut self, known: &Known) {
        for (schema, name) in std::mem::take(&mut self.met.arguments) {
            let base = name.strip_prefix('_').unwrap_or(&name);
            if known.types(Some(&schema), base, false).next().is_some() {
                self.made(&schema, base);
            }
        }
        let there = |reading| self.met.readings.contains(&reading);
        let elements = there(Reading::Elements);
        if !(there(Reading::Texts) || elements && there(Reading::Nulls)) {
            return;
        }
        // A text beside a whole row is read column by column.
        let whole: BTreeSet<Column> = (self.met.named.iter())
            .filter_map(|name| self.met.rows.get(name))
            .flatten()
            .flat_map(|relation| columns(known, relation).flatten())
            .filter(|column| !column.is_own())
            .collect();
        for Column { schema, name, .. } in whole {
            self.made(&schema, &name);
        }
        for Column { schema, name, array } in self.met.columns.clone() {
            // Beside a domain a value is one of its base, and held to no condition; as an element it is.
            let mut open = vec![(schema, name)];
            while let Some((schema, name)) = open.pop() {
                let domain = |one: &&Type| !array && !elements && !one.checks.is_empty();
                let (domains, others): (Vec<_>, Vec<_>) =
                    known.types(Some(&schema), &name, false).partition(domain);
                if !others.is_empty() {
                    self.made(&schema, &name);
                }
                let bases = domains.iter().flat_map(|one| &one.of);
                open.extend(bases.map(|base| (base.schema.clone(), base.name.clone())));
            }
        }
    }

    /// A value of a type is made: what its type runs is run.
    fn made(&mut self, schema: &str, name: &str) {
        let own = self.is_own_type(Some(schema), name);
        if !self.met.made.insert((schema.to_owned(), name.to_owned())) {
            return;
        }
        if !self.type_is_known(Some(schema), name, own, 0) {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "unknown_type",
                format!(
                    "a conversion to type `{schema}.{name}`, whose parts are not all known, may run code"
                ),
            );
        }
    }

    /// A type of the catalog, and what it is made of.
    pub(super) fn meets(&mut self, schema: &str, name: &str) {
        let Some(known) = self.known else { return };
        let mut open = vec![(schema.to_owned(), name.to_owned())];
        while let Some((schema, name)) = open.pop() {
            let own = schema == "pg_catalog" || schema == "information_schema";
            if own || !self.met.types.insert((schema.clone(), name.clone())) {
                continue;
            }
            let mut found = false;
            if let Some(elements) = name.strip_prefix('_')
                && known.types(Some(&schema), elements, false).next().is_some()
            {
                found = true;
                open.push((schema.clone(), elements.to_owned()));
            }
            for one in known.types(Some(&schema), &name, false) {
                found = true;
                open.extend(one.of.iter().map(|part| (part.schema.clone(), part.name.clone())));
            }
            self.met.anything |= !found;
        }
    }

    /// The types that a routine takes and gives.
    pub(super) fn meets_types(&mut self, routine: &Routine) {
        let Some(types) = &routine.types else {
            self.met.reads(Reading::Elements);
            self.met.anything();
            return;
        };
        let mut words = routine.arguments.split(|c: char| !c.is_alphanumeric() && c != '_');
        if words.any(|word| word.starts_with("any")) {
            self.met.reads(Reading::Elements);
        }
        for one in types {
            self.met.arguments.insert((one.schema.clone(), one.name.clone()));
            self.meets(&one.schema, &one.name);
        }
    }

    /// The types of a relation's rows and columns.
    pub(super) fn meets_columns(&mut self, relation: &Relation) {
        let Some(known) = self.known else { return };
        for column in columns(known, relation) {
            match column {
                Some(column) if column.is_own() => {}
                Some(column) => {
                    self.meets(&column.schema, &column.name);
                    self.met.columns.insert(column);
                }
                None => self.met.anything(),
            }
        }
        self.met.types.insert((relation.schema.clone(), relation.name.clone()));
    }
}

/// The types of the columns of a relation; `None` for each that cannot be told.
fn columns(known: &Known, relation: &Relation) -> impl Iterator<Item = Option<Column>> {
    relation.columns.iter().map(|written| column(known, &written.data_type))
}

/// The type of a column as `format_type` writes it; one without a schema is PostgreSQL's own, or none that is known.
fn column(known: &Known, text: &str) -> Option<Column> {
    let statements = known.texts.parsed(&format!("SELECT NULL::{text}"))?;
    let [pb::RawStmt { stmt: Some(statement), .. }] = statements.as_slice() else { return None };
    let Some(NodeEnum::SelectStmt(select)) = &statement.node else { return None };
    let ([target], []) = (select.target_list.as_slice(), select.from_clause.as_slice()) else { return None };
    let Some(NodeEnum::ResTarget(target)) = &target.node else { return None };
    let Some(NodeEnum::TypeCast(cast)) = &target.val.as_ref()?.node else { return None };
    let Some(NodeEnum::AConst(_)) = &cast.arg.as_ref()?.node else { return None };
    let written = cast.type_name.as_ref()?;
    let (schema, name) = match names(&written.names).as_slice() {
        [name] if functions::type_name(name) => ("pg_catalog".to_owned(), (*name).to_owned()),
        [schema, name] => ((*schema).to_owned(), (*name).to_owned()),
        _ => return None,
    };
    let array = !written.array_bounds.is_empty();
    (!written.pct_type).then_some(Column { schema, name, array })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn types_are_read_as_postgresql_reads_them() {
        let known = Known::new(Catalog::default());
        for (text, schema, name, array) in [
            ("integer", "pg_catalog", "int4", false),
            ("character varying(10)[]", "pg_catalog", "varchar", true),
            ("timestamp(3) with time zone", "pg_catalog", "timestamptz", false),
            ("interval day to second(3)", "pg_catalog", "interval", false),
            ("\"char\"", "pg_catalog", "char", false),
            ("text[]", "pg_catalog", "text", true),
            ("pg_node_tree", "pg_catalog", "pg_node_tree", false),
            ("public.status", "public", "status", false),
            ("public.status[]", "public", "status", true),
            ("shop.\"Odd \"\"one\"\"\"(3)", "shop", "Odd \"one\"", false),
            ("\"a.b\".c", "a.b", "c", false),
        ] {
            let expected = Column { schema: schema.to_owned(), name: name.to_owned(), array };
            assert_eq!(column(&known, text), Some(expected), "{text}");
        }
        for text in [
            "",
            "\"open",
            "status",
            "integer, 1",
            "integer from t",
            "integer::text",
            "integer; select 1",
            "a.b.c%type",
        ] {
            assert_eq!(column(&known, text), None, "{text}");
        }
    }
}
