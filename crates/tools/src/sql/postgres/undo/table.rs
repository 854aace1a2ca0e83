//! A table of which a call changed rows: what is kept of it beside what is there now.

use std::collections::{BTreeMap, BTreeSet};

use countersign_rules::CallId;
use countersign_sql::TableRef;
use tokio_postgres::Client;

use super::departure::OtherColumn;
use crate::sql::{
    cascade::{named, quoted},
    mask::Mask,
    postgres::{
        fault::PostgresFault,
        net::{Image, Net, Places, apart, joined, net},
    },
};

/// The row of a table in our statements; no column can be called so by accident.
pub(super) const ROW: &str = "\"countersign row\"";
pub(super) struct Table {
    pub(super) name: TableRef,
    /// What is read of it: without the rows of its children, unless they are partitions.
    pub(super) from: String,
    key: Vec<KeyColumn>,
    pub(super) columns: Vec<Column>,
    /// Rows that go back.
    pub(super) nets: Vec<Net>,
    /// Rows that changed since.
    pub(super) changed: Vec<Net>,
}

/// Says that what was kept stands in this table or in one of its partitions; its name is `$2`.
const OF_TABLE: &str = "i.relation = ANY (ARRAY(SELECT relid FROM pg_catalog.pg_partition_tree($2::text::regclass) \
                                                UNION ALL SELECT $2::text::regclass)::oid[])";

/// Rows that were kept of a call, as they stand in some of its images.
#[derive(Clone, Copy)]
pub(super) struct States<'s> {
    pub(super) call: &'s CallId,
    pub(super) nets: &'s [Net],
    /// What they were, or what they are.
    pub(super) side: Side,
}

/// What rows were, or what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

impl States<'_> {
    fn seqs(&self) -> Vec<i64> {
        let nets = self.nets.iter();
        match self.side {
            Side::Before => nets.filter_map(Net::before).copied().collect(),
            Side::After => nets.filter_map(Net::after).copied().collect(),
        }
    }

    const fn column(&self) -> &'static str {
        match self.side {
            Side::Before => "old",
            Side::After => "new",
        }
    }
}

/// A column of the primary key.
struct KeyColumn {
    name: String,
    /// The operator by which its index takes two values for the same, whatever the search path is.
    equals: String,
}

pub(super) struct Column {
    pub(super) name: String,
    pub(super) generated: bool,
    /// Generated, and computed when it is read: no row that is kept has it.
    pub(super) virtual_only: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: no update changes it.
    pub(super) always: bool,
}

/// The changes that were kept of a call, from one of its images on.
#[derive(Clone, Copy)]
pub(in crate::sql::postgres) struct KeptChanges<'k> {
    pub(in crate::sql::postgres) call: &'k CallId,
    /// The number of the last entry of the journal that is not among them.
    pub(in crate::sql::postgres) after: i64,
}

