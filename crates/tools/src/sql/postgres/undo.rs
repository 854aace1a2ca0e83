//! Taking back what a call did to the rows of a PostgreSQL database.
//!
//! What was kept of a call is brought down to its net effect, row by row ([`net`]): rows that were there
//! before, and rows that are there since. A row goes back only when it still is what the call left; each
//! change says so itself in its condition, which the server looks at again when somebody else has changed the
//! row in the meantime. So no lock is needed beforehand, and none of the account's rights but those to change
//! rows.
//!
//! All tables change in one statement, so that foreign keys are looked at only when everything is back:
//! whatever their order or rings. Undoing is kept like any call, and what was kept of it must in the end be
//! the exact reverse: no row more, none less, and each as it was. Anything else is rolled back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use countersign_gate::{Credential, Limits, MeasureError, Measured, Sample, ToolError};
use countersign_rules::CallId;
use countersign_sql::{Dialect, TableRef};
use deadpool_postgres::Object;
use tokio_postgres::{Client, Error, types::ToSql};

use super::{
    GRACE, PostgresDatabase,
    connection::{forget, snapshot},
    fault::{Trouble, told, unmeasured},
    net::{Image, Net, State, net},
    schema,
    value::Cell,
    write::{Body, Done, Seen},
};
use crate::{
    definition::Rehearse,
    sql::{
        cascade::{named, quoted},
        columns::Columns,
        journal::{COMES_BACK, EXAMPLES_MAX, GOES_BACK, Mark, Undoing, Undone, goes_away},
        mask::Mask,
        statement::Scope,
        tally::SAMPLE_ROWS,
        value::shown,
    },
};

/// The row of a table in our statements; no column can be called so by accident.
const ROW: &str = "\"countersign row\"";
/// As texts are kept, so are they read and compared: see `prepare.sql`.
pub(super) const AS_KEPT: &str = "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; \
    SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; \
    SET LOCAL lc_monetary = 'C'; SET LOCAL array_nulls = on; SET LOCAL xmloption = content";

impl PostgresDatabase {
    fn everything(&self) -> Scope {
        Scope::new(Dialect::Postgres, &self.target.search_path, &BTreeSet::new(), &BTreeSet::new())
    }

    /// What undoing a call would touch, in a transaction in which the server refuses every change.
    pub(super) async fn undo_measure(
        &self,
        credential: &Credential,
        mark: &Mark,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        let mask = &mask.keeping_out(self.connections.scrubber(credential));
        let mut measured = self.undo_count(credential, undoing, mask).await?;
        let rehearsed = match self.target.limits.rehearse {
            Rehearse::Never | Rehearse::OnRequest => return Ok(measured),
            Rehearse::WhenInexact if measured.reach.triggers.is_empty() => return Ok(measured),
            Rehearse::WhenInexact | Rehearse::Always => {
                let body = self.undo_body(mark, undoing, mask);
                // The plan was counted, and is held to when it is meant.
                let any = Limits { rows_max: u64::MAX, tables: None, amount_max: None };
                loop {
                    let way = body.way();
                    let rehearsed = self.run_and_roll_back(credential, &body, &any, Some(mark)).await;
                    if rehearsed.is_ok() || body.way() == way {
                        break rehearsed;
                    }
                }
            }
        };
        match rehearsed {
            Ok(Done::Within(undone, _)) => {
                measured.reach.rehearsed = true;
                measured.sample = measured.sample.map(|sample| told_rewritten(sample, &undone.rewritten));
                Ok(measured)
            }
            Ok(Done::Beyond(_)) => Ok(measured),
            Err(MeasureError::Limit(_)) if self.target.limits.rehearse == Rehearse::WhenInexact => {
                Ok(measured)
            }
            Err(why) => Err(why),
        }
    }

    async fn undo_count(
        &self,
        credential: &Credential,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        let scrubber = self.connections.scrubber(credential);
        let wait = Duration::from_millis(self.target.limits.measure_timeout_ms);
        let _permit = self.measuring_turn(wait).await?;
        let mut client = self.connections.connect(credential).await?;
        let measuring = self.undo_count_with(&mut client, undoing, mask);
        match tokio::time::timeout(wait.saturating_add(GRACE), measuring).await {
            Ok(Ok(measured)) => measured,
            Ok(Err(trouble)) => {
                let why = unmeasured(&scrubber, &trouble);
                forget(client, &trouble);
                Err(why)
            }
            Err(_elapsed) => {
                drop(Object::take(client));
                Err(MeasureError::Limit(format!("it took longer than {} ms", wait.as_millis())))
            }
        }
    }

    async fn undo_count_with(
        &self,
        client: &mut Object,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Result<Measured, MeasureError>, Trouble> {
        let tx = snapshot(client).await?;
        tx.batch_execute(&format!("{}; {AS_KEPT}", self.sparing(self.target.limits.measure_timeout_ms)))
            .await?;
        let call = &undoing.call;
        let plan = Plan::new(tx.client(), call).await?;
        let undone = plan.undone(tx.client(), &self.everything(), mask).await?;
        if undone.restored.is_empty()
            && let Some(by) = undone_by(tx.client(), call, None).await?
        {
            let why = format!("call `{call}` was undone by call `{by}`");
            return Ok(Err(MeasureError::NotMeasurable(why)));
        }
        let tables: Vec<TableRef> = plan.tables.iter().map(|table| table.name.clone()).collect();
        let triggers = schema::triggers(tx.client(), &tables).await?;
        let sample = plan.sample(tx.client(), &self.everything(), mask, &undone).await?;
        tx.rollback().await?;
        Ok(undone.measured(undoing, triggers, sample))
    }

    /// Undoes a call within the warrant, or not at all. Returns the rows touched as well.
    pub(super) async fn undo(
        &self,
        credential: &Credential,
        mark: Mark,
        undoing: &Undoing,
        limits: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError> {
        let mask = mask.keeping_out(self.connections.scrubber(credential));
        let body = self.undo_body(&mark, undoing, &mask);
        self.perform(credential, &body, limits, Some(&mark)).await
    }

    fn undo_body<'a>(&self, mark: &'a Mark, undoing: &'a Undoing, mask: &'a Mask) -> Undo<'a> {
        let scope = self.everything();
        Undo { undoing, by: &mark.call, mask, scope, way: AtomicU8::new(0) }
    }
}

