//! What a catalog adds: views, partitions, row security, triggers, rules, cascades.

use std::collections::BTreeSet;

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::walk::{Event, Walk};
use crate::catalog::{Action, Relation, RelationKind};
use crate::known::Known;
use crate::statement::{Category, Effect, TableRef};

/// Views that use views: deeper than this is not a read.
const VIEW_DEPTH_MAX: usize = 16;

impl<'c> Walk<'c> {
    /// Looks at what stands behind a relation that is read.
    pub(super) fn view(&mut self, table: &TableRef) {
        for relation in self.meant(table) {
            let name = if self.anywhere { named(relation) } else { table.clone() };
            self.behind(&name, relation);
        }
    }

    /// The relations that a name may mean.
    fn meant(&self, table: &TableRef) -> Vec<&'c Relation> {
        let Some(known) = self.known else { return Vec::new() };
        if self.anywhere && table.schema.is_none() {
            known.relations_named(&table.name).collect()
        } else {
            known.relation(table).into_iter().collect()
        }
    }

    /// Names by which a relation may be meant as a row.
    pub(super) fn called_as(&mut self, table: &TableRef, names: &[&str]) {
        for relation in self.meant(table) {
            for name in names {
                self.met.called_as(name, relation);
            }
        }
    }

    /// What is planned with a change that is not made: planning works out what it can of defaults, policies and rules.
    pub(super) fn plans(&mut self, table: &TableRef, event: Event) {
        let Some(known) = self.known else { return };
        let (mut open, mut seen) = (self.meant(table), BTreeSet::new());
        while let Some(relation) = open.pop() {
            let name = named(relation);
            if !seen.insert(name.clone()) {
                continue;
            }
            let given = matches!(event, Event::Insert | Event::Update);
            for column in relation.columns.iter().filter(|column| given && !column.generated) {
                if let Some(default) = &column.expression {
                    self.expression_text(
                        default,
                        &format!("the default of column `{}` of `{name}`", column.name),
                    );
                }
            }
            self.policies(&name, relation, event);
            self.planned_rules(&name, relation, event);
            open.extend(base(known, relation));
        }
    }

    fn planned_rules(&mut self, name: &TableRef, relation: &Relation, event: Event) {
        let Some(known) = self.known else { return };
        for rule in relation.rules.iter().filter(|rule| rule.events.contains(event.word())) {
            let identity = (self.circumstances(), TableRef::new(&name.to_string(), rule.name.clone()));
            if !self.followed.insert(identity) {
                continue;
            }
            let parsed = rule.definition.as_deref().and_then(|text| known.texts.parsed(text));
            let statement = parsed.as_deref().and_then(|one| one.first()?.stmt.as_deref()?.node.as_ref());
            let Some(NodeEnum::RuleStmt(text)) = statement else {
                self.raise(
                    Effect::Write,
                    &[Category::Opaque],
                    "rule",
                    format!("rule `{}` on `{name}` is not known", rule.name),
                );
                continue;
            };
            let nodes = text.actions.iter().chain(text.where_clause.as_deref());
            let kept: Vec<_> = nodes
                .map(|node| pb::RawStmt { stmt: Some(Box::new(node.clone())), ..pb::RawStmt::default() })
                .collect();
            self.kept(&kept);
        }
    }

    fn behind(&mut self, table: &TableRef, relation: &Relation) {
        // One that refers to itself, by its query, its policies or its partitions, is looked at once.
        if !self.followed.insert((self.circumstances(), named(relation))) {
            return;
        }
        self.meets_columns(relation);
        match relation.kind {
            RelationKind::Table | RelationKind::MaterializedView | RelationKind::VirtualTable => {}
            RelationKind::ForeignTable => {
                self.found.categories.insert(Category::Network);
                self.found.note("foreign_table", format!("`{table}` is a table of another server"));
            }
            RelationKind::View => self.through(table, relation),
        }
        self.policies(table, relation, Event::Select);
        for column in relation.columns.iter().filter(|column| column.generated) {
            if let Some(expression) = &column.expression {
                self.expression_text(expression, &format!("column `{}` of `{table}`", column.name));
            }
        }
        for text in &relation.planned {
            self.folded(text, &format!("an index, a statistic or a condition of `{table}`"));
        }
        let Some(known) = self.known else { return };
        let outer = self.hidden;
        self.hidden = self.hidden.saturating_add(1);
        for child in known.children(relation) {
            let name = named(child);
            self.behind(&name, child);
            self.found.reads_through.insert(name);
        }
        self.hidden = outer;
    }

    /// The expressions of row security run with the statement.
    fn policies(&mut self, table: &TableRef, relation: &Relation, event: Event) {
        if !relation.row_security {
            return;
        }
        self.found.note("row_security", format!("`{table}` shows only the rows its policies let through"));
        for policy in relation.policies.iter().filter(|policy| policy.events.contains(event.word())) {
            for text in policy.using.iter().chain(&policy.check) {
                self.expression_text(text, &format!("policy `{}` on `{table}`", policy.name));
            }
        }
    }

    fn through(&mut self, table: &TableRef, relation: &Relation) {
        if self.views >= VIEW_DEPTH_MAX {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "unseen_view",
                format!("view `{table}` stands on too many others"),
            );
            return;
        }
        let Some(known) = self.known else { return };
        let parsed = relation.definition.as_deref().and_then(|text| known.texts.parsed(text));
        let Some(statements) = parsed else {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "unseen_view",
                format!("the query of view `{table}` is not known"),
            );
            return;
        };
        self.views = self.views.saturating_add(1);
        self.kept(&statements);
        self.views = self.views.saturating_sub(1);
    }

    /// What changing `table` sets off.
    pub(super) fn consequences(&mut self, table: &TableRef, event: Event) {
        let Some(known) = self.known else { return };
        let Some(start) = known.relation(table) else { return };
        let mut seen = BTreeSet::new();
        let mut open = vec![(start, event)];
        while let Some((relation, event)) = open.pop() {
            let name = named(relation);
            if !seen.insert((name.clone(), event)) {
                continue;
            }
            self.fired(relation, &name, event);
            self.policies(&name, relation, event);
            match relation.kind {
                RelationKind::Table | RelationKind::MaterializedView | RelationKind::VirtualTable => {}
                RelationKind::ForeignTable => self.raise(
                    Effect::Write,
                    &[Category::Network],
                    "foreign_table",
                    format!("`{name}` is a table of another server"),
                ),
                RelationKind::View => {
                    self.found
                        .note("writes_view", format!("`{name}` is a view: the rows of its tables change"));
                    self.through(&name, relation);
                    if let Some(base) = base(known, relation) {
                        self.found.writes_through.insert(named(base));
                        open.push((base, event));
                    }
                }
            }
            for child in known.children(relation) {
                self.found.writes_through.insert(named(child));
                open.push((child, event));
            }
            for (child, key) in known.referencing(relation) {
                let action = match event {
                    Event::Delete => key.on_delete,
                    Event::Update => key.on_update,
                    Event::Insert | Event::Truncate | Event::Select => continue,
                };
                let child_name = named(child);
                let (effect, next, words) = match (action, event) {
                    (Action::Refuse, _) => continue,
                    (Action::Cascade, Event::Delete) => {
                        (Effect::Destructive, Event::Delete, "deletes rows of")
                    }
                    (Action::Cascade | Action::SetNull | Action::SetDefault, _) => {
                        (Effect::Write, Event::Update, "changes rows of")
                    }
                };
                self.raise(
                    effect,
                    &[Category::Data],
                    "cascades",
                    format!("a foreign key on `{name}` {words} `{child_name}` too"),
                );
                self.found.writes_through.insert(child_name);
                open.push((child, next));
            }
        }
    }

    /// `TRUNCATE … CASCADE` empties every table that refers to `table`, whatever its foreign key says.
    pub(super) fn truncates_referencing(&mut self, table: &TableRef) {
        let Some(known) = self.known else { return };
        let mut open: Vec<_> = known.relation(table).into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(relation) = open.pop() {
            if !seen.insert((&relation.schema, &relation.name)) {
                continue;
            }
            for (child, _) in known.referencing(relation) {
                let name = named(child);
                self.fired(child, &name, Event::Truncate);
                self.found.writes_through.insert(name);
                open.push(child);
            }
        }
    }

    fn fired(&mut self, relation: &Relation, name: &TableRef, event: Event) {
        for trigger in relation.triggers.iter().filter(|trigger| trigger.events.contains(event.word())) {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "trigger",
                format!("fires trigger `{}` on `{name}`, whose effects are not counted", trigger.name),
            );
        }
        for rule in relation.rules.iter().filter(|rule| rule.events.contains(event.word())) {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "rule",
                format!("rule `{}` on `{name}` may put another statement in its place", rule.name),
            );
        }
    }
}

/// The one relation whose rows a view that PostgreSQL updates by itself shows. A view with a trigger in place of the change
/// goes wherever that trigger goes; any other cannot be written.
fn base<'k>(known: &'k Known, view: &Relation) -> Option<&'k Relation> {
    if view.triggers.iter().any(|trigger| trigger.instead) {
        return None;
    }
    let statements = known.texts.parsed(view.definition.as_deref()?)?;
    let [pb::RawStmt { stmt: Some(statement), .. }] = statements.as_slice() else { return None };
    let Some(NodeEnum::SelectStmt(select)) = &statement.node else { return None };
    match select.from_clause.as_slice() {
        [pb::Node { node: Some(NodeEnum::RangeVar(range)) }] => known.relation(&super::walk::relation(range)),
        _ => None,
    }
}

fn named(relation: &Relation) -> TableRef {
    TableRef::new(&relation.schema, relation.name.clone())
}

impl Event {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Select => "select",
        }
    }
}
