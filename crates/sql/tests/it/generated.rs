//! Statements made from templates: thousands of reads, and every way to hide a call in one.

/// Reads, all of which the corpus' schema can run.
pub(crate) fn reads() -> Vec<String> {
    let columns = [
        "*",
        "i.id, i.total",
        "count(*)",
        "i.customer_id, sum(i.total) over (partition by i.currency)",
        "coalesce(i.total, 0) + 1 as n, upper(i.currency)",
        "case when i.paid then 'paid' else i.currency || '!' end",
        "jsonb_build_object('id', i.id), i.data ->> 'a'",
        "i.issued::date, extract(month from i.issued), i.issued at time zone 'utc'",
        "(select max(b.amount) from billing b where b.invoice_id = i.id)",
    ];
    let sources = [
        "invoice i",
        "public.invoice as i",
        "invoice i join customer c on c.id = i.customer_id",
        "invoice i left join billing b on b.invoice_id = i.id",
        "(select * from invoice where total > 5) i",
        "(values (1, 2, 3.0, 'EUR', now(), true, '{}'::jsonb)) as i (id, customer_id, total, currency, issued, paid, data)",
    ];
    let predicates = [
        "",
        "where i.id = 1",
        "where i.total between 1 and 10 and i.currency in ('EUR', 'USD')",
        "where i.issued > now() - interval '1 month'",
        "where exists (select 1 from billing b where b.invoice_id = i.id)",
        "where i.id = any (array[1, 2, 3]) or i.currency like 'E%'",
        "where not i.paid and i.data @> '{\"a\": 1}'",
        "where i.customer_id in (select id from customer where name ~ '^c')",
    ];
    let wrappers: [(&str, &str); 6] = [
        ("", ""),
        ("with w as (", ") select count(*) from w"),
        ("select count(*) from (", ") s"),
        ("explain ", ""),
        ("explain (analyze, costs off) ", ""),
        ("(", ") union all (select null where false) limit 5"),
    ];
    let mut reads = Vec::new();
    for column in columns {
        for source in sources {
            for predicate in predicates {
                for (place, (before, after)) in wrappers.iter().enumerate() {
                    // A union needs to know its columns, and an outer query their names.
                    let one = column == "count(*)";
                    if (place == 5 && !one)
                        || (place == 2 && column == "*" && source.contains("join"))
                        || (place == 1 && column == "*" && source.contains("join"))
                    {
                        continue;
                    }
                    let null = if place == 5 { "(select 0::bigint where false)" } else { "" };
                    let after = after.replace("(select null where false)", null);
                    reads.push(format!("{before}select {column} from {source} {predicate}{after}"));
                }
            }
        }
    }
    reads
}

/// Every place in a statement where an expression may stand; `@` marks it.
pub(crate) const PLACES: [&str; 46] = [
    "select @",
    "select distinct @",
    "select distinct on (@) id from invoice",
    "select id from invoice where @ is null",
    "select id from invoice where id = 1 and (total > 5 or @ is not null)",
    "select id from invoice group by @",
    "select id from invoice group by id having @ is null",
    "select id from invoice order by @",
    "select id from invoice limit (select 1 where @ is null)",
    "select id from invoice offset (select 1 where @ is null)",
    "select * from invoice i join billing b on @ is null",
    "select * from invoice i, lateral (select @) x",
    "select * from (select @) x",
    "select * from (values (@)) x",
    "values (1), (@)",
    "with x as (select @) select 1",
    "with recursive x as (select 1 union all select 2 where @ is null) select 1",
    "select 1 union select 2 where @ is null",
    "select case when @ is null then 1 end",
    "select case 1 when 2 then 3 else (select 1 where @ is null) end",
    "select coalesce(null, @)",
    "select nullif(@, null)",
    "select greatest(@, null)",
    "select array[@]",
    "select (array[1, 2])[(select 1 where @ is null)]",
    "select row(@, 1)",
    "select row(@) is null",
    "select (@)::text",
    "select cast(@ as text)",
    "select @ in (select null)",
    "select 1 in (select 1 where @ is null)",
    "select exists (select @)",
    "select array(select @)",
    "select 1 = any (array(select 1 where @ is null))",
    "select not (@ is null)",
    "select @ between null and null",
    "select count(@)",
    "select count(*) filter (where @ is null) from invoice",
    "select sum(1) over (partition by @) from invoice",
    "select sum(1) over (order by @) from invoice",
    "select string_agg('x', ',' order by @) from invoice",
    "select percentile_cont(0.5) within group (order by (select 1 where @ is null))",
    "select grouping(id), @ from invoice group by rollup (id)",
    "select xmlelement(name a, @)",
    "explain (analyze) select @",
    "copy (select @) to stdout",
];
