//! Sizing for PostgreSQL: the tree of the statement, turned into a `SELECT` over the same rows.

use std::collections::BTreeSet;

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::{parse, refused, walk};
use crate::error::SqlError;
use crate::reach::{NotCountable, Query, ReachQuery, RowSource};
use crate::statement::Verb;

pub(crate) fn reach_query(sql: &str) -> Result<ReachQuery, NotCountable> {
    let statements = parse(sql)?;
    let [pb::RawStmt { stmt: Some(statement), .. }] = statements.as_slice() else {
        return Err(NotCountable::Kind);
    };
    let Some(statement) = &statement.node else { return Err(NotCountable::Kind) };
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds have rows that a query can count")]
    match statement {
        NodeEnum::DeleteStmt(delete) => {
            let pb::DeleteStmt { relation, using_clause, where_clause, returning_clause: _, with_clause } =
                delete.as_ref();
            rows_of(
                Verb::Delete,
                relation.as_ref(),
                with_clause.as_ref(),
                using_clause,
                where_clause.as_deref(),
            )
        }
        NodeEnum::UpdateStmt(update) => {
            let pb::UpdateStmt {
                relation,
                target_list,
                where_clause,
                from_clause,
                returning_clause: _,
                with_clause,
            } = update.as_ref();
            rows_of(
                Verb::Update,
                relation.as_ref(),
                with_clause.as_ref(),
                from_clause,
                where_clause.as_deref(),
            )
            .map(|query| ReachQuery { columns: Some(assigned(target_list)), ..query })
        }
        NodeEnum::TruncateStmt(truncate) => {
            let [pb::Node { node: Some(NodeEnum::RangeVar(range)) }] = truncate.relations.as_slice() else {
                return Err(NotCountable::Kind);
            };
            let query = rows_of(Verb::Truncate, Some(range), None, &[], None)?;
            Ok(ReachQuery { exact: truncate.behavior() != pb::DropBehavior::DropCascade, ..query })
        }
        NodeEnum::InsertStmt(insert) => inserted(insert),
        _ => Err(NotCountable::Kind),
    }
}

fn rows_of(
    verb: Verb,
    relation: Option<&pb::RangeVar>,
    with: Option<&pb::WithClause>,
    others: &[pb::Node],
    clause: Option<&pb::Node>,
) -> Result<ReachQuery, NotCountable> {
    let Some(relation) = relation else { return Err(NotCountable::Kind) };
    // A row that several rows of the other tables match is touched once. And what `WITH` names stands inside, where the
    // conditions are: outside, it would take the place of the table whose rows change, which no `WITH` does for the
    // statement itself.
    let clause = if others.is_empty() && with.is_none() {
        clause.cloned()
    } else {
        let inner = select(vec![one()], others.to_vec(), clause.cloned(), with.cloned());
        Some(node(NodeEnum::SubLink(Box::new(pb::SubLink {
            sub_link_type: pb::SubLinkType::ExistsSublink as i32,
            subselect: Some(Box::new(inner)),
            ..pb::SubLink::default()
        }))))
    };
    let shown = relation.alias.as_ref().map_or(&relation.relname, |alias| &alias.aliasname);
    let every_column = node(NodeEnum::ColumnRef(pb::ColumnRef {
        fields: vec![
            node(NodeEnum::String(pb::String { sval: shown.clone() })),
            node(NodeEnum::AStar(pb::AStar {})),
        ],
        location: 0,
    }));
    let from = vec![node(NodeEnum::RangeVar(relation.clone()))];
    let rows = select(vec![one()], from.clone(), clause.clone(), None);
    let sample = select(vec![target(every_column)], from, clause, None);
    Ok(ReachQuery {
        target: walk::relation(relation),
        verb,
        columns: Some(BTreeSet::new()),
        source: RowSource::Query { rows: written(rows)?, sample: written(sample)? },
        exact: true,
    })
}

