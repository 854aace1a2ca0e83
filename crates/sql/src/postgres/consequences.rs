//! What a catalog adds: views, triggers, rules, cascades.

use std::collections::BTreeSet;

use super::walk::{Event, Walk};
use crate::catalog::{Action, Relation, RelationKind};
use crate::statement::{Category, Effect, TableRef};

/// Views that use views: deeper than this is not a read.
const VIEW_DEPTH_MAX: usize = 16;

impl Walk<'_> {
    /// Looks through a view: what its query does, the name of the view does.
    pub(super) fn view(&mut self, table: &TableRef) {
        let Some(relation) = self.catalog.and_then(|catalog| catalog.relation(table)) else { return };
        match relation.kind {
            RelationKind::Table | RelationKind::MaterializedView => {}
            RelationKind::ForeignTable => {
                self.found.categories.insert(Category::Network);
                self.found.note("foreign_table", format!("`{table}` is a table of another server"));
            }
            RelationKind::View => self.through(table, relation),
        }
        if relation.row_security {
            self.found
                .note("row_security", format!("`{table}` shows only the rows its policies let through"));
        }
    }

    fn through(&mut self, table: &TableRef, relation: &Relation) {
        if self.views.contains(table) {
            return;
        }
        if self.views.len() >= VIEW_DEPTH_MAX {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "unseen_view",
                format!("view `{table}` stands on too many others"),
            );
            return;
        }
        let parsed = relation.definition.as_deref().map(super::parse);
        let Some(Ok(statements)) = parsed else {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "unseen_view",
                format!("the query of view `{table}` is not known"),
            );
            return;
        };
        self.views.push(table.clone());
        self.within(|walk| {
            for statement in &statements {
                if let Some(node) = &statement.stmt {
                    walk.node(node);
                }
            }
        });
        self.views.pop();
    }

    /// What changing `table` sets off.
    pub(super) fn consequences(&mut self, table: &TableRef, event: Event) {
        let Some(catalog) = self.catalog else { return };
        let Some(start) = catalog.relation(table) else { return };
        if start.kind == RelationKind::View {
            self.found.note("writes_view", format!("`{table}` is a view: the rows of its tables change"));
            self.through(table, start);
        }
        if start.kind == RelationKind::ForeignTable {
            self.raise(
                Effect::Write,
                &[Category::Network],
                "foreign_table",
                format!("`{table}` is a table of another server"),
            );
        }
        let mut seen = BTreeSet::new();
        let mut open = vec![(start, event)];
        while let Some((relation, event)) = open.pop() {
            let name = TableRef::new(&relation.schema, relation.name.clone());
            if !seen.insert((name.clone(), event.word())) {
                continue;
            }
            self.fired(relation, &name, event);
            for (child, key) in catalog.referencing(relation) {
                let action = match event {
                    Event::Delete => key.on_delete,
                    Event::Update => key.on_update,
                    Event::Insert | Event::Truncate => continue,
                };
                let child_name = TableRef::new(&child.schema, child.name.clone());
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
                self.found.writes.insert(child_name);
                open.push((child, next));
            }
        }
    }

    /// `TRUNCATE … CASCADE` empties every table that refers to `table`, whatever its foreign key says.
    pub(super) fn truncates_referencing(&mut self, table: &TableRef) {
        let Some(catalog) = self.catalog else { return };
        let mut open: Vec<_> = catalog.relation(table).into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(relation) = open.pop() {
            if !seen.insert((&relation.schema, &relation.name)) {
                continue;
            }
            for (child, _) in catalog.referencing(relation) {
                let name = TableRef::new(&child.schema, child.name.clone());
                self.fired(child, &name, Event::Truncate);
                self.found.writes.insert(name);
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
        for rule in &relation.rules {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "rule",
                format!("rule `{rule}` on `{name}` may put another statement in its place"),
            );
        }
    }
}

impl Event {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}
