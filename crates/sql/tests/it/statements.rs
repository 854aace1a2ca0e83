//! Statements at random, over the schema of the corpora: typed, so that nearly all of them run; some of them read, some
//! write, and some hide a write or a harmful call in what looks like a read. What each one does, a real database says.

use countersign_sql::Dialect;

use crate::chance::Chance;

/// Makes statements.
pub(crate) struct Maker {
    chance: Chance,
    dialect: Dialect,
    aliases: usize,
    /// Among so many atoms, one does more than compute.
    harm_one_in: usize,
    known: bool,
    /// Whether the present statement holds a call that changes something, if it comes to run.
    pub(crate) armed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Text,
    Bool,
}

const TABLES: [(&str, &[&str], &[&str]); 3] = [
    ("invoice", &["id", "customer_id"], &["currency"]),
    ("customer", &["id"], &["name", "email", "kind"]),
    ("billing", &["id", "invoice_id"], &["note"]),
];

/// Expressions that call something, and their types.
type Calls = &'static [(&'static str, Kind)];

const POSTGRES_INTS: [&str; 16] = [
    "abs(@i)",
    "length(@t)",
    "coalesce(@i, @i)",
    "greatest(@i, @i)",
    "(@i % 7 + 1)",
    "array_length(array[@i, @i], 1)",
    "cardinality(string_to_array(@t, ','))",
    "extract(year from timestamp '2026-01-02')::int",
    "case when @b then @i else @i end",
    "case @i when 1 then 2 else 3 end",
    "position('a' in @t)",
    "cast(@i as bigint)::int",
    "jsonb_array_length(jsonb_build_array(@i, @t))",
    "(select count(*) from generate_series(1, 3))::int",
    "row_number() over ()::int",
    "ascii(@t)",
];
const SQLITE_INTS: [&str; 12] = [
    "abs(@i)",
    "length(@t)",
    "coalesce(@i, @i)",
    "max(@i, @i)",
    "(@i % 7 + 1)",
    "json_array_length(json_array(@i, @t))",
    "cast(strftime('%Y', '2026-01-02') as integer)",
    "case when @b then @i else @i end",
    "instr(@t, 'a')",
    "cast(@i as integer)",
    "iif(@b, @i, @i)",
    "unicode(@t)",
];
const POSTGRES_TEXTS: [&str; 14] = [
    "upper(@t)",
    "@t || @t",
    "substring(@t from 1 for 2)",
    "replace(@t, 'a', 'b')",
    "coalesce(@t, 'none')",
    "md5(@t)",
    "to_char(timestamp '2026-01-02', 'YYYY')",
    "@i::text",
    "regexp_replace(@t, '[0-9]+', '')",
    "concat_ws('-', @t, @i)",
    "(jsonb_build_object('k', @t) ->> 'k')",
    "format('%s', @t)",
    "split_part(@t, '-', 1)",
    "trim(both 'x' from @t)",
];
const SQLITE_TEXTS: [&str; 9] = [
    "upper(@t)",
    "@t || @t",
    "substr(@t, 1, 2)",
    "replace(@t, 'a', 'b')",
    "coalesce(@t, 'none')",
    "hex(@t)",
    "strftime('%Y', '2026-01-02')",
    "cast(@i as text)",
    "json_extract(json_object('k', @t), '$.k')",
];
const BOOLS: [&str; 12] = [
    "@i = @i",
    "@i < @i",
    "@t like 'a%'",
    "@i between 1 and @i",
    "@t is not null",
    "not (@b)",
    "(@b and @b)",
    "(@b or @b)",
    "@i in (1, 2, @i)",
    "exists (@s)",
    "@i in (@q)",
    "@t <> @t",
];