/// Says of the rows that go back in which columns they will not be what they were.
fn told_rewritten(mut sample: Sample, rewritten: &BTreeMap<String, BTreeMap<String, u64>>) -> Sample {
    if let Some(columns) = rewritten.get(&sample.table) {
        let columns: Vec<String> = columns.keys().map(|column| format!("`{column}`")).collect();
        for row in &mut sample.rows {
            if let Some(Some(word)) = row.first_mut()
                && [COMES_BACK, GOES_BACK].contains(&word.as_str())
            {
                word.push_str(&format!(", but for {}", columns.join(", ")));
            }
        }
    }
    sample
}

struct Undo<'a> {
    undoing: &'a Undoing,
    by: &'a CallId,
    mask: &'a Mask,
    scope: Scope,
    /// How the rows go back, as a number: see [`Way`]. The next one is tried when one fails.
    way: AtomicU8,
}

/// How rows that changed go back. What comes of it is looked at afterwards, whichever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// They are updated.
    Update,
    /// Values of unique columns that changed hands are first set aside, to values that nobody has.
    Aside,
    /// They are taken out and put in again.
    Replace,
}

impl Way {
    /// What is tried when this one fails.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Update => Some(Self::Aside),
            Self::Aside => Some(Self::Replace),
            Self::Replace => None,
        }
    }

    /// Whether another way may do better: a value is in the way of another, or one set aside does not fit its column.
    pub(super) fn stands_in_the_way(error: &Error) -> bool {
        error.code().is_some_and(|code| ["22", "23"].iter().any(|class| code.code().starts_with(class)))
    }
}

impl Undo<'_> {
    fn way(&self) -> Way {
        match self.way.load(Ordering::Relaxed) {
            0 => Way::Update,
            1 => Way::Aside,
            _ => Way::Replace,
        }
    }
}

impl Body for Undo<'_> {
    type Made = Undone;

    async fn run(&self, client: &Object) -> Result<(Undone, Seen), Trouble> {
        client.batch_execute(AS_KEPT).await?;
        // Two that undo the same call at once take turns.
        client
            .query(
                "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))",
                &[&self.undoing.call.as_str()],
            )
            .await?;
        let call = &self.undoing.call;
        let plan = Plan::new(client, call).await?;
        let mut undone = plan.undone(client, &self.scope, self.mask).await?;
        if undone.restored.is_empty()
            && let Some(by) = undone_by(client, call, Some(self.by)).await?
        {
            return Err(Trouble::Other(format!("call `{call}` was undone by call `{by}`")));
        }
        if let Some(why) = undone.refusal(self.undoing) {
            return Err(Trouble::Other(why));
        }
        if undone.restored.is_empty() {
            return Err(Trouble::Other(format!("nothing is left to undo of call `{call}`")));
        }
        let way = self.way();
        match plan.apply(client, call, way).await {
            Err(Trouble::Database(error)) if way.next().is_some() && Way::stands_in_the_way(&error) => {
                self.way.fetch_add(1, Ordering::Relaxed);
                return Err(Trouble::Moved(told(&error)));
            }
            other => other?,
        }
        let accepted = &self.undoing.rewritten;
        let departure = plan.settled(client, call, accepted, Kept { call: self.by, after: 0 }).await?;
        if departure.refused(accepted) {
            return Err(Trouble::Other(departure.message(accepted)));
        }
        undone.rewritten = departure.told(&self.scope);
        let rows = undone.restored.clone();
        Ok((undone, Seen { rows: Some(rows), ..Seen::default() }))
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn writes(&self) -> Vec<TableRef> {
        Vec::new()
    }

    fn rewrites(&self) -> bool {
        false
    }

    fn lingers(&self) -> bool {
        false
    }

    fn undoes(&self) -> Option<&CallId> {
        Some(&self.undoing.call)
    }
}

/// What has to be done to undo a call.
pub(super) struct Plan {
    call: String,
    tables: Vec<Table>,
}

struct Table {
    name: TableRef,
    /// What is read of it: without the rows of its children, unless they are partitions.
    from: String,
    key: Vec<KeyColumn>,
    columns: Vec<Column>,
    /// Rows that go back.
    nets: Vec<Net>,
    /// Rows that changed since.
    changed: Vec<Net>,
}

/// A column of the primary key.
struct KeyColumn {
    name: String,
    /// The operator by which its index takes two values for the same, whatever the search path is.
    equals: String,
}

struct Column {
    name: String,
    generated: bool,
    /// Generated, and computed when it is read: no row that is kept has it.
    virtual_only: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: no update changes it.
    always: bool,
}

