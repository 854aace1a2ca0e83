//! A catalog, ready to be asked by many statements.
//!
//! What a catalog says does not depend on this: here is only what would otherwise be looked for, parsed or built anew for
//! each statement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::catalog::{Cast, Catalog, ForeignKey, Operator, Relation, Routine, Type};
use crate::statement::TableRef;
use crate::{postgres, sqlite};

/// What is known of one database. Made once, and asked from any number of threads.
pub struct Known {
    catalog: Catalog,
    relations: Places,
    routines: Places,
    operators: Places,
    types: Places,
    casts: Places,
    implicit_casts: Vec<usize>,
    /// By the table they point to: a relation and the place of its key.
    referencing: BTreeMap<(String, String), Vec<(usize, usize)>>,
    children: BTreeMap<(String, String), Vec<usize>>,
    columns: BTreeSet<String>,
    /// PostgreSQL: what extensions bring.
    pub(crate) extensions: postgres::Extensions,
    /// PostgreSQL: the texts in it, parsed when one is first needed.
    pub(crate) texts: postgres::Texts,
    /// SQLite: private databases with its schema.
    pub(crate) databases: sqlite::Databases,
}

/// Where in a list the objects of a name stand, in its order.
type Places = BTreeMap<String, Vec<usize>>;

impl Known {
    /// Makes a catalog ready.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        let mut referencing: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut children: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut columns = BTreeSet::new();
        for (place, relation) in catalog.relations.iter().enumerate() {
            for (key_place, key) in relation.foreign_keys.iter().enumerate() {
                let parent = (key.schema.clone(), key.table.clone());
                referencing.entry(parent).or_default().push((place, key_place));
            }
            for parent in &relation.inherits {
                let parent = (parent.schema.clone(), parent.name.clone());
                let list = children.entry(parent).or_default();
                if list.last() != Some(&place) {
                    list.push(place);
                }
            }
            columns.extend(relation.columns.iter().map(|column| column.name.clone()));
        }
        let implicit = |(place, cast): (usize, &Cast)| cast.implicit.then_some(place);
        Self {
            relations: places(&catalog.relations, |relation| &relation.name),
            routines: places(&catalog.routines, |routine| &routine.name),
            operators: places(&catalog.operators, |operator| &operator.name),
            types: places(&catalog.types, |one| &one.name),
            casts: places(&catalog.casts, |cast| &cast.target.name),
            implicit_casts: catalog.casts.iter().enumerate().filter_map(implicit).collect(),
            referencing,
            children,
            columns,
            extensions: postgres::Extensions::named(&catalog.extensions),
            texts: postgres::Texts::default(),
            databases: sqlite::Databases::default(),
            catalog,
        }
    }

    /// The catalog it was made of.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The relation a name means, following the search path.
    pub(crate) fn relation(&self, table: &TableRef) -> Option<&Relation> {
        self.catalog
            .schemas(table.schema.as_deref())
            .find_map(|schema| self.relations_named(&table.name).find(|relation| relation.schema == schema))
    }

    /// Every relation of that name.
    pub(crate) fn relations_named<'k>(&'k self, name: &str) -> impl Iterator<Item = &'k Relation> {
        at(&self.relations, &self.catalog.relations, name)
    }

    /// Every routine a name may mean. `anywhere`: whatever the search path is when it is called.
    pub(crate) fn routines<'k>(
        &'k self,
        schema: Option<&'k str>,
        name: &str,
        anywhere: bool,
    ) -> impl Iterator<Item = &'k Routine> {
        at(&self.routines, &self.catalog.routines, name)
            .filter(move |routine| self.catalog.meant(schema, &routine.schema, anywhere))
    }

    /// Every operator a name may mean.
    pub(crate) fn operators<'k>(
        &'k self,
        schema: Option<&'k str>,
        name: &str,
        anywhere: bool,
    ) -> impl Iterator<Item = &'k Operator> {
        at(&self.operators, &self.catalog.operators, name)
            .filter(move |operator| self.catalog.meant(schema, &operator.schema, anywhere))
    }

    /// Every type a name may mean.
    pub(crate) fn types<'k>(
        &'k self,
        schema: Option<&'k str>,
        name: &str,
        anywhere: bool,
    ) -> impl Iterator<Item = &'k Type> {
        at(&self.types, &self.catalog.types, name)
            .filter(move |one| self.catalog.meant(schema, &one.schema, anywhere))
    }

    /// Conversions to the types of that name.
    pub(crate) fn casts_to<'k>(&'k self, name: &str) -> impl Iterator<Item = &'k Cast> {
        at(&self.casts, &self.catalog.casts, name)
    }

    /// Conversions that happen where no text asks for them.
    pub(crate) fn implicit_casts(&self) -> impl Iterator<Item = &Cast> {
        self.implicit_casts.iter().filter_map(|place| self.catalog.casts.get(*place))
    }

    /// Tables with a foreign key on `table`, and those keys.
    pub(crate) fn referencing<'k>(
        &'k self,
        table: &Relation,
    ) -> impl Iterator<Item = (&'k Relation, &'k ForeignKey)> {
        let found = self.referencing.get(&(table.schema.clone(), table.name.clone()));
        found.into_iter().flatten().filter_map(|(relation, key)| {
            let relation = self.catalog.relations.get(*relation)?;
            Some((relation, relation.foreign_keys.get(*key)?))
        })
    }

    /// Partitions and children of `table`.
    pub(crate) fn children<'k>(&'k self, table: &Relation) -> impl Iterator<Item = &'k Relation> {
        let found = self.children.get(&(table.schema.clone(), table.name.clone()));
        found.into_iter().flatten().filter_map(|place| self.catalog.relations.get(*place))
    }

    /// Whether any relation has a column of that name.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.columns.contains(name)
    }
}

impl From<Catalog> for Known {
    fn from(catalog: Catalog) -> Self {
        Self::new(catalog)
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Known").field(&self.catalog).finish()
    }
}

fn places<T>(list: &[T], name: impl Fn(&T) -> &String) -> Places {
    let mut places = Places::new();
    for (place, object) in list.iter().enumerate() {
        places.entry(name(object).clone()).or_default().push(place);
    }
    places
}

fn at<'k, T>(places: &'k Places, list: &'k [T], name: &str) -> impl Iterator<Item = &'k T> + use<'k, T> {
    places.get(name).into_iter().flatten().filter_map(|place| list.get(*place))
}