/// Calls that do more than compute, of each type; the database tells what of it. In Unicode escapes, in quotes, as an
/// attribute, through an operator.
const POSTGRES_HARM: [(&str, Kind); 19] = [
    ("nextval('numbers')::int", Kind::Int),
    ("(setval('numbers', 5))::int", Kind::Int),
    ("('numbers'::regclass).nextval::int", Kind::Int),
    ("\"nextval\"('numbers')::int", Kind::Int),
    ("U&\"\\006eextval\"('numbers')::int", Kind::Int),
    ("pg_catalog.nextval($q$numbers$q$)::int", Kind::Int),
    ("volatile_write()", Kind::Int),
    ("(1 +|+ 1)", Kind::Int),
    ("(1 operator(other.+) 1)", Kind::Int),
    ("other.lower(@t)", Kind::Text),
    ("set_config('work_mem', '5MB', false)", Kind::Text),
    ("set_config('search_path', 'other', true)", Kind::Text),
    ("pg_try_advisory_xact_lock(7)", Kind::Bool),
    ("(7::bigint).pg_try_advisory_xact_lock", Kind::Bool),
    ("(select k.pg_try_advisory_xact_lock from cast(7 as bigint) k)", Kind::Bool),
    ("pg_current_xact_id()::text", Kind::Text),
    ("lo_create(0)::int", Kind::Int),
    ("(0::oid).lo_create::text", Kind::Text),
    ("lo_from_bytea(0, 'x')::int", Kind::Int),
];
/// The same where only a catalog tells: views, attributes, and what hides in `postgres-hidden.sql`: functions that promise to
/// change nothing, aggregates, domains, row types and casts.
const POSTGRES_HIDDEN_HARM: [(&str, Kind); 12] = [
    ("(select x from sneaky)", Kind::Int),
    ("(select max(id) from invoice where invoice_purge(invoice) > 0)", Kind::Int),
    ("(select max((i).invoice_purge) from invoice i)", Kind::Int),
    ("hidden_write()", Kind::Int),
    ("procedural()", Kind::Int),
    ("(select sneaky_sum(id) from customer)", Kind::Int),
    ("(5::guarded)::int", Kind::Int),
    ("(5::guarded)::text", Kind::Text),
    ("(('(5)'::holder).g)::int", Kind::Int),
    ("(5::status)::text", Kind::Text),
    ("(json_populate_record(null::holder, '{\"g\": 5}')).g::int", Kind::Int),
    ("(select h::text from cast('(7)' as holder) h)", Kind::Text),
];
/// What a catalog shows to change nothing.
const POSTGRES_SHOWN: [(&str, Kind); 12] = [
    ("returned(@i)", Kind::Int),
    ("atomic_read(@i)::int", Kind::Int),
    ("definer_read()::int", Kind::Int),
    ("(select count(*) from customers)::int", Kind::Int),
    ("(select max(customer_id) from invoice_totals)", Kind::Int),
    ("(select fair_sum(id) from customer)::int", Kind::Int),
    ("(select count(*) from parted)::int", Kind::Int),
    ("(7::positive)::int", Kind::Int),
    ("('(1,x)'::pair).a", Kind::Int),
    ("('active'::status)::text", Kind::Text),
    ("(select c.name from customers c limit 1)", Kind::Text),
    ("(select max(month)::text from monthly)", Kind::Text),
];
/// Functions of the user's own that a database holds to reading; nothing in a text tells.
const POSTGRES_OWN: [(&str, Kind); 2] = [("pure(@i)", Kind::Int), ("stable_read()::int", Kind::Int)];

impl Maker {
    /// `known`: also what only a catalog can tell, of a database with `postgres-hidden.sql`.
    pub(crate) fn new(dialect: Dialect, seed: u64, known: bool) -> Self {
        Self { chance: Chance::new(seed), dialect, aliases: 0, harm_one_in: 0, known, armed: false }
    }

    /// The next statement.
    pub(crate) fn statement(&mut self) -> String {
        self.aliases = 0;
        self.armed = false;
        self.harm_one_in = if self.chance.one_in(3) { 6 } else { 0 };
        match self.chance.below(40) {
            0..20 => self.query(3),
            20..23 => format!("explain {}", self.query(2)),
            23 => format!("explain {}", self.change()),
            24..31 => self.change(),
            31..36 => self.disguised(),
            36 => self.many(),
            _ => format!("with w as ({}) select count(*) from w", self.query(2)),
        }
    }