impl Plan {
    pub(super) async fn new(client: &Client, call: &CallId) -> Result<Self, Trouble> {
        let id = call.as_str();
        let sql = "SELECT state, images, rows FROM countersign.call WHERE id = $1";
        let Some(row) = client.query_opt(sql, &[&id]).await? else {
            return Err(Trouble::Other(format!("the database knows no call `{call}`")));
        };
        if row.try_get::<_, &str>(0)? == "fenced" {
            return Err(Trouble::Other(format!("call `{call}` did not happen")));
        }
        if !row.try_get::<_, bool>(1)? {
            let why = format!("no rows were kept of call `{call}`: its tool is not declared `reversible`");
            return Err(Trouble::Other(why));
        }
        let sql = "SELECT l.schema, l.name, coalesce(bool_and(l.columns = countersign.columns(t.now)), false), \
                          coalesce(bool_and(coalesce(pg_catalog.pg_partition_root(l.relation), l.relation) = t.now), false) \
                     FROM countersign.layout l \
                    CROSS JOIN LATERAL (SELECT pg_catalog.to_regclass(pg_catalog.format('%I.%I', l.schema, l.name))::oid) AS t (now) \
                    WHERE l.call = $1 GROUP BY 1, 2 ORDER BY 1, 2";
        let layouts = client.query(sql, &[&id]).await?;
        if layouts.is_empty() && row.try_get::<_, Option<i64>>(2)?.unwrap_or(0) > 0 {
            return Err(Trouble::Other(format!("the rows of call `{call}` are no longer kept")));
        }
        let mut tables = Vec::new();
        for layout in layouts {
            let name = TableRef { schema: Some(layout.try_get(0)?), name: layout.try_get(1)? };
            // Rows of a partition that is no longer one would be left out unseen.
            if !layout.try_get::<_, bool>(3)? {
                return Err(Trouble::Other(format!(
                    "table `{name}` is not the one of which call `{call}` kept rows: it was renamed, dropped or made anew, \
                     or a partition was taken from it"
                )));
            }
            if !layout.try_get::<_, bool>(2)? {
                return Err(Trouble::Other(format!(
                    "the columns of table `{name}` are not what they were when call `{call}` kept its rows"
                )));
            }
            let mut table = Table::read(client, name).await?;
            let nets = table.net(client, Kept { call, after: 0 }).await?;
            table.sort(client, id, nets).await?;
            tables.push(table);
        }
        Ok(Self { call: id.to_owned(), tables })
    }

