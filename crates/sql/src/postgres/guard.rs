//! What guards the rows beside their predicate: constraints, triggers, rules, row security, and the settings that switch
//! them off for a session, a role, a database or the server. Switching one off is destructive, whoever it is done for.

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::boundary::{self, Sight};
use super::walk::Walk;
use crate::statement::{
    Bound,
    Category::{Iam, Schema, Session},
    Effect::{Destructive, Write},
};

/// Settings that guard, and the values under which they do. Of any other value, and of one that cannot be seen (a
/// default, an expression), nobody can say that the guard is still there.
const GUARDS: [(&str, &[&str]); 13] = [
    // `replica` switches off triggers, rules, and with them foreign keys.
    ("session_replication_role", &["origin", "local"]),
    ("row_security", ON),
    ("default_transaction_read_only", ON),
    ("transaction_read_only", ON),
    ("event_triggers", ON),
    ("allow_system_table_mods", OFF),
    ("lo_compat_privileges", OFF),
    ("zero_damaged_pages", OFF),
    ("ignore_checksum_failure", OFF),
    ("ignore_invalid_pages", OFF),
    ("fsync", ON),
    ("full_page_writes", ON),
    ("sepgsql.permissive", OFF),
];

const ON: &[&str] = &["on", "true", "yes", "1"];
const OFF: &[&str] = &["off", "false", "no", "0"];