    /// A change, in what looks like a query.
    fn disguised(&mut self) -> String {
        if self.dialect == Dialect::Sqlite {
            let query = self.query(1);
            return match self.chance.below(4) {
                0 => format!("with w as ({query}) {}", self.change()),
                1 => format!("create table made as {query}"),
                2 => "pragma user_version = 7".to_owned(),
                _ => format!("replace into ids (id) select 1 where exists ({query})"),
            };
        }
        let change = self.change();
        let change = if change.contains("returning") { change } else { format!("{change} returning 1 as x") };
        match self.chance.below(12) {
            0 => format!("with w as ({change}) select count(*) from w"),
            1 => format!("with a as (select 1), w as ({change}) {}", self.query(1)),
            2 => format!("with w as ({change}) select 1 where false"),
            3 => format!("explain analyze {change}"),
            4 => format!("explain (verbose, analyze true, costs off) {change}"),
            5 => format!("explain (analyze false, analyze) {change}"),
            6 => format!("select * into made from ({}) s", self.simple()),
            7 => format!("{} for update", self.simple()),
            8 => format!("select * from ({} for share) s", self.simple()),
            9 => format!("explain analyze create table made as {}", self.simple()),
            10 => format!("declare c cursor for {}", self.query(1)),
            _ => format!("create temp table made on commit drop as {}", self.simple()),
        }
    }

    fn simple(&mut self) -> String {
        let (table, ints, _) = TABLES[self.chance.below(TABLES.len())];
        let column = self.chance.pick(ints);
        format!("select {column} from {table} where {column} > {}", self.chance.below(9))
    }

    /// Two set operations, an aggregate over a grouping, a recursion.
    fn many(&mut self) -> String {
        let inner = self.query(1);
        match self.chance.below(4) {
            0 => format!("select 1 union select 2 where exists ({inner}) union all values (3)"),
            1 => format!(
                "with recursive r (n) as (select 1 union all select n + 1 from r where n < 3) select n from r where exists ({inner})"
            ),
            2 => format!(
                "select customer_id, count(*) from invoice where exists ({inner}) group by customer_id having count(*) > 1"
            ),
            _ => format!("select * from (select 1 as one) a cross join ({inner}) b"),
        }
    }

    fn query(&mut self, depth: usize) -> String {
        let (table, ints, texts) = TABLES[self.chance.below(TABLES.len())];
        self.aliases += 1;
        let alias = format!("t{}", self.aliases);
        let scope = Scope { alias: alias.clone(), ints, texts };
        let mut columns = Vec::new();
        for number in 0..=self.chance.below(3) {
            let kind = [Kind::Int, Kind::Text, Kind::Int][self.chance.below(3)];
            columns.push(format!("{} as c{number}", self.expression(kind, depth, &scope)));
        }
        let mut text = format!("select {} from {table} {alias}", columns.join(", "));
        if self.chance.one_in(4) {
            self.aliases += 1;
            let other = format!("j{}", self.aliases);
            text += &format!(" join customer {other} on {other}.id = {alias}.id");
        }
        if !self.chance.one_in(3) {
            text += &format!(" where {}", self.expression(Kind::Bool, depth, &scope));
        }
        if self.chance.one_in(3) {
            text +=
                &format!(" order by abs({})", self.expression(Kind::Int, depth.saturating_sub(1), &scope));
        }
        if self.chance.one_in(4) {
            text += &format!(" limit {}", self.chance.below(5));
        }
        text
    }

    fn change(&mut self) -> String {
        let scope =
            |alias: &str| Scope { alias: alias.to_owned(), ints: &["id", "invoice_id"], texts: &["note"] };
        let note = {
            let literals = Scope { alias: String::new(), ints: &[], texts: &[] };
            self.expression(Kind::Text, 1, &literals)
        };
        let bounded = self.expression(Kind::Bool, 1, &scope("billing"));
        match self.chance.below(7) {
            0 => format!("insert into audit_log (entry) values ({note})"),
            1 => format!("insert into audit_log (entry) select c0 from (select {note} as c0) s"),
            2 => format!("update billing set note = {note} where {bounded}"),
            3 => format!("delete from billing where {bounded}"),
            4 => format!(
                "insert into customer (id, name) values (1, 'x') on conflict (id) do update set name = {note}"
            ),
            5 => "insert into audit_log default values returning 1 as x".to_owned(),
            _ if self.dialect == Dialect::Sqlite => {
                format!("update or replace billing set note = {note} where {bounded}")
            }
            _ => format!("delete from billing using invoice i where i.id = billing.invoice_id and {bounded}"),
        }
    }

