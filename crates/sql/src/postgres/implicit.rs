//! Conversions that happen where no text asks for them.
//!
//! One happens only where a value of the type it starts from meets a place of the type it ends in. Types that are not
//! PostgreSQL's own come into a statement by the columns of its relations, by conversions that its text asks for, and by
//! functions and operators that are not PostgreSQL's own. Whatever cannot be told to bring none may bring each.

use std::collections::BTreeSet;

use super::functions;
use super::walk::Walk;
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
    /// There are texts, parameters or rows, which are read as values of whatever type they meet.
    pub(super) read_in: bool,
    /// Conversions of the catalog that a text asks for, if there is a value to convert, and whether their type has one of
    /// PostgreSQL's own names.
    pub(super) asked: Vec<(&'c Cast, bool)>,
    /// There are calls of what converts to the types of columns that are not named.
    pub(super) populates: bool,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Column {
    schema: String,
    name: String,
    array: bool,
}

impl Met<'_> {
    /// From here on each type may be there.
    pub(super) fn anything(&mut self) {
        self.anything = true;
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
        if !self.met.read_in {
            return;
        }
        for Column { schema, name, array } in std::mem::take(&mut self.met.columns) {
            // Beside a domain a value is one of its base, and held to no condition; as an element it is.
            let mut open = vec![(schema, name)];
            while let Some((schema, name)) = open.pop() {
                let domain = |one: &&Type| !array && !one.checks.is_empty();
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
        match &routine.types {
            Some(types) => types.iter().for_each(|one| {
                self.met.arguments.insert((one.schema.clone(), one.name.clone()));
                self.meets(&one.schema, &one.name);
            }),
            None => self.met.anything(),
        }
    }

    /// The types of a relation's rows and columns.
    pub(super) fn meets_columns(&mut self, relation: &Relation) {
        for column in &relation.columns {
            match written_type(&column.data_type) {
                Some((Some(schema), name)) => {
                    self.meets(&schema, &name);
                    let array = column.data_type.trim_end().ends_with("[]");
                    self.met.columns.insert(Column { schema, name, array });
                }
                Some((None, name)) if functions::type_name(&name) || column_word(&name) => {}
                Some((None, _)) | None => self.met.anything(),
            }
        }
        self.met.types.insert((relation.schema.clone(), relation.name.clone()));
    }
}

/// The schema and the name of a type as `format_type` writes it, without its modifiers and the brackets of an array.
fn written_type(text: &str) -> Option<(Option<String>, String)> {
    let mut rest = text.trim();
    while let Some(shorter) = rest.strip_suffix("[]") {
        rest = shorter.trim_end();
    }
    let (first, after) = identifier(rest)?;
    match after.strip_prefix('.') {
        Some(second) => identifier(second).map(|(name, _)| (Some(first), name)),
        None if first.is_empty() => None,
        // The words of the standard: `double precision`, `timestamp(3) with time zone`.
        None => Some((None, first)),
    }
}

/// An identifier at the start of a text, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        return Some((name.to_owned(), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        let Some(more) = after.strip_prefix('"') else { return Some((name, after)) };
        name.push('"');
        rest = more;
    }
}

/// The first words of types that `format_type` writes otherwise than they are named.
fn column_word(word: &str) -> bool {
    matches!(
        word,
        "bigint" | "boolean" | "character" | "char" | "double" | "integer" | "real" | "smallint" | "time" | "timestamp"
            | "bit" | "interval" | "numeric" | "anyarray"
            // Of statistics and the planner: nobody converts them.
            | "pg_node_tree" | "pg_ndistinct" | "pg_dependencies" | "pg_mcv_list" | "gtsvector" | "pg_ddl_command"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for (text, schema, name) in [
            ("integer", None, "integer"),
            ("character varying(10)[]", None, "character"),
            ("timestamp(3) with time zone", None, "timestamp"),
            ("\"char\"", None, "char"),
            ("public.status", Some("public"), "status"),
            ("public.status[]", Some("public"), "status"),
            ("shop.\"Odd \"\"one\"\"\"(3)", Some("shop"), "Odd \"one\""),
            ("\"a.b\".c", Some("a.b"), "c"),
        ] {
            assert_eq!(written_type(text), Some((schema.map(str::to_owned), name.to_owned())), "{text}");
        }
        assert_eq!(written_type(""), None);
        assert_eq!(written_type("\"open"), None);
    }
}