impl Walk<'_> {
    /// `SET` and `RESET` in every form: of the session, of a role, of a database, of the server, of a function.
    pub(super) fn sets_guard(&mut self, set: &pb::VariableSetStmt) {
        match set.kind() {
            // `SET TRANSACTION READ WRITE`: each mode is an argument of its own.
            pb::VariableSetKind::VarSetMulti => {
                for node in &set.args {
                    if let Some(NodeEnum::DefElem(mode)) = &node.node {
                        self.guard_becomes(&mode.defname, mode.arg.as_deref().and_then(shown).as_deref());
                    }
                }
            }
            pb::VariableSetKind::VarSetValue => {
                let value = match set.args.as_slice() {
                    [value] => shown(value),
                    _ => None,
                };
                self.guard_becomes(&set.name, value.as_deref());
            }
            pb::VariableSetKind::VarSetDefault
            | pb::VariableSetKind::VarSetCurrent
            | pb::VariableSetKind::VarReset => self.guard_becomes(&set.name, None),
            // Everything goes back to what whoever configures the server, the role and the database wants.
            pb::VariableSetKind::VarResetAll | pb::VariableSetKind::Undefined => {}
        }
    }

    /// `set_config(name, value, local)`. A name that is computed may be any.
    pub(super) fn configures(&mut self, args: &[pb::Node]) {
        let mut positional = args.iter().map(|arg| match &arg.node {
            Some(NodeEnum::NamedArgExpr(_)) => None,
            _ => shown(arg),
        });
        match positional.next().flatten() {
            Some(name) => self.guard_becomes(&name, positional.next().flatten().as_deref()),
            None => self.raise(
                Destructive,
                &[Session],
                "disables",
                "changes a setting whose name cannot be seen, and which may be a guard",
            ),
        }
    }

    /// The `SET` clauses of a function, which hold while it runs.
    pub(super) fn function_options(&mut self, options: &[pb::Node]) {
        for option in options {
            let Some(NodeEnum::DefElem(option)) = &option.node else { continue };
            if let Some(NodeEnum::VariableSetStmt(set)) =
                option.arg.as_deref().and_then(|arg| arg.node.as_ref())
            {
                self.sets_guard(set);
            }
        }
    }

    fn guard_becomes(&mut self, name: &str, value: Option<&str>) {
        let name = name.to_ascii_lowercase();
        let Some((_, guarding)) = GUARDS.iter().find(|(guard, _)| *guard == name) else { return };
        let value = value.map(str::to_ascii_lowercase);
        if value.as_deref().is_some_and(|value| guarding.contains(&value)) {
            return;
        }
        let to =
            value.map_or_else(|| "what cannot be seen from here".to_owned(), |value| format!("`{value}`"));
        self.raise(
            Destructive,
            &[Session],
            "disables",
            format!("sets `{name}` to {to}, and takes a guard away"),
        );
    }

    /// `ALTER CONSTRAINT`. Deferring a check is none of it: it is made at the latest when the transaction commits.
    pub(super) fn alters_constraint(&mut self, command: &pb::AlterTableCmd) {
        let definition = command.def.as_deref().and_then(|node| node.node.as_ref());
        let enforced = match definition {
            Some(NodeEnum::AtalterConstraint(x)) => !x.alter_enforceability || x.is_enforced,
            _ => false,
        };
        if !enforced {
            self.raise(
                Destructive,
                &[Schema],
                "disables",
                "stops enforcing a constraint: rows that break it are let in",
            );
        }
    }

    /// What a view lets through to those who may not see its tables, or lets them write through it.
    pub(super) fn relation_options(&mut self, command: &pb::AlterTableCmd) {
        use pb::AlterTableType as Kind;
        let Some(NodeEnum::List(options)) = command.def.as_deref().and_then(|node| node.node.as_ref()) else {
            return;
        };
        let resets = command.subtype() != Kind::AtSetRelOptions;
        for option in &options.items {
            let Some(NodeEnum::DefElem(option)) = &option.node else { continue };
            let name = option.defname.to_ascii_lowercase();
            let value = match option.arg.as_deref() {
                Some(value) => shown(value).map(|value| value.to_ascii_lowercase()),
                // Named alone it is on.
                None => Some("on".to_owned()),
            };
            let value = value.as_deref().unwrap_or_default();
            let kept = match name.as_str() {
                "security_barrier" | "security_invoker" => ON.contains(&value),
                "check_option" => value == "cascaded",
                _ => continue,
            };
            if resets || !kept {
                self.raise(
                    Destructive,
                    &[Schema, Iam],
                    "disables",
                    format!("takes `{name}` from a view, and with it what it guards"),
                );
            }
        }
    }

    /// `ALTER ROLE … BYPASSRLS`, `… SUPERUSER`: policies no longer hold for it.
    pub(super) fn role_options(&mut self, options: &[pb::Node]) {
        for option in options {
            let Some(NodeEnum::DefElem(option)) = &option.node else { continue };
            let on = option.arg.as_deref().and_then(shown).is_some_and(|value| ON.contains(&value.as_str()));
            if matches!(option.defname.as_str(), "bypassrls" | "superuser") && on {
                self.raise(Destructive, &[Iam], "row_security", "lets a role pass row security by");
            }
        }
    }

    /// `ALTER POLICY`. One that lets every row through guards nothing any more.
    pub(super) fn alters_policy(&mut self, conditions: [Option<&pb::Node>; 2]) {
        let every = |clause: &&pb::Node| boundary::bound(Some(clause), &Sight::default()) == Bound::Tautology;
        if conditions.iter().flatten().any(every) {
            self.raise(Destructive, &[Iam, Schema], "row_security", "lets every row through a policy");
        } else {
            self.raise(Write, &[Iam, Schema], "row_security", "changes what a policy lets through");
        }
    }
}

/// The value that a constant stands for, in one spelling. What is computed has none.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not a constant cannot be seen")]
fn shown(node: &pb::Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match &constant.val {
            Some(pb::a_const::Val::Sval(text)) => Some(text.sval.clone()),
            Some(pb::a_const::Val::Ival(number)) => Some(number.ival.to_string()),
            Some(pb::a_const::Val::Boolval(value)) => Some(value.boolval.to_string()),
            Some(pb::a_const::Val::Fval(_) | pb::a_const::Val::Bsval(_)) => None,
            // The wire form omits a zero.
            None => (!constant.isnull).then(|| "0".to_owned()),
        },
        NodeEnum::String(text) => Some(text.sval.clone()),
        NodeEnum::Boolean(value) => Some(value.boolval.to_string()),
        NodeEnum::Integer(number) => Some(number.ival.to_string()),
        NodeEnum::TypeCast(cast) => shown(cast.arg.as_deref()?),
        NodeEnum::TypeName(name) => match super::names(&name.names).as_slice() {
            [word] => Some((*word).to_owned()),
            _ => None,
        },
        _ => None,
    }
}