impl Table {
    pub(super) async fn read(client: &Client, name: TableRef) -> Result<Self, PostgresFault> {
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
            return Err(PostgresFault::Other(format!("table `{}` has no primary key any more", table.name)));
        }
        Ok(table)
    }

    /// The columns that kept rows have.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Column> {
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

    /// Says that the row of the table is one that was kept, of which this is the text.
    pub(super) fn is(&self, row: &str, text: &str) -> String {
        let (there, kept) = (self.content(ROW), self.content(row));
        format!("({} OR {there} OPERATOR(pg_catalog.*=) {kept})", self.reads("=", row, text))
    }

    /// Says that the row of the table reads otherwise than one that was kept, of which this is the text.
    pub(super) fn differs(&self, row: &str, text: &str) -> String {
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

    /// Says that the row of the table has the key of another.
    pub(super) fn same_key(&self, row: &str) -> String {
        self.stays(ROW, row)
    }

    /// Says that two rows have the same key.
    fn stays(&self, one: &str, other: &str) -> String {
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|KeyColumn { name, equals }| {
                format!("{one}.{column} {equals} {other}.{column}", column = quoted(name))
            })
            .collect();
        parts.join(" AND ")
    }

    /// Brings what was kept of this table down to its net effect.
    pub(super) async fn net(
        &self,
        client: &Client,
        kept: KeptChanges<'_>,
    ) -> Result<Vec<Net>, PostgresFault> {
        let (call, name) = (kept.call.as_str(), named(&self.name));
        let sql = format!(
            "SELECT coalesce(bool_or(i.old IS NOT NULL), false), coalesce(bool_or(i.new IS NOT NULL), false) \
               FROM countersign.image i WHERE i.call = $1 AND i.seq > $3 AND {OF_TABLE}"
        );
        let sides = client.query_one(&sql, &[&call, &name, &kept.after]).await?;
        let (old, new): (bool, bool) = (sides.try_get(0)?, sides.try_get(1)?);
        if old && new {
            return self.followed(client, kept).await;
        }
        // Rows that only go, or only come, do so once each.
        let of: fn(i64) -> Net = if old { Net::Deleted } else { Net::Inserted };
        let sql =
            format!("SELECT i.seq FROM countersign.kept i WHERE i.call = $1 AND i.entry > $3 AND {OF_TABLE}");
        let found = client.query(&sql, &[&call, &name, &kept.after]).await?;
        Ok(found.iter().map(|row| row.try_get(0).map(of)).collect::<Result<_, _>>()?)
    }

    /// Follows rows through their changes.
    async fn followed(&self, client: &Client, kept: KeptChanges<'_>) -> Result<Vec<Net>, PostgresFault> {
        let call = kept.call.as_str();
        let sql = format!(
            "SELECT i.seq, pg_catalog.sha256(pg_catalog.convert_to(i.old, 'UTF8')), \
                    pg_catalog.sha256(pg_catalog.convert_to(i.new, 'UTF8')) \
               FROM countersign.kept i WHERE i.call = $1 AND i.entry > $3 AND {OF_TABLE}"
        );
        let mut numbers: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut number = |digest: Option<Vec<u8>>| {
            let next = numbers.len();
            digest.map(|digest| *numbers.entry(digest).or_insert(next))
        };
        let mut images = Vec::new();
        for row in client.query(&sql, &[&call, &named(&self.name), &kept.after]).await? {
            let (old, new) = (number(row.try_get(1)?), number(row.try_get(2)?));
            images.push(Image { seq: row.try_get(0)?, old, new });
        }
        let nets = net(&images).ok_or_else(|| {
            PostgresFault::Other(format!("what was kept of table `{}` contradicts itself", self.name))
        })?;
        let (gone, came) = apart(&nets);
        if gone.is_empty() || came.is_empty() {
            return Ok(nets);
        }
        Ok(joined(nets, &self.places(client, call, &gone, &came).await?))
    }

    /// Tells where old rows of some images stood, and new ones of others.
    async fn places(
        &self,
        client: &Client,
        call: &str,
        old: &[i64],
        new: &[i64],
    ) -> Result<Places, PostgresFault> {
        // Which keys are the same the database says: `1.0` and `1.00` are, and so may be `a` and `A`.
        let sql = format!(
            "SELECT q.seq, q.is_new, dense_rank() OVER (ORDER BY {key}) \
               FROM (SELECT i.seq, false AS is_new, i.old::{row} AS r FROM unnest($2::int8[]) AS p (s) \
                       JOIN countersign.kept i ON i.call = $1 AND i.seq = p.s \
                      UNION ALL SELECT i.seq, true, i.new::{row} FROM unnest($3::int8[]) AS p (s) \
                       JOIN countersign.kept i ON i.call = $1 AND i.seq = p.s OFFSET 0) AS q",
            key = self.key_of("(q.r)").join(", "),
            row = named(&self.name),
        );
        let mut places = Places::default();
        for row in client.query(&sql, &[&call, &old, &new]).await? {
            let side = if row.try_get(1)? { &mut places.new } else { &mut places.old };
            side.insert(row.try_get(0)?, row.try_get(2)?);
        }
        Ok(places)
    }

    /// Tells the rows that still are what the call left from those that changed since.
    pub(super) async fn sort(&mut self, client: &Client, call: &str) -> Result<(), PostgresFault> {
        let nets = std::mem::take(&mut self.nets);
        let mut odd = self.odd(client, call, &nets).await?;
        let mut open = Vec::with_capacity(nets.len());
        for (at, net) in (1..).zip(nets) {
            match odd.remove(&at) {
                Some(false) => self.changed.push(net),
                found => open.push((net, found.is_some())),
            }
        }
        if open.iter().any(|(_, taken)| *taken) {
            open = self.fitting(client, call, open).await?;
        }
        self.nets = open.into_iter().map(|(net, _)| net).collect();
        Ok(())
    }

    /// The rows that are not what the call left, or that are although another row has the place they had before it; by their
    /// position in the list, and whether they are what the call left.
    async fn odd(
        &self,
        client: &Client,
        call: &str,
        nets: &[Net],
    ) -> Result<BTreeMap<i64, bool>, PostgresFault> {
        if nets.is_empty() {
            return Ok(BTreeMap::new());
        }
        let before: Vec<Option<i64>> = nets.iter().map(|net| net.before().copied()).collect();
        let after: Vec<Option<i64>> = nets.iter().map(|net| net.after().copied()).collect();
        let (any_before, any_after) = (before.iter().any(Option::is_some), after.iter().any(Option::is_some));
        let (row, from) = (named(&self.name), &self.from);
        let mut columns = String::new();
        let mut joins = String::new();
        let (mut as_left, mut taken) = ("true".to_owned(), "false".to_owned());
        if any_after {
            columns.push_str(&format!(", a.new AS is_now, a.new::{row} AS now"));
            joins.push_str(" LEFT JOIN countersign.kept a ON a.call = $1 AND a.seq = p.a");
            let (is_there, is) = (self.same_key("(q.now)"), self.is("(q.now)", "q.is_now"));
            as_left =
                format!("(q.a IS NULL OR EXISTS (SELECT FROM {from} AS {ROW} WHERE {is_there} AND {is}))");
        }
        if any_before {
            columns.push_str(&format!(", b.old::{row} AS was"));
            joins.push_str(" LEFT JOIN countersign.kept b ON b.call = $1 AND b.seq = p.b");
            let is_there = self.same_key("(q.was)");
            taken = format!("(q.b IS NOT NULL AND EXISTS (SELECT FROM {from} AS {ROW} WHERE {is_there}))");
            if any_after {
                // In its own place a row is in nobody's way.
                taken = format!("((q.a IS NULL OR NOT ({})) AND {taken})", self.stays("(q.was)", "(q.now)"));
            }
        }
        let sql = format!(
            "SELECT o.n, o.as_left FROM (SELECT q.n, {as_left} AS as_left, {taken} AS taken \
               FROM (SELECT p.n, p.b, p.a{columns} FROM unnest($2::int8[], $3::int8[]) WITH ORDINALITY AS p (b, a, n){joins} \
                     OFFSET 0) AS q OFFSET 0) AS o WHERE NOT o.as_left OR o.taken"
        );
        let mut odd = BTreeMap::new();
        for row in client.query(&sql, &[&call, &before, &after]).await? {
            odd.insert(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(odd)
    }

    /// Leaves rows that find their place taken among those that changed since. Where an old row has to go, there must be no
    /// other than one that leaves; and a row that finds its place taken does not leave its own.
    async fn fitting(
        &mut self,
        client: &Client,
        call: &str,
        mut open: Vec<(Net, bool)>,
    ) -> Result<Vec<(Net, bool)>, PostgresFault> {
        let side = |of: fn(&Net) -> Option<&i64>| -> Vec<i64> {
            open.iter().filter_map(|(net, _)| of(net)).copied().collect()
        };
        let places = self.places(client, call, &side(Net::before), &side(Net::after)).await?;
        loop {
            let leaving: BTreeSet<i64> = open.iter().filter_map(|(net, _)| places.after(net)).collect();
            let (free, stuck): (Vec<_>, Vec<_>) = open.into_iter().partition(|(net, taken)| {
                !taken || places.before(net).is_none_or(|place| leaving.contains(&place))
            });
            open = free;
            if stuck.is_empty() {
                return Ok(open);
            }
            self.changed.extend(stuck.into_iter().map(|(net, _)| net));
        }
    }

    /// The key of a row that changed since, as people may see it.
    pub(super) async fn shown_key(
        &self,
        client: &Client,
        call: &str,
        net: &Net,
        mask: &Mask,
    ) -> Result<String, PostgresFault> {
        let (text, seq) = match net {
            Net::Deleted(seq) | Net::Updated { old: seq, .. } => ("old", seq),
            Net::Inserted(seq) => ("new", seq),
        };
        let hidden = self.key.iter().any(|column| mask.hides(&self.name.name, &column.name));
        let key = self.key_of("(q.r)");
        let parts = if hidden {
            key.iter().map(|part| format!("{part}::text")).collect()
        } else {
            vec![format!("ROW({})::text", key.join(", "))]
        };
        let sql = format!(
            "SELECT {} FROM (SELECT i.{text}::{} AS r FROM countersign.kept i WHERE i.call = $1 AND i.seq = $2 OFFSET 0) AS q",
            parts.join(", "),
            named(&self.name)
        );
        let row = client.query_one(&sql, &[&call, seq]).await?;
        if !hidden {
            return Ok(mask.cleaned(row.try_get(0)?));
        }
        let mut shown_parts = Vec::new();
        for (at, column) in self.key.iter().enumerate() {
            let value = serde_json::Value::from(row.try_get::<_, Option<String>>(at)?);
            shown_parts.push(mask.shown(&self.name.name, &column.name, value).unwrap_or_default());
        }
        Ok(format!("({})", shown_parts.join(",")))
    }

    /// The columns of rows that go away or back whose numbers a counter of the database gave, as far as the call may have
    /// moved it.
    pub(super) async fn counters(
        &self,
        client: &Client,
        call: &str,
    ) -> Result<BTreeSet<String>, PostgresFault> {
        let given: Vec<&Net> = self.nets.iter().filter(|net| net.after().is_some()).collect();
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
        if !counters.is_empty() && given.iter().all(|net| net.before().is_some()) {
            let differing: BTreeSet<String> =
                self.differing(client, call, &given).await?.into_iter().collect();
            counters.retain(|column| differing.contains(column));
        }
        Ok(counters)
    }

    /// Tells whether the same rows stand in two places of the journal, in all of their columns or by their keys. None of either
    /// stands there twice: all were in a table with a key at once.
    pub(super) async fn same(
        &self,
        client: &Client,
        these: States<'_>,
        those: States<'_>,
        by_key: bool,
    ) -> Result<bool, PostgresFault> {
        let (one, other) = (these.seqs(), those.seqs());
        if one.len() != other.len() || one.is_empty() {
            return Ok(one.len() == other.len());
        }
        let listed = |states: States<'_>, call: u8, list: u8| {
            let text = if by_key {
                format!("ROW({})::text", self.key_of("(q.r)").join(", "))
            } else {
                "q.text".to_owned()
            };
            let row = if by_key {
                format!(", i.{}::{} AS r", states.column(), named(&self.name))
            } else {
                String::new()
            };
            format!(
                "(SELECT {text} AS text FROM (SELECT i.{} AS text{row} FROM unnest(${list}::int8[]) AS p (s) \
                    JOIN countersign.kept i ON i.call = ${call} AND i.seq = p.s OFFSET 0) AS q)",
                states.column()
            )
        };
        let sql = format!(
            "SELECT NOT EXISTS (SELECT FROM {} AS x FULL JOIN {} AS y ON x.text = y.text WHERE x.text IS NULL OR y.text IS NULL)",
            listed(these, 1, 2),
            listed(those, 3, 4)
        );
        let row = client.query_one(&sql, &[&these.call.as_str(), &one, &those.call.as_str(), &other]).await?;
        Ok(row.try_get(0)?)
    }

    /// The columns that are not what they were in rows that are back.
    pub(super) async fn other_columns(
        &self,
        client: &Client,
        call: &str,
    ) -> Result<Vec<OtherColumn>, PostgresFault> {
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
               JOIN countersign.kept i ON i.call = $1 AND i.seq = p.b OFFSET 0) AS q \
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
                others.push(OtherColumn { table, column, generated, rows });
            }
        }
        Ok(others)
    }

    /// For each unique index whose values change, a column of it and a value that no row has. The primary key is
    /// left alone: others refer to it.
    pub(super) async fn aside(
        &self,
        client: &Client,
        differing: &[String],
    ) -> Result<Vec<(String, String)>, PostgresFault> {
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
    pub(super) async fn renumbered(
        &self,
        client: &Client,
        call: &str,
    ) -> Result<BTreeSet<i64>, PostgresFault> {
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
    pub(super) async fn pairs_of_which(
        &self,
        client: &Client,
        call: &str,
        condition: &str,
    ) -> Result<BTreeSet<i64>, PostgresFault> {
        let pairs: Vec<&Net> = self.nets.iter().filter(|net| matches!(net, Net::Updated { .. })).collect();
        let row = named(&self.name);
        let sql = format!(
            "SELECT q.seq FROM (SELECT p.b AS seq, b.old::{row} AS b, a.new::{row} AS a \
                                  FROM unnest($2::int8[], $3::int8[]) AS p (b, a) \
                                  JOIN countersign.kept b ON b.call = $1 AND b.seq = p.b \
                                  JOIN countersign.kept a ON a.call = $1 AND a.seq = p.a OFFSET 0) AS q WHERE {condition}",
        );
        let found = client.query(&sql, &[&call, &before(&pairs), &after(&pairs)]).await?;
        Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// The columns in which old and new rows differ: no others are set, so that no right on them is needed.
    pub(super) async fn differing(
        &self,
        client: &Client,
        call: &str,
        nets: &[&Net],
    ) -> Result<Vec<String>, PostgresFault> {
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
                               JOIN countersign.kept b ON b.call = $1 AND b.seq = p.b \
                               JOIN countersign.kept a ON a.call = $1 AND a.seq = p.a OFFSET 0) AS q",
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

pub(super) fn before(nets: &[&Net]) -> Vec<i64> {
    nets.iter().filter_map(|net| net.before()).copied().collect()
}

pub(super) fn after(nets: &[&Net]) -> Vec<i64> {
    nets.iter().filter_map(|net| net.after()).copied().collect()
}
