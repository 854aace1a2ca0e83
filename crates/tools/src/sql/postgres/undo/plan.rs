//! What has to be done to undo a call, and doing it.

use std::collections::BTreeSet;

use countersign_gate::Sample;
use countersign_rules::CallId;
use countersign_sql::TableRef;
use tokio_postgres::{Client, Error};

use super::{
    departure::Departure,
    statement::{Restoration, Selection},
    table::{Column, KeptChanges, Side, States, Table},
};
use crate::sql::{
    cascade::{named, quoted},
    columns::Columns,
    journal::{COMES_BACK, EXAMPLES_MAX, GOES_BACK, Undone, goes_away},
    mask::Mask,
    postgres::{
        fault::PostgresFault,
        journal::{NOT_PREPARED, missing},
        net::Net,
        schema,
        value::Cell,
    },
    statement::Scope,
    tally::SAMPLE_ROWS,
    value::shown,
};

/// What has to be done to undo a call.
pub(in crate::sql::postgres) struct Plan {
    call: String,
    pub(super) tables: Vec<Table>,
}

/// How rows that changed go back. What comes of it is looked at afterwards, whichever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql::postgres) enum RestoreMethod {
    /// They are updated.
    Update,
    /// Values of unique columns that changed hands are first set aside, to values that nobody has.
    SetAside,
    /// They are taken out and put in again.
    Replace,
}

impl RestoreMethod {
    /// Tells what is tried when this one fails.
    pub(in crate::sql::postgres) const fn next(self) -> Option<Self> {
        match self {
            Self::Update => Some(Self::SetAside),
            Self::SetAside => Some(Self::Replace),
            Self::Replace => None,
        }
    }

    /// Tells whether another method may do better: a value is in the way of another, or one set aside does not fit its column.
    pub(in crate::sql::postgres) fn stands_in_the_way(error: &Error) -> bool {
        error.code().is_some_and(|code| ["22", "23"].iter().any(|class| code.code().starts_with(class)))
    }
}

impl Plan {
    /// Reads what was kept of a call, and tells the rows that changed since.
    pub(in crate::sql::postgres) async fn new(client: &Client, call: &CallId) -> Result<Self, PostgresFault> {
        let mut plan = Self::hopeful(client, call).await?;
        for table in &mut plan.tables {
            table.sort(client, &plan.call).await?;
        }
        Ok(plan)
    }

    /// The same, in the hope that no row changed since. Whether that is so shows when they are put back: each change says in
    /// its condition what it is for, no place is taken twice, and all are counted.
    pub(super) async fn hopeful(client: &Client, call: &CallId) -> Result<Self, PostgresFault> {
        let id = call.as_str();
        let sql = "SELECT state, images, rows FROM countersign.call WHERE id = $1 AND countersign.form() = 2";
        let found = match client.query_opt(sql, &[&id]).await {
            Err(error) if missing(&error) => return Err(PostgresFault::Other(NOT_PREPARED.into())),
            found => found?,
        };
        let Some(row) = found else {
            return Err(PostgresFault::Other(format!("the database knows no call `{call}`")));
        };
        if row.try_get::<_, &str>(0)? == "fenced" {
            return Err(PostgresFault::Other(format!("call `{call}` did not happen")));
        }
        if !row.try_get::<_, bool>(1)? {
            let why = format!("no rows were kept of call `{call}`: its tool is not declared `reversible`");
            return Err(PostgresFault::Other(why));
        }
        let sql = "SELECT l.schema, l.name, coalesce(bool_and(l.columns = countersign.columns(t.now)), false), \
                          coalesce(bool_and(coalesce(pg_catalog.pg_partition_root(l.relation), l.relation) = t.now), false) \
                     FROM countersign.layout l \
                    CROSS JOIN LATERAL (SELECT pg_catalog.to_regclass(pg_catalog.format('%I.%I', l.schema, l.name))::oid) AS t (now) \
                    WHERE l.call = $1 GROUP BY 1, 2 ORDER BY 1, 2";
        let layouts = client.query(sql, &[&id]).await?;
        if layouts.is_empty() && row.try_get::<_, Option<i64>>(2)?.unwrap_or(0) > 0 {
            return Err(PostgresFault::Other(format!("the rows of call `{call}` are no longer kept")));
        }
        let mut tables = Vec::new();
        for layout in layouts {
            let name = TableRef { schema: Some(layout.try_get(0)?), name: layout.try_get(1)? };
            // Rows of a partition that is no longer one would be left out unseen.
            if !layout.try_get::<_, bool>(3)? {
                return Err(PostgresFault::Other(format!(
                    "table `{name}` is not the one of which call `{call}` kept rows: it was renamed, dropped or made anew, \
                     or a partition was taken from it"
                )));
            }
            if !layout.try_get::<_, bool>(2)? {
                return Err(PostgresFault::Other(format!(
                    "the columns of table `{name}` are not what they were when call `{call}` kept its rows"
                )));
            }
            let mut table = Table::read(client, name).await?;
            table.nets = table.net(client, KeptChanges { call, after: 0 }).await?;
            tables.push(table);
        }
        Ok(Self { call: id.to_owned(), tables })
    }