    fn expression(&mut self, kind: Kind, depth: usize, scope: &Scope) -> String {
        if self.harm_one_in > 0
            && self.chance.one_in(self.harm_one_in)
            && let Some(harm) = self.harm(kind)
        {
            return self.filled(harm, depth.saturating_sub(1), scope);
        }
        if depth == 0 {
            return self.atom(kind, scope);
        }
        let own: &[&str] = match (kind, self.dialect) {
            (Kind::Int, Dialect::Postgres) => &POSTGRES_INTS,
            (Kind::Int, Dialect::Sqlite) => &SQLITE_INTS,
            (Kind::Text, Dialect::Postgres) => &POSTGRES_TEXTS,
            (Kind::Text, Dialect::Sqlite) => &SQLITE_TEXTS,
            (Kind::Bool, _) => &BOOLS,
        };
        let template = self.chance.pick(own);
        // A window function may stand in a column, and nowhere else.
        let template = if template.contains("over ()") { "abs(@i)" } else { template };
        self.filled(template, depth - 1, scope)
    }

    fn harm(&mut self, kind: Kind) -> Option<&'static str> {
        if self.dialect == Dialect::Sqlite {
            return None;
        }
        // Some are of the user's own and only read.
        let own = self.chance.one_in(if self.known { 3 } else { 9 });
        let (seen, hidden): (Calls, Calls) =
            if own { (&POSTGRES_OWN, &POSTGRES_SHOWN) } else { (&POSTGRES_HARM, &POSTGRES_HIDDEN_HARM) };
        let hidden = if self.known { hidden } else { Calls::default() };
        let fits = |(_, of): &&(&'static str, Kind)| *of == kind;
        let fitting: Vec<&str> = seen.iter().chain(hidden).filter(fits).map(|(text, _)| *text).collect();
        if fitting.is_empty() {
            return None;
        }
        self.armed |= !own;
        Some(fitting[self.chance.below(fitting.len())])
    }

    fn filled(&mut self, template: &str, depth: usize, scope: &Scope) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('@') {
            text += before;
            let Some((hole, then)) = after.split_at_checked(1) else { break };
            rest = then;
            text += &match hole {
                "i" => self.expression(Kind::Int, depth, scope),
                "t" => self.expression(Kind::Text, depth, scope),
                "b" => format!("({})", self.expression(Kind::Bool, depth, scope)),
                "s" => self.query(depth),
                _ => self.simple(),
            };
        }
        text + rest
    }

    fn atom(&mut self, kind: Kind, scope: &Scope) -> String {
        let column = |chance: &mut Chance, of: &[&str]| {
            let name = chance.pick(of).to_owned();
            if scope.alias.is_empty() { name } else { format!("{}.{name}", scope.alias) }
        };
        match kind {
            Kind::Int if !scope.ints.is_empty() && !self.chance.one_in(3) => {
                column(&mut self.chance, scope.ints)
            }
            Kind::Int => self.chance.below(20).to_string(),
            Kind::Text if !scope.texts.is_empty() && !self.chance.one_in(3) => {
                column(&mut self.chance, scope.texts)
            }
            Kind::Text if self.dialect == Dialect::Postgres => {
                self.chance.pick(&["'a'", "$$b;c$$", "E'd\\n'", "U&'\\0065'", "'f''g'", "'-- h'"]).to_owned()
            }
            Kind::Text => self.chance.pick(&["'a'", "'b;c'", "'f''g'", "'-- h'"]).to_owned(),
            Kind::Bool => format!("{} < {}", self.chance.below(9), self.chance.below(9)),
        }
    }
}

/// What an expression may name.
struct Scope {
    alias: String,
    ints: &'static [&'static str],
    texts: &'static [&'static str],
}
