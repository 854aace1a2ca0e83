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
        net::{Image, Net, RowState, net},
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
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|KeyColumn { name, equals }| {
                format!("{ROW}.{column} {equals} {row}.{column}", column = quoted(name))
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
        // Which keys are the same the database says: `1.0` and `1.00` are, and so may be `a` and `A`.
        let sql = format!(
            "SELECT q.seq, q.is_new, q.digest, ROW({key})::text, \
                    dense_rank() OVER (ORDER BY {key}), \
                    dense_rank() OVER (ORDER BY q.digest) \
               FROM (SELECT i.seq, s.is_new, pg_catalog.sha256(pg_catalog.convert_to(s.text, 'UTF8')) AS digest, \
                            s.text::{row} AS r \
                       FROM countersign.kept i CROSS JOIN LATERAL (VALUES (false, i.old), (true, i.new)) AS s (is_new, text) \
                      WHERE i.call = $1 AND i.entry > $3 AND s.text IS NOT NULL \
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
                RowState { number, digest: row.try_get(2)?, key: row.try_get(3)?, place: row.try_get(4)? };
            if images.last().is_none_or(|image| image.seq != seq) {
                images.push(Image { seq, old: None, new: None });
            }
            if let Some(image) = images.last_mut() {
                *(if row.try_get(1)? { &mut image.new } else { &mut image.old }) = Some(state);
            }
        }
        net(&images).ok_or_else(|| {
            PostgresFault::Other(format!("what was kept of table `{}` contradicts itself", self.name))
        })
    }

    /// Tells the rows that still are what the call left from those that changed since.
    pub(super) async fn sort(
        &mut self,
        client: &Client,
        call: &str,
        nets: Vec<Net>,
    ) -> Result<(), PostgresFault> {
        let before: Vec<Option<i64>> = nets.iter().map(|net| net.before().map(|(seq, _)| *seq)).collect();
        let after: Vec<Option<i64>> = nets.iter().map(|net| net.after().map(|(seq, _)| *seq)).collect();
        let row = named(&self.name);
        let (old, new) = (format!("(b.old::{row})"), format!("(a.new::{row})"));
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {from} AS {ROW} WHERE {is_new} AND {as_left}), \
                    EXISTS (SELECT FROM {from} AS {ROW} WHERE {is_old}) \
               FROM unnest($2::int8[], $3::int8[]) WITH ORDINALITY AS p (b, a, n) \
               LEFT JOIN countersign.kept b ON b.call = $1 AND b.seq = p.b \
               LEFT JOIN countersign.kept a ON a.call = $1 AND a.seq = p.a ORDER BY p.n",
            from = self.from,
            is_new = self.same_key(&new),
            as_left = self.is(&new, "a.new"),
            is_old = self.same_key(&old),
        );
        let found = client.query(&sql, &[&call, &before, &after]).await?;
        let mut open = Vec::with_capacity(nets.len());
        for (net, row) in nets.into_iter().zip(found) {
            let (as_left, taken): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
            if net.after().is_none() || as_left {
                open.push((net, taken));
            } else {
                self.changed.push(net);
            }
        }
        // Where an old row has to go, there must be no other than one that leaves; and a row that finds its place
        // taken does not leave its own.
        loop {
            let leaving: BTreeSet<i64> =
                open.iter().filter_map(|(net, _)| net.after()).map(|(_, state)| state.place).collect();
            let (free, stuck): (Vec<_>, Vec<_>) = open.into_iter().partition(|(net, taken)| {
                net.before().is_none_or(|(_, state)| !taken || leaving.contains(&state.place))
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
    pub(super) async fn shown_key(
        &self,
        client: &Client,
        call: &str,
        net: &Net,
        mask: &Mask,
    ) -> Result<String, PostgresFault> {
        let (text, (seq, state)) = match net {
            Net::Deleted(image) | Net::Updated { old: image, .. } => ("old", image),
            Net::Inserted(image) => ("new", image),
        };
        if !self.key.iter().any(|column| mask.hides(&self.name.name, &column.name)) {
            return Ok(mask.cleaned(&state.key));
        }
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|column| format!("(i.{text}::{}).{}::text", named(&self.name), quoted(&column.name)))
            .collect();
        let sql =
            format!("SELECT {} FROM countersign.kept i WHERE i.call = $1 AND i.seq = $2", parts.join(", "));
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
    nets.iter().filter_map(|net| net.before()).map(|(seq, _)| *seq).collect()
}

pub(super) fn after(nets: &[&Net]) -> Vec<i64> {
    nets.iter().filter_map(|net| net.after()).map(|(seq, _)| *seq).collect()
}