    pub(super) async fn undone(
        &self,
        client: &Client,
        scope: &Scope,
        mask: &Mask,
    ) -> Result<Undone, PostgresFault> {
        let mut undone = Undone::default();
        for table in &self.tables {
            let name = scope.settled(&table.name).to_string();
            let count = |nets: &[Net]| u64::try_from(nets.len()).unwrap_or(u64::MAX);
            if !table.nets.is_empty() {
                undone.restored.insert(name.clone(), count(&table.nets));
            }
            let counters = table.counters(client, &self.call).await?;
            if !counters.is_empty() {
                undone.counters.insert(name.clone(), counters);
            }
            if !table.changed.is_empty() {
                undone.changed.insert(name.clone(), count(&table.changed));
            }
            let room = EXAMPLES_MAX.saturating_sub(undone.examples.len());
            let mask = &schema::masked(client, mask, &table.name).await?;
            for net in table.changed.iter().take(room) {
                let key = table.shown_key(client, &self.call, net, mask).await?;
                undone.examples.push(format!("{name} {key}"));
            }
        }
        Ok(undone)
    }

    /// A few of the rows, as an approver may see them: first those that changed since.
    pub(super) async fn sample(
        &self,
        client: &Client,
        scope: &Scope,
        mask: &Mask,
        undone: &Undone,
    ) -> Result<Option<Sample>, PostgresFault> {
        let changed = self.tables.iter().find(|table| !table.changed.is_empty());
        let Some(table) = changed.or_else(|| self.tables.iter().find(|table| !table.nets.is_empty())) else {
            return Ok(None);
        };
        let mask = &schema::masked(client, mask, &table.name).await?;
        let most = usize::try_from(SAMPLE_ROWS).unwrap_or(usize::MAX);
        let (mut before, mut after, mut words) = (Vec::new(), Vec::new(), Vec::new());
        let changed = table.changed.iter().map(|net| (net, "changed since, stays"));
        let settled = scope.settled(&table.name).to_string();
        let goes_away = goes_away(undone.counters.get(&settled));
        let goes = table.nets.iter().map(|net| match net {
            Net::Inserted(_) => (net, goes_away.as_str()),
            Net::Deleted(_) => (net, COMES_BACK),
            Net::Updated { .. } => (net, GOES_BACK),
        });
        for (net, word) in changed.take(2).chain(goes).take(most) {
            before.push(net.before().copied());
            after.push(net.after().copied());
            words.push(word);
        }
        let names: Vec<String> = table.kept().map(|column| column.name.clone()).collect();
        let values: Vec<String> = names.iter().map(|name| format!("(q.r).{}", quoted(name))).collect();
        let sql = format!(
            "SELECT q.word, {values} FROM (SELECT p.n, p.word, coalesce(b.old, a.new)::{row} AS r \
               FROM unnest($2::int8[], $3::int8[], $4::text[]) WITH ORDINALITY AS p (b, a, word, n) \
               LEFT JOIN countersign.kept b ON b.call = $1 AND b.seq = p.b \
               LEFT JOIN countersign.kept a ON a.call = $1 AND a.seq = p.a OFFSET 0) AS q ORDER BY q.n",
            values = values.join(", "),
            row = named(&table.name)
        );
        let found = client.query(&sql, &[&self.call, &before, &after, &words]).await?;
        let columns: Vec<String> = std::iter::once("undo".to_owned()).chain(names).collect();
        let mut rows = Vec::new();
        for row in found {
            let values = row.columns().iter().enumerate().map(|(at, column)| {
                let value = match row.try_get::<_, Cell>(at) {
                    Ok(Cell(value)) => value,
                    Err(_) => serde_json::Value::from(format!("({})", column.type_())),
                };
                // The first is our own word.
                if at == 0 {
                    shown(&value, false)
                } else {
                    mask.shown(&table.name.name, column.name(), value)
                }
            });
            rows.push(values.collect());
        }
        Ok(Some(Sample { table: settled, columns, rows }))
    }

