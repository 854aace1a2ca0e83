//! Statements that are not queries: one flat table, and the few that carry a query.
//!
//! What is not in the table is a write of the opaque kind.

use pg_query::NodeEnum;
use pg_query::protobuf as pb;
use serde_json::Value;

use super::walk::{Event, Walk};
use super::{names, walk};
use crate::known::Known;
use crate::statement::{
    Bound,
    Category::{
        self, Admin, Data, Files, Iam, Lock, Network, Notify, Opaque, Process, Schema, Session, Transaction,
    },
    Effect::{self, Destructive, Write},
    Statement, TableRef, Verb,
};

pub(super) fn statement(node: &pb::Node, known: Option<&Known>) -> Statement {
    let mut walk = Walk::new(known);
    let verb = walk.statement(node);
    walk.conversions();
    walk.credentials();
    walk.found.into_statement(verb)
}

type UtilityClass = (Verb, Effect, &'static [Category], &'static str, &'static str);

impl Walk<'_> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "fail closed: a statement that is not listed is not a read"
    )]
    fn statement(&mut self, node: &pb::Node) -> Verb {
        let Some(kind) = &node.node else {
            self.raise(Write, &[Opaque], "unknown_statement", "an empty statement");
            return Verb::Other;
        };
        match kind {
            NodeEnum::SelectStmt(_) => self.data(node, Verb::Select),
            NodeEnum::InsertStmt(_) => self.data(node, Verb::Insert),
            NodeEnum::UpdateStmt(_) => self.data(node, Verb::Update),
            NodeEnum::DeleteStmt(_) => self.data(node, Verb::Delete),
            NodeEnum::MergeStmt(_) => self.data(node, Verb::Merge),
            NodeEnum::TruncateStmt(truncate) => self.truncate(truncate),
            NodeEnum::ExplainStmt(explain) => self.explain(explain),
            NodeEnum::CopyStmt(copy) => self.copy(copy),
            NodeEnum::CreateTableAsStmt(create) => {
                if let Some(query) = create.query.as_deref() {
                    self.statement(query);
                }
                if let Some(into) = &create.into {
                    self.creates_table(into);
                }
                Verb::Create
            }
            NodeEnum::ViewStmt(view) => {
                self.raise(Write, &[Schema], "creates_view", "creates a view");
                self.found.writes.extend(view.view.as_ref().map(walk::relation));
                if let Some(query) = view.query.as_deref() {
                    self.statement(query);
                }
                Verb::Create
            }
            NodeEnum::DeclareCursorStmt(declare) => {
                let text = "opens a cursor that outlives the statement";
                self.raise_executed(Write, &[Session], "cursor", text);
                if let Some(query) = declare.query.as_deref() {
                    self.statement(query);
                }
                Verb::Declare
            }
            NodeEnum::PrepareStmt(prepare) => {
                self.raise(Write, &[Session], "prepared", "keeps a statement in the session for later");
                if let Some(query) = prepare.query.as_deref() {
                    self.statement(query);
                }
                self.list(&prepare.argtypes);
                Verb::Prepare
            }
            NodeEnum::ExecuteStmt(execute) => {
                self.raise(
                    Destructive,
                    &[Opaque, Session],
                    "executes_prepared",
                    format!("runs the prepared statement `{}`, which cannot be seen from here", execute.name),
                );
                self.list(&execute.params);
                Verb::Execute
            }
            NodeEnum::CallStmt(call) => {
                self.raise(
                    Destructive,
                    &[Opaque],
                    "calls_procedure",
                    "calls a procedure, which may do anything",
                );
                self.generic(kind);
                if let Some(call) = &call.funccall {
                    self.called(&call.funcname, false);
                }
                Verb::Call
            }
            NodeEnum::DoStmt(_) => {
                self.raise(
                    Destructive,
                    &[Opaque],
                    "runs_code",
                    "runs a block of code, which may do anything",
                );
                self.reads_by_text();
                self.generic(kind);
                Verb::Do
            }
            NodeEnum::VariableShowStmt(show) => {
                self.shows(&show.name);
                Verb::Show
            }
            NodeEnum::VariableSetStmt(set) => self.set(set),
            NodeEnum::AlterRoleSetStmt(alter) => {
                self.raise(Write, &[Iam], "roles", "alters a role");
                self.sets(alter.setstmt.as_ref())
            }
            NodeEnum::AlterDatabaseSetStmt(alter) => {
                self.raise(Write, &[Admin], "alters", "alters a database");
                self.sets(alter.setstmt.as_ref())
            }
            NodeEnum::AlterSystemStmt(alter) => {
                self.raise(
                    Write,
                    &[Admin, Files],
                    "server_setting",
                    "changes the configuration of the server",
                );
                self.sets(alter.setstmt.as_ref())
            }
            NodeEnum::AlterRoleStmt(alter) => {
                self.raise(Write, &[Iam], "roles", "alters a role");
                self.role_options(&alter.options);
                Verb::Alter
            }
            NodeEnum::CreatePolicyStmt(_) => {
                self.raise(Write, &[Iam, Schema], "row_security", "creates a row security policy");
                self.generic(kind);
                Verb::Create
            }
            NodeEnum::AlterPolicyStmt(policy) => {
                self.alters_policy([policy.qual.as_deref(), policy.with_check.as_deref()]);
                self.generic(kind);
                Verb::Alter
            }
            NodeEnum::TransactionStmt(transaction) => self.transaction(transaction),
            NodeEnum::AlterTableStmt(alter) => self.alter_table(alter, kind),
            NodeEnum::DropStmt(drop) => self.drop_objects(drop),
            NodeEnum::GrantStmt(grant) => {
                let (verb, word) =
                    if grant.is_grant { (Verb::Grant, "grants") } else { (Verb::Revoke, "revokes") };
                self.raise(Write, &[Iam], "privileges", format!("{word} privileges"));
                self.generic(kind);
                verb
            }
            NodeEnum::GrantRoleStmt(grant) => {
                let (verb, word) =
                    if grant.is_grant { (Verb::Grant, "grants") } else { (Verb::Revoke, "revokes") };
                self.raise(Write, &[Iam], "privileges", format!("{word} membership in a role"));
                verb
            }
            NodeEnum::VacuumStmt(vacuum) => {
                let full = vacuum.options.iter().any(|option| switched_on(option, "full"));
                self.raise(
                    Write,
                    if full { &[Admin, Lock] } else { &[Admin] },
                    "maintenance",
                    "maintains tables",
                );
                self.generic(kind);
                if vacuum.is_vacuumcmd { Verb::Vacuum } else { Verb::Analyze }
            }
            other => match entry(other) {
                Some((verb, effect, categories, code, text)) => {
                    self.raise(effect, categories, code, text);
                    // The text of a function is a string here.
                    if let NodeEnum::CreateFunctionStmt(create) = other {
                        self.reads_by_text();
                        self.function_options(&create.options);
                    }
                    if let NodeEnum::AlterFunctionStmt(alter) = other {
                        self.function_options(&alter.actions);
                    }
                    self.generic(other);
                    verb
                }
                None => {
                    self.raise(
                        Write,
                        &[Opaque],
                        "unknown_statement",
                        "a kind of statement that is not known",
                    );
                    self.generic(other);
                    Verb::Other
                }
            },
        }
    }

    fn data(&mut self, node: &pb::Node, verb: Verb) -> Verb {
        self.node(node);
        verb
    }

    fn truncate(&mut self, truncate: &pb::TruncateStmt) -> Verb {
        self.raise(Destructive, &[Data, Lock], "truncates", "removes all rows");
        if truncate.behavior() == pb::DropBehavior::DropCascade {
            self.raise(
                Destructive,
                &[Opaque],
                "truncates_cascade",
                "removes all rows of every table that refers to it, too",
            );
        }
        self.found.bound(Bound::None);
        for node in &truncate.relations {
            if let Some(NodeEnum::RangeVar(range)) = &node.node {
                self.writes(Some(range), Event::Truncate);
                if truncate.behavior() == pb::DropBehavior::DropCascade {
                    self.truncates_referencing(&walk::relation(range));
                }
            }
        }
        Verb::Truncate
    }

    /// Without `ANALYZE` a statement is planned and not run; planning evaluates immutable and stable functions.
    fn explain(&mut self, explain: &pb::ExplainStmt) -> Verb {
        let analyze = explain.options.iter().any(|option| switched_on(option, "analyze"));
        let outer = self.planned_only;
        self.planned_only = !analyze;
        if let Some(query) = explain.query.as_deref() {
            self.statement(query);
        }
        self.planned_only = outer;
        if !analyze {
            self.found.bounded = Bound::NotApplicable;
        }
        if analyze && self.found.effect != Effect::Read {
            self.found.note("explain_analyze", "`EXPLAIN ANALYZE` runs the statement");
        }
        Verb::Explain
    }

    fn copy(&mut self, copy: &pb::CopyStmt) -> Verb {
        // The options name formats and encodings.
        let pb::CopyStmt {
            relation,
            query,
            attlist,
            is_from,
            is_program,
            filename,
            options: _,
            where_clause,
        } = copy;
        if *is_program {
            self.raise(
                Destructive,
                &[Process, Files, Admin],
                "copy_program",
                format!("runs the program `{filename}` on the server"),
            );
        } else if !filename.is_empty() {
            let (effect, word) = if *is_from { (Write, "reads") } else { (Destructive, "overwrites") };
            self.reads_by_text();
            self.spoken(filename);
            self.raise(
                effect,
                &[Files, Admin],
                "copy_file",
                format!("{word} the file `{filename}` of the server"),
            );
        }
        if *is_from {
            self.raise(Write, &[Data], "inserts", "inserts rows");
            self.writes(relation.as_ref(), Event::Insert);
        } else if let Some(range) = relation {
            self.node(&pb::Node { node: Some(NodeEnum::RangeVar(range.clone())) });
        }
        if let Some(query) = query.as_deref() {
            self.statement(query);
        }
        self.list(attlist);
        if let Some(clause) = where_clause.as_deref() {
            self.node(clause);
        }
        Verb::Copy
    }

    fn set(&mut self, set: &pb::VariableSetStmt) -> Verb {
        let name = set.name.to_ascii_lowercase();
        let categories: &[Category] = match name.as_str() {
            "role" | "session_authorization" => &[Session, Iam],
            "row_security" => &[Session, Iam],
            "transaction"
            | "session characteristics"
            | "transaction snapshot"
            | "transaction_read_only"
            | "default_transaction_read_only"
            | "transaction_isolation" => &[Session, Transaction],
            _ => &[Session],
        };
        let shown = if name.is_empty() { "all settings" } else { &name };
        self.raise(
            Write,
            categories,
            "setting",
            format!("changes `{shown}` for what follows in the session"),
        );
        self.sets_guard(set);
        Verb::Set
    }

    /// What a role, a database or the server gives to every session.
    fn sets(&mut self, set: Option<&pb::VariableSetStmt>) -> Verb {
        if let Some(set) = set {
            self.sets_guard(set);
        }
        Verb::Alter
    }

    fn transaction(&mut self, transaction: &pb::TransactionStmt) -> Verb {
        use pb::TransactionStmtKind as Kind;
        self.raise(Write, &[Transaction], "transaction", "controls the transaction it runs in");
        match transaction.kind() {
            Kind::TransStmtBegin | Kind::TransStmtStart => Verb::Begin,
            Kind::TransStmtCommit | Kind::TransStmtCommitPrepared | Kind::TransStmtPrepare => Verb::Commit,
            Kind::TransStmtRollback | Kind::TransStmtRollbackTo | Kind::TransStmtRollbackPrepared => {
                Verb::Rollback
            }
            Kind::TransStmtSavepoint | Kind::TransStmtRelease => Verb::Savepoint,
            Kind::Undefined => Verb::Other,
        }
    }

    fn alter_table(&mut self, alter: &pb::AlterTableStmt, kind: &NodeEnum) -> Verb {
        self.raise(Write, &[Schema], "alters", "alters a table or another relation");
        for node in &alter.cmds {
            let Some(NodeEnum::AlterTableCmd(command)) = &node.node else { continue };
            self.alter_command(command);
        }
        self.generic(kind);
        Verb::Alter
    }

    fn alter_command(&mut self, command: &pb::AlterTableCmd) {
        use pb::AlterTableType as Kind;
        match command.subtype() {
            Kind::AtDropColumn => {
                self.raise(Destructive, &[Schema, Data], "drops", "drops a column with its values")
            }
            Kind::AtDropConstraint
            | Kind::AtDropNotNull
            | Kind::AtDropExpression
            | Kind::AtDropIdentity
            | Kind::AtDropInherit
            | Kind::AtDropOf
            | Kind::AtDropCluster
            | Kind::AtDropOids => {
                self.raise(Destructive, &[Schema], "drops", "drops a part of the table's definition")
            }
            Kind::AtAlterColumnType => {
                self.raise(
                    Destructive,
                    &[Schema, Data, Lock],
                    "rewrites",
                    "changes the type of a column and rewrites its values",
                );
            }
            Kind::AtDetachPartition | Kind::AtDetachPartitionFinalize => {
                self.raise(
                    Destructive,
                    &[Schema, Data],
                    "drops",
                    "takes a partition with its rows out of the table",
                );
            }
            Kind::AtSetUnLogged => self.raise(
                Destructive,
                &[Schema, Data],
                "unlogged",
                "makes the table lose its rows in a crash",
            ),
            Kind::AtChangeOwner => self.raise(Write, &[Iam], "ownership", "changes the owner"),
            Kind::AtDisableRowSecurity | Kind::AtNoForceRowSecurity => {
                self.raise(Destructive, &[Iam], "row_security", "switches row security off");
            }
            Kind::AtEnableRowSecurity | Kind::AtForceRowSecurity => {
                self.raise(Write, &[Iam], "row_security", "switches row security on");
            }
            Kind::AtDisableTrig
            | Kind::AtDisableTrigAll
            | Kind::AtDisableTrigUser
            | Kind::AtDisableRule
            | Kind::AtEnableReplicaTrig
            | Kind::AtEnableReplicaRule => {
                self.raise(
                    Destructive,
                    &[Schema],
                    "disables",
                    "switches triggers or rules off, and with them what they guard",
                );
            }
            Kind::AtAlterConstraint => self.alters_constraint(command),
            Kind::AtSetRelOptions | Kind::AtResetRelOptions | Kind::AtReplaceRelOptions => {
                self.relation_options(command);
            }
            Kind::Undefined
            | Kind::AtAddColumn
            | Kind::AtAddColumnToView
            | Kind::AtColumnDefault
            | Kind::AtCookedColumnDefault
            | Kind::AtSetNotNull
            | Kind::AtSetExpression
            | Kind::AtSetStatistics
            | Kind::AtSetOptions
            | Kind::AtResetOptions
            | Kind::AtSetStorage
            | Kind::AtSetCompression
            | Kind::AtAddIndex
            | Kind::AtReAddIndex
            | Kind::AtAddConstraint
            | Kind::AtReAddConstraint
            | Kind::AtReAddDomainConstraint
            | Kind::AtValidateConstraint
            | Kind::AtAddIndexConstraint
            | Kind::AtReAddComment
            | Kind::AtAlterColumnGenericOptions
            | Kind::AtClusterOn
            | Kind::AtSetLogged
            | Kind::AtSetAccessMethod
            | Kind::AtSetTableSpace
            | Kind::AtEnableTrig
            | Kind::AtEnableAlwaysTrig
            | Kind::AtEnableTrigAll
            | Kind::AtEnableTrigUser
            | Kind::AtEnableRule
            | Kind::AtEnableAlwaysRule
            | Kind::AtAddInherit
            | Kind::AtAddOf
            | Kind::AtReplicaIdentity
            | Kind::AtGenericOptions
            | Kind::AtAttachPartition
            | Kind::AtAddIdentity
            | Kind::AtSetIdentity
            | Kind::AtReAddStatistics => {}
        }
    }

    fn drop_objects(&mut self, drop: &pb::DropStmt) -> Verb {
        use pb::ObjectType as Kind;
        let kind = drop.remove_type();
        let relations = matches!(
            kind,
            Kind::ObjectTable
                | Kind::ObjectView
                | Kind::ObjectMatview
                | Kind::ObjectForeignTable
                | Kind::ObjectSequence
        );
        // A trigger, rule or policy is named with its table in front.
        let attached = matches!(kind, Kind::ObjectTrigger | Kind::ObjectRule | Kind::ObjectPolicy);
        for object in &drop.objects {
            let Some(NodeEnum::List(list)) = &object.node else { continue };
            let mut parts = names(&list.items);
            if attached {
                parts.pop();
            }
            if relations || attached {
                match parts.as_slice() {
                    [name] => self.found.writes.insert(TableRef::bare(*name)),
                    [.., schema, name] => self.found.writes.insert(TableRef::new(schema, *name)),
                    [] => false,
                };
            }
        }
        let categories: &[Category] = if kind == Kind::ObjectPolicy {
            &[Schema, Iam]
        } else if matches!(kind, Kind::ObjectTable | Kind::ObjectMatview | Kind::ObjectSchema) {
            &[Schema, Data]
        } else {
            &[Schema]
        };
        self.raise(Destructive, categories, "drops", "drops an object");
        if drop.behavior() == pb::DropBehavior::DropCascade {
            self.raise(Destructive, &[Opaque], "cascades", "drops everything that depends on it, too");
        }
        Verb::Drop
    }

    /// Collects names from a statement that is not a read anyway, whatever its shape: relations count as written,
    /// function calls are judged.
    fn generic(&mut self, kind: &NodeEnum) {
        if let Ok(value) = serde_json::to_value(kind) {
            self.collect(&value);
        }
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(name)) = map.get("relname") {
                    let schema = map.get("schemaname").and_then(Value::as_str).unwrap_or_default();
                    self.found.writes.insert(TableRef::new(schema, name.clone()));
                }
                if let Some(Value::String(text)) = map.get("sval") {
                    self.spoken(text);
                }
                if let Some(Value::Array(parts)) = map.get("funcname") {
                    let nodes: Vec<pb::Node> = parts.iter().filter_map(string_node).collect();
                    self.called(&nodes, false);
                }
                map.values().for_each(|inner| self.collect(inner));
            }
            Value::Array(list) => list.iter().for_each(|inner| self.collect(inner)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn string_node(value: &Value) -> Option<pb::Node> {
    let text = value.get("node")?.get("String")?.get("sval")?.as_str()?;
    Some(pb::Node { node: Some(NodeEnum::String(pb::String { sval: text.to_owned() })) })
}

/// Whether an option of `EXPLAIN` or `VACUUM` is on: named without a value, or with any value but a false one.
/// PostgreSQL lets the last of several win; here any one that is on counts.
fn switched_on(option: &pb::Node, name: &str) -> bool {
    let Some(NodeEnum::DefElem(option)) = &option.node else { return true };
    if !option.defname.eq_ignore_ascii_case(name) {
        return false;
    }
    match option.arg.as_deref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::String(text)) => {
            !matches!(text.sval.to_ascii_lowercase().as_str(), "false" | "off" | "0" | "no")
        }
        Some(NodeEnum::Integer(number)) => number.ival != 0,
        Some(NodeEnum::Boolean(value)) => value.boolval,
        _ => true,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the caller makes of None a write of the opaque kind")]
fn entry(kind: &NodeEnum) -> Option<UtilityClass> {
    use Verb::{Alter, Create, Drop, Other, Rename};
    Some(match kind {
        // Schema.
        NodeEnum::CreateStmt(_) => (Create, Write, &[Schema], "creates", "creates a table"),
        NodeEnum::CreateSchemaStmt(_) => (Create, Write, &[Schema], "creates", "creates a schema"),
        NodeEnum::IndexStmt(_) => (Create, Write, &[Schema, Lock], "creates", "creates an index"),
        NodeEnum::CreateSeqStmt(_) => (Create, Write, &[Schema], "creates", "creates a sequence"),
        NodeEnum::AlterSeqStmt(_) => {
            (Alter, Write, &[Schema, Category::Sequence], "alters", "alters a sequence")
        }
        NodeEnum::DefineStmt(_)
        | NodeEnum::CompositeTypeStmt(_)
        | NodeEnum::CreateEnumStmt(_)
        | NodeEnum::CreateRangeStmt(_)
        | NodeEnum::CreateDomainStmt(_)
        | NodeEnum::CreateOpClassStmt(_)
        | NodeEnum::CreateOpFamilyStmt(_)
        | NodeEnum::CreateConversionStmt(_)
        | NodeEnum::CreateStatsStmt(_)
        | NodeEnum::CreateAmStmt(_) => (Create, Write, &[Schema], "creates", "creates an object"),
        NodeEnum::CreateCastStmt(_) | NodeEnum::CreateTransformStmt(_) => {
            (Create, Write, &[Schema, Opaque], "creates_code", "makes conversions run a function")
        }
        NodeEnum::CreateFunctionStmt(_) => {
            (Create, Write, &[Schema, Opaque], "creates_code", "creates or replaces a function")
        }
        NodeEnum::CreateTrigStmt(_) | NodeEnum::CreateEventTrigStmt(_) | NodeEnum::RuleStmt(_) => {
            (Create, Write, &[Schema, Opaque], "creates_code", "makes later statements do more than they say")
        }
        NodeEnum::CreatePlangStmt(_) | NodeEnum::CreateExtensionStmt(_) => {
            (Create, Write, &[Schema, Process], "loads_code", "loads code into the server")
        }
        NodeEnum::AlterExtensionStmt(_) => {
            (Alter, Write, &[Schema, Process], "loads_code", "loads code into the server")
        }
        NodeEnum::AlterExtensionContentsStmt(_)
        | NodeEnum::AlterFunctionStmt(_)
        | NodeEnum::AlterCollationStmt(_)
        | NodeEnum::AlterOpFamilyStmt(_)
        | NodeEnum::AlterOperatorStmt(_)
        | NodeEnum::AlterTypeStmt(_)
        | NodeEnum::AlterEnumStmt(_)
        | NodeEnum::AlterStatsStmt(_)
        | NodeEnum::AlterTsdictionaryStmt(_)
        | NodeEnum::AlterTsconfigurationStmt(_)
        | NodeEnum::AlterObjectDependsStmt(_)
        | NodeEnum::AlterObjectSchemaStmt(_) => (Alter, Write, &[Schema], "alters", "alters an object"),
        NodeEnum::AlterDomainStmt(_) => {
            (Alter, Destructive, &[Schema], "alters", "alters or drops constraints of a domain")
        }
        NodeEnum::AlterEventTrigStmt(_) => {
            (Alter, Destructive, &[Schema], "disables", "switches an event trigger on or off")
        }
        NodeEnum::AlterTableMoveAllStmt(_) => {
            (Alter, Write, &[Schema, Lock], "alters", "moves tables to another tablespace")
        }
        NodeEnum::RenameStmt(_) => (Rename, Write, &[Schema], "alters", "renames an object"),
        NodeEnum::CommentStmt(_) => (Verb::Comment, Write, &[Schema], "alters", "changes a comment"),
        NodeEnum::RefreshMatViewStmt(_) => {
            (Verb::Refresh, Write, &[Data, Lock], "refreshes", "replaces the rows of a materialized view")
        }
        // People and privileges.
        NodeEnum::CreateRoleStmt(_) => (Create, Write, &[Iam], "roles", "creates a role"),
        NodeEnum::DropRoleStmt(_) => (Drop, Destructive, &[Iam], "roles", "drops a role"),
        NodeEnum::DropOwnedStmt(_) => {
            (Drop, Destructive, &[Iam, Schema, Data], "drops", "drops everything a role owns")
        }
        NodeEnum::ReassignOwnedStmt(_) => {
            (Alter, Write, &[Iam], "ownership", "gives everything a role owns to another")
        }
        NodeEnum::AlterOwnerStmt(_) => (Alter, Write, &[Iam, Schema], "ownership", "changes the owner"),
        NodeEnum::AlterDefaultPrivilegesStmt(_) => {
            (Alter, Write, &[Iam], "privileges", "changes the privileges of later objects")
        }
        NodeEnum::SecLabelStmt(_) => (Alter, Write, &[Iam], "privileges", "changes a security label"),
        // Other servers.
        NodeEnum::CreateFdwStmt(_)
        | NodeEnum::CreateForeignServerStmt(_)
        | NodeEnum::CreateForeignTableStmt(_)
        | NodeEnum::ImportForeignSchemaStmt(_)
        | NodeEnum::CreatePublicationStmt(_)
        | NodeEnum::CreateSubscriptionStmt(_) => {
            (Create, Write, &[Schema, Network], "connects", "connects the server to another")
        }
        NodeEnum::CreateUserMappingStmt(_) => {
            (Create, Write, &[Iam, Network], "connects", "stores credentials for another server")
        }
        NodeEnum::AlterFdwStmt(_)
        | NodeEnum::AlterForeignServerStmt(_)
        | NodeEnum::AlterPublicationStmt(_)
        | NodeEnum::AlterSubscriptionStmt(_) => {
            (Alter, Write, &[Schema, Network], "connects", "changes the connection to another server")
        }
        NodeEnum::AlterUserMappingStmt(_) => {
            (Alter, Write, &[Iam, Network], "connects", "changes credentials for another server")
        }
        NodeEnum::DropUserMappingStmt(_) => {
            (Drop, Destructive, &[Iam, Network], "drops", "drops credentials for another server")
        }
        NodeEnum::DropSubscriptionStmt(_) => {
            (Drop, Destructive, &[Schema, Network], "drops", "drops a subscription")
        }
        // The server.
        NodeEnum::CreatedbStmt(_) => (Create, Write, &[Admin, Schema], "creates", "creates a database"),
        NodeEnum::AlterDatabaseStmt(_) | NodeEnum::AlterDatabaseRefreshCollStmt(_) => {
            (Alter, Write, &[Admin], "alters", "alters a database")
        }
        NodeEnum::DropdbStmt(_) => (Drop, Destructive, &[Admin, Schema, Data], "drops", "drops a database"),
        NodeEnum::CreateTableSpaceStmt(_) => {
            (Create, Write, &[Admin, Files], "creates", "creates a tablespace")
        }
        NodeEnum::DropTableSpaceStmt(_) => {
            (Drop, Destructive, &[Admin, Files], "drops", "drops a tablespace")
        }
        NodeEnum::AlterTableSpaceOptionsStmt(_) => (Alter, Write, &[Admin], "alters", "alters a tablespace"),
        NodeEnum::CheckPointStmt(_) => {
            (Verb::Checkpoint, Write, &[Admin], "maintenance", "forces a checkpoint")
        }
        NodeEnum::ClusterStmt(_) => {
            (Verb::Cluster, Write, &[Admin, Lock], "maintenance", "rewrites tables in the order of an index")
        }
        NodeEnum::ReindexStmt(_) => (Verb::Reindex, Write, &[Admin, Lock], "maintenance", "rebuilds indexes"),
        NodeEnum::LoadStmt(_) => {
            (Verb::Load, Write, &[Process, Files, Admin], "loads_code", "loads a library into the server")
        }
        // The session.
        NodeEnum::LockStmt(_) => (Verb::Lock, Write, &[Lock], "table_locks", "locks tables"),
        NodeEnum::ConstraintsSetStmt(_) => {
            (Verb::Set, Write, &[Transaction], "setting", "moves constraint checks")
        }
        NodeEnum::DiscardStmt(_) => (Verb::Discard, Write, &[Session], "setting", "resets the session"),
        NodeEnum::DeallocateStmt(_) => {
            (Verb::Deallocate, Write, &[Session], "prepared", "forgets a prepared statement")
        }
        NodeEnum::FetchStmt(_) => (
            Verb::Fetch,
            Write,
            &[Session, Opaque],
            "cursor",
            "moves a cursor whose query cannot be seen from here",
        ),
        NodeEnum::ClosePortalStmt(_) => (Verb::Close, Write, &[Session], "cursor", "closes a cursor"),
        NodeEnum::NotifyStmt(_) => (Verb::Notify, Write, &[Notify], "notifies", "sends a notification"),
        NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) => {
            (Verb::Listen, Write, &[Session, Notify], "listens", "changes what the session listens to")
        }
        NodeEnum::ReturnStmt(_) | NodeEnum::PlassignStmt(_) => {
            (Other, Write, &[Opaque], "unknown_statement", "a statement of a function body")
        }
        _ => return None,
    })
}