fn inserted(insert: &pb::InsertStmt) -> Result<ReachQuery, NotCountable> {
    let Some(relation) = &insert.relation else { return Err(NotCountable::Kind) };
    let exact = insert.on_conflict_clause.is_none();
    let columns = insert.on_conflict_clause.as_ref().map(|clause| assigned(&clause.target_list));
    let columns = Some(columns.unwrap_or_default());
    let reach = |source| ReachQuery {
        target: walk::relation(relation),
        verb: Verb::Insert,
        columns: columns.clone(),
        source,
        exact,
    };
    let Some(pb::Node { node: Some(NodeEnum::SelectStmt(source)) }) = insert.select_stmt.as_deref() else {
        // `DEFAULT VALUES`
        return Ok(reach(RowSource::Known(1)));
    };
    let plain = source.limit_count.is_none()
        && source.limit_offset.is_none()
        && source.op() == pb::SetOperation::SetopNone;
    if !source.values_lists.is_empty() && plain {
        return Ok(reach(RowSource::Known(u64::try_from(source.values_lists.len()).unwrap_or(u64::MAX))));
    }
    let wrapped = |inner: pb::SelectStmt| {
        let every_column = node(NodeEnum::ColumnRef(pb::ColumnRef {
            fields: vec![node(NodeEnum::AStar(pb::AStar {}))],
            location: 0,
        }));
        let subquery = node(NodeEnum::RangeSubselect(Box::new(pb::RangeSubselect {
            lateral: false,
            subquery: Some(Box::new(node(NodeEnum::SelectStmt(Box::new(inner))))),
            alias: Some(pb::Alias { aliasname: "countersign_rows".to_owned(), colnames: Vec::new() }),
        })));
        written(select(vec![target(every_column)], vec![subquery], None, insert.with_clause.clone()))
    };
    let sample = wrapped(source.as_ref().clone())?;
    let rows = if plain && row_for_row(source) {
        wrapped(pb::SelectStmt { target_list: vec![one()], ..source.as_ref().clone() })?
    } else {
        sample.clone()
    };
    Ok(reach(RowSource::Query { rows, sample }))
}

/// The columns that a list of assignments sets.
fn assigned(targets: &[pb::Node]) -> BTreeSet<String> {
    let name = |target: &pb::Node| {
        let Some(NodeEnum::ResTarget(target)) = &target.node else { return None };
        Some(target.name.clone())
    };
    targets.iter().filter_map(name).collect()
}

/// Whether the columns have no say in how many rows there are, so that they can be left out with their parameters,
/// whose types only the insertion would tell.
fn row_for_row(select: &pb::SelectStmt) -> bool {
    let columns = serde_json::to_string(&select.target_list).unwrap_or_default();
    select.distinct_clause.is_empty()
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && select.window_clause.is_empty()
        && select.sort_clause.is_empty()
        && !["FuncCall", "SubLink", "Json", "Xml"].iter().any(|kind| columns.contains(kind))
}

fn node(kind: NodeEnum) -> pb::Node {
    pb::Node { node: Some(kind) }
}

fn target(value: pb::Node) -> pb::Node {
    node(NodeEnum::ResTarget(Box::new(pb::ResTarget {
        val: Some(Box::new(value)),
        ..pb::ResTarget::default()
    })))
}

fn one() -> pb::Node {
    let value = pb::a_const::Val::Ival(pb::Integer { ival: 1 });
    target(node(NodeEnum::AConst(pb::AConst { isnull: false, location: 0, val: Some(value) })))
}

fn select(
    target_list: Vec<pb::Node>,
    from_clause: Vec<pb::Node>,
    where_clause: Option<pb::Node>,
    with_clause: Option<pb::WithClause>,
) -> pb::Node {
    node(NodeEnum::SelectStmt(Box::new(pb::SelectStmt {
        target_list,
        from_clause,
        where_clause: where_clause.map(Box::new),
        with_clause,
        limit_option: pb::LimitOption::Default as i32,
        op: pb::SetOperation::SetopNone as i32,
        ..pb::SelectStmt::default()
    })))
}

/// The text of a tree, with its parameters numbered from one.
fn written(tree: pb::Node) -> Result<Query, SqlError> {
    let raw = pb::RawStmt { stmt: Some(Box::new(tree)), stmt_location: 0, stmt_len: 0 };
    let result = pb::ParseResult { version: 0, stmts: vec![raw] };
    let text = pg_query::deparse(&result, pg_query::DeparseOptions::default())
        .map_err(|error| refused("", &error))?;
    let scanned = pg_query::scan(&text).map_err(|error| refused(&text, &error))?;
    let mut parameters = Vec::new();
    let mut renumbered = String::with_capacity(text.len());
    let mut copied = 0_usize;
    for token in &scanned.tokens {
        if token.token() != pb::Token::Param {
            continue;
        }
        let span = usize::try_from(token.start).ok().zip(usize::try_from(token.end).ok());
        let number =
            span.and_then(|(start, end)| text.get(start..end)?.strip_prefix('$')?.parse::<u32>().ok());
        let (Some((start, end)), Some(number)) = (span, number) else {
            return Err(SqlError::Unclassifiable { message: "a parameter has no number".to_owned() });
        };
        if !parameters.contains(&number) {
            parameters.push(number);
        }
        let place =
            parameters.iter().position(|other| *other == number).unwrap_or_default().saturating_add(1);
        renumbered.push_str(text.get(copied..start).unwrap_or_default());
        renumbered.push_str(&format!("${place}"));
        copied = end;
    }
    renumbered.push_str(text.get(copied..).unwrap_or_default());
    Ok(Query { text: renumbered, parameters })
}