    /// A table of which some rows are not what the call left.
    pub(in crate::sql::postgres) fn unseen(&self) -> Option<&TableRef> {
        self.tables.iter().find(|table| !table.changed.is_empty()).map(|table| &table.name)
    }

    /// Leaves rows out that refer to what they referred to before. A foreign key that was never checked is looked at
    /// again for a row that this very transaction has changed, and for none that an earlier one has: so what it says
    /// of them in a trial it will not say in an undo. Returns whether there are any.
    pub(in crate::sql::postgres) async fn spare_referring(
        &mut self,
        client: &Client,
    ) -> Result<bool, PostgresFault> {
        let sql = "SELECT DISTINCT a.attname::text FROM pg_catalog.pg_constraint k \
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) \
                    WHERE k.contype = 'f' AND NOT k.convalidated \
                      AND k.conrelid = ANY (ARRAY(SELECT relid FROM pg_catalog.pg_partition_tree($1::text::regclass) \
                                                  UNION ALL SELECT $1::text::regclass)::oid[])";
        let mut any = false;
        for table in &mut self.tables {
            let mut same = Vec::new();
            for row in client.query(sql, &[&named(&table.name)]).await? {
                let column = quoted(row.try_get(0)?);
                same.push(format!("(q.b).{column}::text IS NOT DISTINCT FROM (q.a).{column}::text"));
            }
            if same.is_empty() {
                continue;
            }
            let spared = table.pairs_of_which(client, &self.call, &same.join(" AND ")).await?;
            any |= !spared.is_empty();
            table.nets.retain(|net| net.before().is_none_or(|seq| !spared.contains(seq)));
        }
        Ok(any)
    }