    async fn undone(&self, client: &Client, scope: &Scope, mask: &Mask) -> Result<Undone, Trouble> {
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
    async fn sample(
        &self,
        client: &Client,
        scope: &Scope,
        mask: &Mask,
        undone: &Undone,
    ) -> Result<Option<Sample>, Trouble> {
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
        let goes = table.nets.iter().map(|net| match (&net.before, &net.after) {
            (None, _) => (net, goes_away.as_str()),
            (Some(_), None) => (net, COMES_BACK),
            (Some(_), Some(_)) => (net, GOES_BACK),
        });
        for (net, word) in changed.take(2).chain(goes).take(most) {
            before.push(net.before.as_ref().map(|(seq, _)| *seq));
            after.push(net.after.as_ref().map(|(seq, _)| *seq));
            words.push(word);
        }
        let names: Vec<String> = table.kept().map(|column| column.name.clone()).collect();
        let values: Vec<String> = names.iter().map(|name| format!("(q.r).{}", quoted(name))).collect();
        let sql = format!(
            "SELECT q.word, {values} FROM (SELECT p.n, p.word, coalesce(b.old, a.new)::{row} AS r \
               FROM unnest($2::int8[], $3::int8[], $4::text[]) WITH ORDINALITY AS p (b, a, word, n) \
               LEFT JOIN countersign.image b ON b.call = $1 AND b.seq = p.b \
               LEFT JOIN countersign.image a ON a.call = $1 AND a.seq = p.a OFFSET 0) AS q ORDER BY q.n",
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
    pub(super) fn unseen(&self) -> Option<&TableRef> {
        self.tables.iter().find(|table| !table.changed.is_empty()).map(|table| &table.name)
    }

    /// Leaves rows out that refer to what they referred to before. A foreign key that was never checked is looked at
    /// again for a row that this very transaction has changed, and for none that an earlier one has: so what it says
    /// of them in a trial it will not say in an undo. Returns whether there are any.
    pub(super) async fn spare_referring(&mut self, client: &Client) -> Result<bool, Trouble> {
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
            table.nets.retain(|net| net.before.as_ref().is_none_or(|(seq, _)| !spared.contains(seq)));
        }
        Ok(any)
    }

    /// Puts the rows back: all tables in one statement, first what goes away, then what changes, then what
    /// comes back, as unique columns need it.
    pub(super) async fn apply(&self, client: &Client, call: &CallId, way: Way) -> Result<(), Trouble> {
        let mut statement = Statement::new(self.call.clone());
        let mut wanted = Vec::new();
        let (mut removed, mut updated, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for table in self.tables.iter().filter(|table| !table.nets.is_empty()) {
            let renumbered = table.renumbered(client, &self.call).await?;
            let pairs = |net: &&Net| {
                way != Way::Replace
                    && net.after.is_some()
                    && net.before.as_ref().is_some_and(|(seq, _)| !renumbered.contains(seq))
            };
            let (update, rest): (Vec<&Net>, Vec<&Net>) = table.nets.iter().partition(pairs);
            let gone: Vec<&Net> = rest.iter().copied().filter(|net| net.after.is_some()).collect();
            let back: Vec<&Net> = rest.into_iter().filter(|net| net.before.is_some()).collect();
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
        let mut aside = Statement::new(self.call.clone());
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
            let values = match way {
                Way::Aside => table.aside(client, &columns).await?,
                Way::Update | Way::Replace => Vec::new(),
            };
            if values.is_empty() {
                statement.update(table, nets, &columns, While::AsLeft);
            } else {
                aside.set_aside(table, nets, &values);
                set_aside.push(nets.len());
                statement.update(table, nets, &columns, While::Ours);
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
                    return Err(Trouble::Moved(format!(
                        "rows of call `{call}` changed while they were put back; nothing was changed"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Lets everything run that goes along with rows that are back, and puts right once what it makes of them. Returns
    /// how far they are then from what they were.
    pub(super) async fn settled(
        &self,
        client: &Client,
        call: &CallId,
        accepted: &Columns,
        done: Kept<'_>,
    ) -> Result<Departure, Trouble> {
        client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let departure = self.departure(client, done).await?;
        if !departure.refused(accepted) {
            return Ok(departure);
        }
        // Triggers ran along, and changed again what was put back. Once more, now that all rows are there.
        self.settle(client, call, accepted).await?;
        client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        self.departure(client, done).await
    }

    /// Writes the old rows once more over what triggers made of them, but for columns that may be theirs.
    async fn settle(&self, client: &Client, call: &CallId, accepted: &Columns) -> Result<(), Trouble> {
        let mut statement = Statement::new(call.to_string());
        for table in &self.tables {
            let back: Vec<&Net> = table.nets.iter().filter(|net| net.before.is_some()).collect();
            let ours = |column: &&Column| {
                !column.generated && !column.always && !accepted.name(&table.name.name, &column.name)
            };
            let columns: Vec<String> =
                table.columns.iter().filter(ours).map(|column| column.name.clone()).collect();
            if !back.is_empty() && !columns.is_empty() {
                statement.update(table, &back, &columns, While::Other);
            }
        }
        if !statement.parts.is_empty() {
            client.query(&statement.text(), &statement.values()).await?;
        }
        Ok(())
    }

    /// How what was done is not the exact reverse of this plan.
    async fn departure(&self, client: &Client, by: Kept<'_>) -> Result<Departure, Trouble> {
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
            let (was, is): (Side, Side) = (|net| net.before.as_ref(), |net| net.after.as_ref());
            if digests(&done, was) != digests(&table.nets, is) || keys(&done, is) != keys(&table.nets, was) {
                departure.rows.get_or_insert_with(|| table.name.to_string());
            } else if digests(&done, is) != digests(&table.nets, was) {
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

/// The changes that were kept of a call, from one of its images on.
#[derive(Clone, Copy)]
pub(super) struct Kept<'k> {
    pub(super) call: &'k CallId,
    /// The number of the last image that is not among them.
    pub(super) after: i64,
}

/// How far rows are from what they were, after undoing.
#[derive(Default)]
pub(super) struct Departure {
    /// A table of which other rows changed than should.
    rows: Option<String>,
    /// Columns that are not what they were in rows that are back.
    columns: Vec<Other>,
}

/// How a trigger keeps out of an undo.
const STANDS_ASIDE: &str = "a trigger stands aside with the condition \
    `WHEN (coalesce(current_setting('countersign.undoes', true), '') = '')`";

/// A column that is not what it was in so many rows.
struct Other {
    table: TableRef,
    column: String,
    generated: bool,
    rows: u64,
}

impl Departure {
    /// What a generated column shows follows from others.
    fn not_accepted<'d>(&'d self, accepted: &Columns) -> impl Iterator<Item = &'d Other> {
        self.columns
            .iter()
            .filter(|other| !other.generated && !accepted.name(&other.table.name, &other.column))
    }

    pub(super) fn refused(&self, accepted: &Columns) -> bool {
        self.rows.is_some() || self.not_accepted(accepted).next().is_some()
    }

    /// Why an undo is not done.
    fn message(&self, accepted: &Columns) -> String {
        let (found, names) = match self.found(accepted) {
            Ok(found) => found,
            Err(why) => return format!("{why}; {STANDS_ASIDE}; nothing was changed"),
        };
        format!(
            "undoing would bring everything back but {found}, which a trigger writes again; accept that with \
             `rewritten` = `{}` (`--rewritten`, or in the system's journal), or {STANDS_ASIDE}; nothing was changed",
            names.join(",")
        )
    }

    /// Why a call is not done that could not be undone so.
    pub(super) fn foretold(&self, accepted: &Columns) -> String {
        let (found, names) = match self.found(accepted) {
            Ok(found) => found,
            Err(why) => return format!("{why}; {STANDS_ASIDE}"),
        };
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!(
            "a trigger has the last word in {found}; the system's author accepts that with `rewritten = [{}]` in its journal, or \
             leaves `reversible` out of the tool; or {STANDS_ASIDE}",
            names.join(", ")
        )
    }

    /// The columns that are not what they were, in words and by name; or that it is more than columns.
    fn found(&self, accepted: &Columns) -> Result<(String, Vec<String>), String> {
        if let Some(table) = &self.rows {
            return Err(format!(
                "undoing would not bring table `{table}` back to what it was, because a trigger or foreign key \
                 changes rows along with it"
            ));
        }
        let (mut found, mut names) = (Vec::new(), Vec::new());
        for Other { table, column, rows, .. } in self.not_accepted(accepted) {
            found.push(format!("column `{column}` of table `{table}` in {rows} rows"));
            names.push(format!("{}.{column}", table.name));
        }
        Ok((found.join(", "), names))
    }

    fn told(self, scope: &Scope) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut told: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for Other { table, column, rows, .. } in self.columns {
            told.entry(scope.settled(&table).to_string()).or_default().insert(column, rows);
        }
        told
    }
}

impl Table {
    async fn read(client: &Client, name: TableRef) -> Result<Self, Trouble> {
        // A key in a range without overlaps is in an index that knows no equality of its own.
        let sql = "SELECT a.attname::text, a.attgenerated <> '', a.attidentity = 'a', c.relkind = 'p', \
                          coalesce(x.place, -1), a.attgenerated = 'v', \
                          coalesce((SELECT pg_catalog.format('OPERATOR(%I.%s)', en.nspname, e.oprname) \
                                      FROM pg_catalog.pg_opclass k \
                                      JOIN pg_catalog.pg_am m ON m.oid = k.opcmethod AND m.amname = 'btree' \
                                      JOIN pg_catalog.pg_amop o ON o.amopfamily = k.opcfamily AND o.amopstrategy = 3 \
                                       AND o.amoplefttype = k.opcintype AND o.amoprighttype = k.opcintype \
                                      JOIN pg_catalog.pg_operator e ON e.oid = o.amopopr \
                                      JOIN pg_catalog.pg_namespace en ON en.oid = e.oprnamespace \
                                     WHERE k.oid = i.indclass[x.place] AND pg_catalog.has_schema_privilege(en.oid, 'USAGE')), '=') \
                     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                     LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
                     LEFT JOIN LATERAL (SELECT pg_catalog.array_position(i.indkey::int2[], a.attnum)) AS x (place) \
                       ON x.place < i.indnkeyatts \
                    WHERE n.nspname = $1 AND c.relname = $2 ORDER BY a.attnum";
        let mut table = Self {
            from: named(&name),
            name,
            key: Vec::new(),
            columns: Vec::new(),
            nets: Vec::new(),
            changed: Vec::new(),
        };
        let mut key = BTreeMap::new();
        let schema = table.name.schema.clone().unwrap_or_default();
        for row in client.query(sql, &[&schema, &table.name.name]).await? {
            let column = Column {
                name: row.try_get(0)?,
                generated: row.try_get(1)?,
                virtual_only: row.try_get(5)?,
                always: row.try_get(2)?,
            };
            if !row.try_get::<_, bool>(3)? {
                table.from = format!("ONLY {}", named(&table.name));
            }
            let place: i32 = row.try_get(4)?;
            if place >= 0 {
                key.insert(place, KeyColumn { name: column.name.clone(), equals: row.try_get(6)? });
            }
            table.columns.push(column);
        }
        table.key = key.into_values().collect();
        if table.key.is_empty() {
            return Err(Trouble::Other(format!("table `{}` has no primary key any more", table.name)));
        }
        Ok(table)
    }

    /// The columns that kept rows have.
    fn kept(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.virtual_only)
    }

    /// A row of the table, or one that was kept of it, as far as the two can be compared.
    fn content(&self, row: &str) -> String {
        if !self.columns.iter().any(|column| column.virtual_only) {
            return row.to_owned();
        }
        let parts: Vec<String> =
            self.kept().map(|column| format!("{row}.{}", quoted(&column.name))).collect();
        format!("ROW({})::record", parts.join(", "))
    }

    /// That the row of the table is one that was kept, of which this is the text.
    fn is(&self, row: &str, text: &str) -> String {
        let (there, kept) = (self.content(ROW), self.content(row));
        format!("({} OR {there} OPERATOR(pg_catalog.*=) {kept})", self.reads("=", row, text))
    }

    /// That the row of the table reads otherwise than one that was kept, of which this is the text.
    fn differs(&self, row: &str, text: &str) -> String {
        self.reads("<>", row, text)
    }

    fn reads(&self, comparison: &str, row: &str, text: &str) -> String {
        let (there, kept) = (self.content(ROW), self.content(row));
        let text = if kept == row { text.to_owned() } else { format!("{kept}::text") };
        format!("{there}::text {comparison} {text}")
    }

    /// The columns of the key in a row.
    fn key_of(&self, row: &str) -> Vec<String> {
        self.key.iter().map(|column| format!("{row}.{}", quoted(&column.name))).collect()
    }

    /// That the row of the table has the key of another.
    fn same_key(&self, row: &str) -> String {
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|KeyColumn { name, equals }| {
                format!("{ROW}.{column} {equals} {row}.{column}", column = quoted(name))
            })
            .collect();
        parts.join(" AND ")
    }

    /// What was kept of this table comes to.
    async fn net(&self, client: &Client, kept: Kept<'_>) -> Result<Vec<Net>, Trouble> {
        // Which keys are the same the database says: `1.0` and `1.00` are, and so may be `a` and `A`.
        let sql = format!(
            "SELECT q.seq, q.is_new, q.digest, ROW({key})::text, \
                    dense_rank() OVER (ORDER BY {key}), \
                    dense_rank() OVER (ORDER BY q.digest) \
               FROM (SELECT i.seq, s.is_new, pg_catalog.sha256(pg_catalog.convert_to(s.text, 'UTF8')) AS digest, \
                            s.text::{row} AS r \
                       FROM countersign.image i CROSS JOIN LATERAL (VALUES (false, i.old), (true, i.new)) AS s (is_new, text) \
                      WHERE i.call = $1 AND i.seq > $3 AND s.text IS NOT NULL \
                        AND i.relation = ANY (ARRAY(SELECT relid FROM pg_catalog.pg_partition_tree($2::text::regclass) \
                                                    UNION ALL SELECT $2::text::regclass)::oid[]) OFFSET 0) AS q ORDER BY q.seq, q.is_new",
            key = self.key_of("(q.r)").join(", "),
            row = named(&self.name),
        );
        let mut images: Vec<Image> = Vec::new();
        for row in client.query(&sql, &[&kept.call.as_str(), &named(&self.name), &kept.after]).await? {
            let seq = row.try_get(0)?;
            let number = usize::try_from(row.try_get::<_, i64>(5)?).unwrap_or(0);
            let state =
                State { number, digest: row.try_get(2)?, key: row.try_get(3)?, place: row.try_get(4)? };
            if images.last().is_none_or(|image| image.seq != seq) {
                images.push(Image { seq, old: None, new: None });
            }
            if let Some(image) = images.last_mut() {
                *(if row.try_get(1)? { &mut image.new } else { &mut image.old }) = Some(state);
            }
        }
        net(&images).ok_or_else(|| {
            Trouble::Other(format!("what was kept of table `{}` contradicts itself", self.name))
        })
    }

    /// Tells the rows that still are what the call left from those that changed since.
    async fn sort(&mut self, client: &Client, call: &str, nets: Vec<Net>) -> Result<(), Trouble> {
        let seq = |state: &Option<(i64, State)>| state.as_ref().map(|(seq, _)| *seq);
        let before: Vec<Option<i64>> = nets.iter().map(|net| seq(&net.before)).collect();
        let after: Vec<Option<i64>> = nets.iter().map(|net| seq(&net.after)).collect();
        let row = named(&self.name);
        let (old, new) = (format!("(b.old::{row})"), format!("(a.new::{row})"));
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {from} AS {ROW} WHERE {is_new} AND {as_left}), \
                    EXISTS (SELECT FROM {from} AS {ROW} WHERE {is_old}) \
               FROM unnest($2::int8[], $3::int8[]) WITH ORDINALITY AS p (b, a, n) \
               LEFT JOIN countersign.image b ON b.call = $1 AND b.seq = p.b \
               LEFT JOIN countersign.image a ON a.call = $1 AND a.seq = p.a ORDER BY p.n",
            from = self.from,
            is_new = self.same_key(&new),
            as_left = self.is(&new, "a.new"),
            is_old = self.same_key(&old),
        );
        let found = client.query(&sql, &[&call, &before, &after]).await?;
        let mut open = Vec::with_capacity(nets.len());
        for (net, row) in nets.into_iter().zip(found) {
            let (as_left, taken): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
            if net.after.is_none() || as_left {
                open.push((net, taken));
            } else {
                self.changed.push(net);
            }
        }
        // Where an old row has to go, there must be no other than one that leaves; and a row that finds its place
        // taken does not leave its own.
        loop {
            let leaving: BTreeSet<i64> =
                open.iter().filter_map(|(net, _)| net.after.as_ref()).map(|(_, state)| state.place).collect();
            let (free, stuck): (Vec<_>, Vec<_>) = open.into_iter().partition(|(net, taken)| {
                net.before.as_ref().is_none_or(|(_, state)| !taken || leaving.contains(&state.place))
            });
            open = free;
            if stuck.is_empty() {
                break;
            }
            self.changed.extend(stuck.into_iter().map(|(net, _)| net));
        }
        self.nets = open.into_iter().map(|(net, _)| net).collect();
        Ok(())
    }

    /// The key of a row that changed since, as people may see it.
    async fn shown_key(
        &self,
        client: &Client,
        call: &str,
        net: &Net,
        mask: &Mask,
    ) -> Result<String, Trouble> {
        let (text, image) = match (&net.before, &net.after) {
            (Some(image), _) => ("old", image),
            (None, Some(image)) => ("new", image),
            (None, None) => return Ok(String::new()),
        };
        let (seq, state) = image;
        if !self.key.iter().any(|column| mask.hides(&self.name.name, &column.name)) {
            return Ok(mask.cleaned(&state.key));
        }
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|column| format!("(i.{text}::{}).{}::text", named(&self.name), quoted(&column.name)))
            .collect();
        let sql =
            format!("SELECT {} FROM countersign.image i WHERE i.call = $1 AND i.seq = $2", parts.join(", "));
        let row = client.query_one(&sql, &[&call, seq]).await?;
        let mut shown_parts = Vec::new();
        for (at, column) in self.key.iter().enumerate() {
            let value = serde_json::Value::from(row.try_get::<_, Option<String>>(at)?);
            shown_parts.push(mask.shown(&self.name.name, &column.name, value).unwrap_or_default());
        }
        Ok(format!("({})", shown_parts.join(",")))
    }

    /// The columns of rows that go away or back whose numbers a counter of the database gave, as far as the call may have
    /// moved it.
    async fn counters(&self, client: &Client, call: &str) -> Result<BTreeSet<String>, Trouble> {
        let given: Vec<&Net> = self.nets.iter().filter(|net| net.after.is_some()).collect();
        if given.is_empty() {
            return Ok(BTreeSet::new());
        }
        let sql = "SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                     LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
                    WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND (a.attidentity <> '' \
                       OR EXISTS (SELECT FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_class s ON s.oid = p.refobjid \
                                   WHERE p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = d.oid \
                                     AND p.refclassid = 'pg_catalog.pg_class'::regclass AND s.relkind = 'S'))";
        let mut counters = BTreeSet::new();
        for row in client.query(sql, &[&named(&self.name)]).await? {
            counters.insert(row.try_get(0)?);
        }
        // A row that was there before has a new number only where the column is another.
        if !counters.is_empty() && given.iter().all(|net| net.before.is_some()) {
            let differing: BTreeSet<String> =
                self.differing(client, call, &given).await?.into_iter().collect();
            counters.retain(|column| differing.contains(column));
        }
        Ok(counters)
    }

    /// The columns that are not what they were in rows that are back.
    async fn other_columns(&self, client: &Client, call: &str) -> Result<Vec<Other>, Trouble> {
        let nets: Vec<&Net> = self.nets.iter().collect();
        let counts: Vec<String> = self
            .kept()
            .map(|column| {
                let name = quoted(&column.name);
                format!("count(*) FILTER (WHERE {ROW}.{name}::text IS DISTINCT FROM (q.was).{name}::text)")
            })
            .collect();
        let sql = format!(
            "SELECT {} FROM {} AS {ROW}, (SELECT i.old::{} AS was, i.old AS is_was FROM unnest($2::int8[]) AS p (b) \
               JOIN countersign.image i ON i.call = $1 AND i.seq = p.b OFFSET 0) AS q \
              WHERE {} AND {}",
            counts.join(", "),
            self.from,
            named(&self.name),
            self.same_key("(q.was)"),
            self.differs("(q.was)", "q.is_was"),
        );
        let row = client.query_one(&sql, &[&call, &before(&nets)]).await?;
        let mut others = Vec::new();
        for (at, column) in self.kept().enumerate() {
            let rows = u64::try_from(row.try_get::<_, i64>(at)?).unwrap_or(0);
            if rows > 0 {
                let (table, column, generated) = (self.name.clone(), column.name.clone(), column.generated);
                others.push(Other { table, column, generated, rows });
            }
        }
        Ok(others)
    }

    /// For each unique index whose values change, a column of it and a value that no row has. The primary key is
    /// left alone: others refer to it.
    async fn aside(&self, client: &Client, differing: &[String]) -> Result<Vec<(String, String)>, Trouble> {
        let sql = "SELECT i.indexrelid::int8, a.attname::text, y.typname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), \
                          NOT a.attnotnull AND NOT coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) \
                     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
                     JOIN pg_catalog.pg_type y ON y.oid = a.atttypid \
                    WHERE i.indrelid = $1::text::regclass AND i.indisunique AND i.indimmediate AND NOT i.indisprimary \
                      AND a.attname = ANY ($2::text[]) AND NOT a.attname = ANY ($3::text[]) ORDER BY 1, 5 DESC, 2";
        let mut values: BTreeMap<i64, (String, String)> = BTreeMap::new();
        let key: Vec<&str> = self.key.iter().map(|column| column.name.as_str()).collect();
        for row in client.query(sql, &[&named(&self.name), &differing, &key]).await? {
            let (index, column): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            let of_type: String = row.try_get(3)?;
            let value = match row.try_get::<_, &str>(2)? {
                _ if row.try_get(4)? => "NULL".to_owned(),
                "int2" | "int4" | "int8" | "numeric" => format!(
                    "((SELECT coalesce(max(m.{}), 0) FROM {} AS m) + q.n)::{of_type}",
                    quoted(&column),
                    self.from
                ),
                "text" | "varchar" => "'countersign ' || pg_catalog.gen_random_uuid()".to_owned(),
                "uuid" => "pg_catalog.gen_random_uuid()".to_owned(),
                _ => continue,
            };
            values.entry(index).or_insert((column, value));
        }
        // Two indexes may share a column.
        Ok(values.into_values().collect::<BTreeMap<_, _>>().into_iter().collect())
    }

    /// The images of rows whose number the database alone gives and an update cannot: they are taken out and put in
    /// again.
    async fn renumbered(&self, client: &Client, call: &str) -> Result<BTreeSet<i64>, Trouble> {
        let differs: Vec<String> = self
            .columns
            .iter()
            .filter(|column| column.always)
            .map(|column| format!("(q.b).{c} <> (q.a).{c}", c = quoted(&column.name)))
            .collect();
        if differs.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.pairs_of_which(client, call, &differs.join(" OR ")).await
    }

    /// The images of rows that are still there and of which this is true; `q.b` is what they were, `q.a` what they are.
    async fn pairs_of_which(
        &self,
        client: &Client,
        call: &str,
        condition: &str,
    ) -> Result<BTreeSet<i64>, Trouble> {
        let pairs: Vec<&Net> =
            self.nets.iter().filter(|net| net.before.is_some() && net.after.is_some()).collect();
        let row = named(&self.name);
        let sql = format!(
            "SELECT q.seq FROM (SELECT p.b AS seq, b.old::{row} AS b, a.new::{row} AS a \
                                  FROM unnest($2::int8[], $3::int8[]) AS p (b, a) \
                                  JOIN countersign.image b ON b.call = $1 AND b.seq = p.b \
                                  JOIN countersign.image a ON a.call = $1 AND a.seq = p.a OFFSET 0) AS q WHERE {condition}",
        );
        let found = client.query(&sql, &[&call, &before(&pairs), &after(&pairs)]).await?;
        Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// The columns in which old and new rows differ: no others are set, so that no right on them is needed.
    async fn differing(&self, client: &Client, call: &str, nets: &[&Net]) -> Result<Vec<String>, Trouble> {
        let row = named(&self.name);
        let columns: Vec<&Column> = self.columns.iter().filter(|column| !column.generated).collect();
        let differs: Vec<String> = columns
            .iter()
            .map(|column| {
                let name = quoted(&column.name);
                format!("coalesce(bool_or((q.b).{name}::text IS DISTINCT FROM (q.a).{name}::text), false)")
            })
            .collect();
        let sql = format!(
            "SELECT {} FROM (SELECT b.old::{row} AS b, a.new::{row} AS a \
                               FROM unnest($2::int8[], $3::int8[]) AS p (b, a) \
                               JOIN countersign.image b ON b.call = $1 AND b.seq = p.b \
                               JOIN countersign.image a ON a.call = $1 AND a.seq = p.a OFFSET 0) AS q",
            differs.join(", ")
        );
        let found = client.query_one(&sql, &[&call, &before(nets), &after(nets)]).await?;
        let mut differing = Vec::new();
        for (at, column) in columns.into_iter().enumerate() {
            if found.try_get(at)? {
                differing.push(column.name.clone());
            }
        }
        Ok(differing)
    }
}

/// What rows were, or what they are.
type Side = fn(&Net) -> Option<&(i64, State)>;

/// The states of one side, whatever their order.
fn digests(nets: &[Net], side: Side) -> Vec<&[u8]> {
    let mut all: Vec<&[u8]> =
        nets.iter().filter_map(side).map(|(_, state)| state.digest.as_slice()).collect();
    all.sort_unstable();
    all
}

/// The keys of one side, whatever their order.
fn keys(nets: &[Net], side: Side) -> Vec<&str> {
    let mut all: Vec<&str> = nets.iter().filter_map(side).map(|(_, state)| state.key.as_str()).collect();
    all.sort_unstable();
    all
}

/// Which rows an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum While {
    /// Those that are what the call left.
    AsLeft,
    /// Those that this very transaction has set aside, and so nobody else can change.
    Ours,
    /// Those that are not yet what they were.
    Other,
}

fn before(nets: &[&Net]) -> Vec<i64> {
    nets.iter().filter_map(|net| net.before.as_ref()).map(|(seq, _)| *seq).collect()
}

fn after(nets: &[&Net]) -> Vec<i64> {
    nets.iter().filter_map(|net| net.after.as_ref()).map(|(seq, _)| *seq).collect()
}

/// One statement that changes several tables, part by part.
struct Statement {
    call: String,
    parts: Vec<String>,
    lists: Vec<Vec<i64>>,
}

impl Statement {
    const fn new(call: String) -> Self {
        Self { call, parts: Vec::new(), lists: Vec::new() }
    }

    /// The placeholder of a list of numbers of images; `$1` is the call.
    fn list(&mut self, list: Vec<i64>) -> String {
        self.lists.push(list);
        format!("${}::int8[]", self.lists.len().saturating_add(1))
    }

    /// That the row is still what the call left.
    fn untouched(table: &Table) -> String {
        format!("{} AND {}", table.same_key("(q.now)"), table.is("(q.now)", "q.is_now"))
    }

    fn delete(&mut self, table: &Table, nets: &[&Net]) {
        let (from, row, list) = (table.from.clone(), named(&table.name), self.list(after(nets)));
        self.parts.push(format!(
            "DELETE FROM {from} AS {ROW} USING (SELECT i.new AS is_now, i.new::{row} AS now FROM unnest({list}) AS p (a) \
               JOIN countersign.image i ON i.call = $1 AND i.seq = p.a OFFSET 0) AS q \
              WHERE {} RETURNING 1",
            Self::untouched(table)
        ));
    }

    /// Sets columns of rows that are what the call left to values that no row has.
    fn set_aside(&mut self, table: &Table, nets: &[&Net], values: &[(String, String)]) {
        let set: Vec<String> =
            values.iter().map(|(column, value)| format!("{} = {value}", quoted(column))).collect();
        let (from, row, list) = (table.from.clone(), named(&table.name), self.list(after(nets)));
        self.parts.push(format!(
            "UPDATE {from} AS {ROW} SET {} FROM (SELECT p.n, i.new AS is_now, i.new::{row} AS now \
               FROM unnest({list}) WITH ORDINALITY AS p (a, n) \
               JOIN countersign.image i ON i.call = $1 AND i.seq = p.a OFFSET 0) AS q WHERE {} RETURNING 1",
            set.join(", "),
            Self::untouched(table)
        ));
    }

    fn update(&mut self, table: &Table, nets: &[&Net], columns: &[String], only: While) {
        let set: Vec<String> =
            columns.iter().map(|column| format!("{c} = (q.was).{c}", c = quoted(column))).collect();
        let (from, row) = (table.from.clone(), named(&table.name));
        let old = self.list(before(nets));
        let source = if only != While::Other {
            let new = self.list(after(nets));
            format!(
                "SELECT b.old::{row} AS was, a.new AS is_now, a.new::{row} AS now FROM unnest({old}, {new}) AS p (b, a) \
                   JOIN countersign.image b ON b.call = $1 AND b.seq = p.b \
                   JOIN countersign.image a ON a.call = $1 AND a.seq = p.a OFFSET 0"
            )
        } else {
            format!(
                "SELECT b.old AS is_was, b.old::{row} AS was FROM unnest({old}) AS p (b) \
                   JOIN countersign.image b ON b.call = $1 AND b.seq = p.b OFFSET 0"
            )
        };
        let condition = match only {
            While::AsLeft => Self::untouched(table),
            While::Ours => table.same_key("(q.now)"),
            While::Other => {
                format!("{} AND {}", table.same_key("(q.was)"), table.differs("(q.was)", "q.is_was"))
            }
        };
        self.parts.push(format!(
            "UPDATE {from} AS {ROW} SET {} FROM ({source}) AS q WHERE {condition} RETURNING 1",
            set.join(", ")
        ));
    }

    fn insert(&mut self, table: &Table, nets: &[&Net]) {
        let names: Vec<String> =
            table.columns.iter().filter(|c| !c.generated).map(|c| quoted(&c.name)).collect();
        let values: Vec<String> = names.iter().map(|name| format!("(q.was).{name}")).collect();
        let mut earlier = String::new();
        for at in 0..self.parts.len() {
            // Writing to a text cannot fail.
            let _written = write!(earlier, " AND (SELECT count(*) FROM c{at}) >= 0");
        }
        let (row, list) = (named(&table.name), self.list(before(nets)));
        self.parts.push(format!(
            "INSERT INTO {row} ({}) OVERRIDING SYSTEM VALUE SELECT {} \
               FROM (SELECT i.old::{row} AS was FROM unnest({list}) AS p (b) \
                       JOIN countersign.image i ON i.call = $1 AND i.seq = p.b OFFSET 0) AS q \
              WHERE true{earlier} RETURNING 1",
            names.join(", "),
            values.join(", ")
        ));
    }

    /// The parts run in the order in which the last query asks for their counts.
    fn text(&self) -> String {
        let parts: Vec<String> =
            self.parts.iter().enumerate().map(|(at, part)| format!("c{at} AS ({part})")).collect();
        let counts: Vec<String> =
            (0..self.parts.len()).map(|at| format!("(SELECT count(*) FROM c{at})")).collect();
        format!("WITH {} SELECT {}", parts.join(", "), counts.join(", "))
    }

    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&self.call];
        for list in &self.lists {
            values.push(list);
        }
        values
    }
}

/// The call that undid a call, other than the one that is at it now.
async fn undone_by(client: &Client, call: &CallId, now: Option<&CallId>) -> Result<Option<String>, Trouble> {
    let sql = "SELECT id FROM countersign.call WHERE undoes = $1 AND state = 'committed' AND id IS DISTINCT FROM $2 \
                ORDER BY at DESC LIMIT 1";
    let row = client.query_opt(sql, &[&call.as_str(), &now.map(CallId::as_str)]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