    /// Puts the rows back: all tables in one statement, first what goes away, then what changes, then what
    /// comes back, as unique columns need it.
    pub(in crate::sql::postgres) async fn apply(
        &self,
        client: &Client,
        call: &CallId,
        method: RestoreMethod,
    ) -> Result<(), PostgresFault> {
        let mut statement = Restoration::new(self.call.clone());
        let mut wanted = Vec::new();
        let (mut removed, mut updated, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for table in self.tables.iter().filter(|table| !table.nets.is_empty()) {
            let renumbered = table.renumbered(client, &self.call).await?;
            let pairs = |net: &&Net| {
                method != RestoreMethod::Replace
                    && net.after().is_some()
                    && net.before().is_some_and(|seq| !renumbered.contains(seq))
            };
            let (update, rest): (Vec<&Net>, Vec<&Net>) = table.nets.iter().partition(pairs);
            let gone: Vec<&Net> = rest.iter().copied().filter(|net| net.after().is_some()).collect();
            let back: Vec<&Net> = rest.into_iter().filter(|net| net.before().is_some()).collect();
            if !gone.is_empty() {
                removed.push((table, gone));
            }
            if !update.is_empty() {
                updated.push((table, update));
            }
            if !back.is_empty() {
                added.push((table, back));
            }
        }
        let mut aside = Restoration::new(self.call.clone());
        let mut set_aside = Vec::new();
        for (table, nets) in &removed {
            statement.delete(table, nets);
            wanted.push(nets.len());
        }
        for (table, nets) in &updated {
            let columns = table.differing(client, &self.call, nets).await?;
            // Only what the database computes differs: it will compute it again.
            if columns.is_empty() {
                continue;
            }
            let values = match method {
                RestoreMethod::SetAside => table.aside(client, &columns).await?,
                RestoreMethod::Update | RestoreMethod::Replace => Vec::new(),
            };
            if values.is_empty() {
                statement.update(table, nets, &columns, Selection::AsLeft);
            } else {
                aside.set_aside(table, nets, &values);
                set_aside.push(nets.len());
                statement.update(table, nets, &columns, Selection::Ours);
            }
            wanted.push(nets.len());
        }
        for (table, nets) in &added {
            statement.insert(table, nets);
            wanted.push(nets.len());
        }
        for (statement, wanted) in [(aside, set_aside), (statement, wanted)] {
            if statement.parts.is_empty() {
                continue;
            }
            let row = client.query_one(&statement.text(), &statement.values()).await?;
            for (at, wanted) in wanted.into_iter().enumerate() {
                let done: i64 = row.try_get(at)?;
                if usize::try_from(done).ok() != Some(wanted) {
                    return Err(PostgresFault::Moved(format!(
                        "rows of call `{call}` changed while they were put back; nothing was changed"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Lets everything run that goes along with rows that are back, and puts right once what it makes of them. Returns
    /// how far they are then from what they were.
    pub(in crate::sql::postgres) async fn settled(
        &self,
        client: &Client,
        call: &CallId,
        accepted: &Columns,
        done: KeptChanges<'_>,
    ) -> Result<Departure, PostgresFault> {
        client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let departure = self.departure(client, call, done).await?;
        if !departure.refused(accepted) {
            return Ok(departure);
        }
        // Triggers ran along, and changed again what was put back. Once more, now that all rows are there.
        self.settle(client, call, accepted).await?;
        client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        self.departure(client, call, done).await
    }

    /// Writes the old rows once more over what triggers made of them, but for columns that may be theirs.
    async fn settle(&self, client: &Client, call: &CallId, accepted: &Columns) -> Result<(), PostgresFault> {
        let mut statement = Restoration::new(call.to_string());
        for table in &self.tables {
            let back: Vec<&Net> = table.nets.iter().filter(|net| net.before().is_some()).collect();
            let ours = |column: &&Column| {
                !column.generated && !column.always && !accepted.name(&table.name.name, &column.name)
            };
            let columns: Vec<String> =
                table.columns.iter().filter(ours).map(|column| column.name.clone()).collect();
            if !back.is_empty() && !columns.is_empty() {
                statement.update(table, &back, &columns, Selection::Other);
            }
        }
        if !statement.parts.is_empty() {
            client.query(&statement.text(), &statement.values()).await?;
        }
        Ok(())
    }

    /// Tells how what was done is not the exact reverse of this plan.
    async fn departure(
        &self,
        client: &Client,
        call: &CallId,
        by: KeptChanges<'_>,
    ) -> Result<Departure, PostgresFault> {
        let mut departure = Departure::default();
        let sql = "SELECT DISTINCT n.nspname::text, c.relname::text FROM countersign.image i \
                     JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(i.relation), i.relation) \
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE i.call = $1 AND i.seq > $2";
        let mut touched = BTreeSet::new();
        for row in client.query(sql, &[&by.call.as_str(), &by.after]).await? {
            touched.insert(TableRef { schema: Some(row.try_get(0)?), name: row.try_get(1)? });
        }
        for table in &self.tables {
            touched.remove(&table.name);
            let done = table.net(client, by).await?;
            let was = |call, nets| States { call, nets, side: Side::Before };
            let is = |call, nets| States { call, nets, side: Side::After };
            let (undone, done) = ((call, table.nets.as_slice()), (by.call, done.as_slice()));
            let gone = table.same(client, was(done.0, done.1), is(undone.0, undone.1), false).await?;
            let (now, then) = (is(done.0, done.1), was(undone.0, undone.1));
            let back = table.same(client, now, then, false).await?;
            if !gone || !back && !table.same(client, now, then, true).await? {
                departure.rows.get_or_insert_with(|| table.name.to_string());
            } else if !back {
                let others = table.other_columns(client, &self.call).await?;
                if others.is_empty() {
                    departure.rows.get_or_insert_with(|| table.name.to_string());
                }
                departure.columns.extend(others);
            }
        }
        for name in touched {
            let table = Table::read(client, name).await?;
            if !table.net(client, by).await?.is_empty() {
                departure.rows.get_or_insert_with(|| table.name.to_string());
            }
        }
        Ok(departure)
    }
}
