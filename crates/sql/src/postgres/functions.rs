//! Which functions, operators and types of PostgreSQL are known to change nothing.
//!
//! `functions.txt` is the list of PostgreSQL's own functions that only compute or read: all that `pg_proc` declares
//! immutable or stable, without those that run text as SQL, read tables by name or assign a transaction number, and
//! with the volatile ones that are harmless (`random`, `clock_timestamp`, sizes). A function that is not on it is not
//! a read.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::statement::{Category, Effect, TableRef};

static HARMLESS: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| include_str!("functions.txt").lines().collect());

/// What PostgreSQL itself says a function of its own does.
pub(super) enum BuiltIn {
    Harmless,
    Harmful(Harm),
    /// It has none of that name.
    Unknown,
}

/// What the functions of PostgreSQL that have this name do.
pub(super) fn built_in(name: &str) -> BuiltIn {
    match harmful(name) {
        Some(harm) => BuiltIn::Harmful(harm),
        None if HARMLESS.contains(name) => BuiltIn::Harmless,
        None => BuiltIn::Unknown,
    }
}

/// What the native code of this name does that is more than computing.
pub(super) fn harm(name: &str) -> Option<&'static str> {
    harmful(name).map(|(_, _, text)| text)
}

pub(super) type Harm = (Effect, &'static [Category], &'static str);

const RUNS_TEXT: Harm =
    (Effect::Write, &[Category::Opaque], "runs a text as SQL or reads tables named by a text");

/// Whether a function runs a text as SQL, or shows the rows of a table that a text names.
pub(super) fn runs_text(name: &str) -> bool {
    matches!(
        name,
        "query_to_xml"
            | "query_to_xml_and_xmlschema"
            | "cursor_to_xml"
            | "table_to_xml"
            | "table_to_xml_and_xmlschema"
            | "schema_to_xml"
            | "schema_to_xml_and_xmlschema"
            | "ts_stat"
            | "ts_rewrite"
            | "connectby"
            | "crosstab"
            | "crosstab2"
            | "crosstab3"
            | "crosstab4"
            | "crosstab_hash"
            | "xpath_table"
    )
}

/// PostgreSQL's own functions, and those of its bundled extensions, that do more than compute.
fn harmful(name: &str) -> Option<Harm> {
    use Category::{
        Admin, Catalog, Credentials, Data, Files, LargeObject, Lock, Network, Notify, Opaque, Process,
        Sequence, Session, Transaction,
    };
    use Effect::{Destructive, Write};
    let harm: Harm = match name {
        "nextval" | "setval" => (Write, &[Sequence], "moves a sequence, which no rollback undoes"),
        "set_config" => (Write, &[Session], "changes a setting"),
        "setseed" => (Write, &[Session], "changes the state of the session"),
        "pg_notify" => (Write, &[Notify], "sends a notification"),
        "pg_logical_emit_message" => (Write, &[Notify], "writes a message to the write-ahead log"),
        "txid_current" | "pg_current_xact_id" => (Write, &[Transaction], "assigns a transaction number"),
        "pg_export_snapshot" => (Write, &[Transaction, Files], "exports the snapshot of the transaction"),
        "lo_unlink" | "lo_truncate" | "lo_truncate64" => {
            (Destructive, &[LargeObject], "removes a large object or part of it")
        }
        "lo_import" | "lo_export" => (
            Destructive,
            &[LargeObject, Files, Admin],
            "moves a large object from or to a file of the server",
        ),
        "loread" | "lowrite" => (Write, &[LargeObject], "works on large objects"),
        "query_to_xmlschema"
        | "cursor_to_xmlschema"
        | "table_to_xmlschema"
        | "schema_to_xmlschema"
        | "database_to_xml"
        | "database_to_xml_and_xmlschema"
        | "database_to_xmlschema" => RUNS_TEXT,
        _ if runs_text(name) => RUNS_TEXT,
        "pg_input_is_valid" | "pg_input_error_info" => {
            (Write, &[Opaque], "converts to a type named by a text, whose conditions may run code")
        }
        "pg_terminate_backend" | "pg_cancel_backend" => {
            (Destructive, &[Admin], "stops the work of another session")
        }
        "pg_sleep" | "pg_sleep_for" | "pg_sleep_until" => {
            (Write, &[Admin], "keeps the session busy on purpose")
        }
        "pg_read_file"
        | "pg_read_binary_file"
        | "pg_read_file_old"
        | "pg_stat_file"
        | "pg_current_logfile"
        | "pg_file_read"
        | "pg_logdir_ls" => (Write, &[Files, Admin], "reads files of the server"),
        "pg_hba_file_rules" | "pg_ident_file_mappings" | "pg_show_all_file_settings" => (
            Write,
            &[Files, Admin, Credentials],
            "reads how people and servers sign in from files of the server",
        ),
        "pg_file_write" | "pg_file_rename" | "pg_file_unlink" | "pg_file_sync" => {
            (Destructive, &[Files, Admin], "changes files of the server")
        }
        "pg_reload_conf"
        | "pg_rotate_logfile"
        | "pg_rotate_logfile_old"
        | "pg_switch_wal"
        | "pg_create_restore_point"
        | "pg_backup_start"
        | "pg_backup_stop"
        | "pg_start_backup"
        | "pg_stop_backup"
        | "pg_promote"
        | "pg_wal_replay_pause"
        | "pg_wal_replay_resume"
        | "pg_import_system_collations"
        | "pg_log_backend_memory_contexts"
        | "brin_summarize_new_values"
        | "brin_summarize_range"
        | "brin_desummarize_range"
        | "gin_clean_pending_list"
        | "pg_stat_clear_snapshot"
        | "pg_stat_force_next_flush"
        | "pg_nextoid"
        | "pg_stop_making_pinned_objects"
        | "pg_prewarm"
        | "pg_stat_statements_reset"
        | "pg_log_standby_snapshot"
        | "pg_sync_replication_slots"
        | "pg_restore_relation_stats"
        | "pg_restore_attribute_stats"
        | "pg_clear_relation_stats"
        | "pg_clear_attribute_stats"
        | "pg_replication_slot_advance" => (Write, &[Admin], "administers the server"),
        "pg_get_publication_tables"
        | "unique_key_recheck"
        | "pg_extension_config_dump"
        | "suppress_redundant_updates_trigger" => (Write, &[Catalog], "is meant for the server's own use"),
        "pg_background_launch" => (Destructive, &[Process], "starts a process"),
        "lo_manage" => (Destructive, &[LargeObject, Data], "removes large objects"),
        "dblink" | "dblink_exec" => {
            (Destructive, &[Network, Opaque], "runs a text as SQL on another connection")
        }
        _ if name.starts_with("lo_") => {
            (Write, &[LargeObject], "works on large objects, which no table privilege covers")
        }
        _ if name.starts_with("dblink") => (Write, &[Network, Opaque], "works on another connection"),
        _ if name.starts_with("postgres_fdw_") => {
            (Write, &[Network], "works on connections to other servers")
        }
        _ if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") => {
            (Write, &[Lock], "takes or releases an advisory lock")
        }
        _ if name.starts_with("pg_ls_") => (Write, &[Files, Admin], "lists files of the server"),
        _ if name.starts_with("pg_stat_reset") => (Destructive, &[Admin], "discards statistics"),
        _ if name.starts_with("pg_drop_replication") => (Destructive, &[Admin], "drops a replication slot"),
        _ if name.starts_with("pg_replication_")
            || name.starts_with("pg_logical_")
            || name.starts_with("pg_create_")
            || name.starts_with("pg_copy_")
            || name.starts_with("binary_upgrade_") =>
        {
            (Write, &[Admin], "administers replication or upgrades")
        }
        _ => return None,
    };
    Some(harm)
}

/// Whether a function converts to the types of columns it is given no name of.
pub(super) fn populates(name: &str) -> bool {
    matches!(
        name,
        "json_populate_record"
            | "json_populate_recordset"
            | "jsonb_populate_record"
            | "jsonb_populate_recordset"
            | "populate_record"
    )
}

/// Whether a function of PostgreSQL makes an array of a value of any type, or takes several values that are to be of one type.
pub(super) fn polymorphic(name: &str) -> bool {
    matches!(
        name,
        "any_value_transfn"
            | "array_agg"
            | "array_append"
            | "array_cat"
            | "array_fill"
            | "array_position"
            | "array_positions"
            | "array_prepend"
            | "array_remove"
            | "array_replace"
            | "lag"
            | "lead"
            | "percentile_disc"
            | "width_bucket"
    )
}

/// Whether planning leaves the harmful functions of these categories alone: all of them are volatile. Stable ones, such as
/// `pg_current_xact_id` and `table_to_xml`, it may run to estimate.
pub(super) fn never_planned(categories: &[Category]) -> bool {
    matches!(categories, [Category::Sequence] | [Category::Lock] | [Category::Notify])
}

/// Whether an operator of this name is PostgreSQL's own.
pub(super) fn operator(name: &str) -> bool {
    const OWN: &str = " !! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->> -|- / < <-> << <<= \
        <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= \
        ~>=~ ~>~ ~~ ~~* != ";
    !name.is_empty() && !name.contains(' ') && OWN.contains(&format!(" {name} "))
}

/// Whether a type of this name is PostgreSQL's own.
pub(super) fn type_name(name: &str) -> bool {
    const OWN: &str = " aclitem bit bool box bpchar bytea char cid cidr circle date datemultirange daterange float4 float8 inet int2 \
        int2vector int4 int4multirange int4range int8 int8multirange int8range interval json jsonb jsonpath line lseg macaddr \
        macaddr8 money name numeric nummultirange numrange oid oidvector path pg_lsn pg_snapshot point polygon record refcursor \
        regclass regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure regrole regtype text \
        tid time timestamp timestamptz timetz tsmultirange tsquery tsrange tstzmultirange tstzrange tsvector txid_snapshot uuid \
        varbit varchar xid xid8 xml unknown cstring void anyelement anyarray gtsvector pg_brin_bloom_summary \
        pg_brin_minmax_multi_summary pg_ddl_command pg_dependencies pg_mcv_list pg_ndistinct pg_node_tree ";
    let base = name.strip_prefix('_').unwrap_or(name);
    !base.is_empty() && !base.contains(' ') && OWN.contains(&format!(" {base} "))
}

/// Whether a call of this name with one argument converts to the type of PostgreSQL that has it.
pub(super) fn converts_by_name(name: &str) -> bool {
    let pseudo = matches!(name, "unknown" | "cstring" | "void" | "anyelement" | "anyarray" | "record");
    !pseudo && !name.starts_with('_') && type_name(name)
}

/// Whether a function is one of those that the views of `information_schema` are made with. All of them only compute, or
/// look a number up in the catalog.
pub(super) fn information_schema_function(schema: Option<&str>, name: &str) -> bool {
    schema == Some("information_schema")
        && matches!(
            name,
            "_pg_char_max_length"
                | "_pg_char_octet_length"
                | "_pg_datetime_precision"
                | "_pg_expandarray"
                | "_pg_index_position"
                | "_pg_interval_type"
                | "_pg_numeric_precision"
                | "_pg_numeric_precision_radix"
                | "_pg_numeric_scale"
                | "_pg_truetypid"
                | "_pg_truetypmod"
        )
}

/// Whether a type is one of the domains that the columns of `information_schema` have.
pub(super) fn information_schema_type(schema: Option<&str>, name: &str) -> bool {
    schema == Some("information_schema")
        && matches!(
            name,
            "cardinal_number" | "character_data" | "sql_identifier" | "time_stamp" | "yes_or_no"
        )
}

/// Whether a function of PostgreSQL tells what the catalog, or a view of the server's state, tells: definitions, names,
/// privileges, sizes, statistics, settings.
pub(super) fn tells_catalog(name: &str) -> bool {
    const WHOLE: &str = " col_description format_type obj_description pg_available_extension_versions pg_available_extensions \
        pg_blocking_pids pg_collation_actual_version pg_column_is_updatable pg_config pg_control_checkpoint pg_control_init \
        pg_control_recovery pg_control_system pg_cursor pg_database_collation_actual_version pg_database_size \
        pg_describe_object pg_extension_update_paths pg_filenode_relation pg_has_role pg_identify_object \
        pg_identify_object_as_address pg_index_column_has_property pg_index_has_property pg_indexes_size \
        pg_listening_channels pg_lock_status pg_options_to_table pg_partition_ancestors pg_partition_root \
        pg_partition_tree pg_prepared_statement pg_relation_filenode pg_relation_filepath pg_relation_is_publishable \
        pg_relation_is_updatable pg_relation_size pg_replication_origin_oid pg_safe_snapshot_blocking_pids \
        pg_sequence_last_value pg_sequence_parameters pg_settings_get_flags pg_show_all_settings pg_table_size \
        pg_tablespace_databases pg_tablespace_location pg_tablespace_size pg_total_relation_size row_security_active \
        shobj_description ";
    // Words of the grammar, and what the recovery of a standby is doing: nothing of the catalog.
    const NOT: [&str; 2] = ["pg_get_keywords", "pg_get_wal_replay_pause_state"];
    (!name.contains(' ') && WHOLE.contains(&format!(" {name} ")))
        || (name.starts_with("pg_get_") && !NOT.contains(&name))
        || name.starts_with("pg_stat_get_")
        || name.starts_with("to_reg")
        || (name.starts_with("has_") && name.ends_with("_privilege"))
        || (name.starts_with("pg_") && name.ends_with("_is_visible"))
}

/// Whether a type is a number of an object of the catalog, shown by its name.
pub(super) fn object_number(name: &str) -> bool {
    let base = name.strip_prefix('_').unwrap_or(name);
    matches!(
        base,
        "regclass"
            | "regcollation"
            | "regconfig"
            | "regdictionary"
            | "regnamespace"
            | "regoper"
            | "regoperator"
            | "regproc"
            | "regprocedure"
            | "regrole"
            | "regtype"
    )
}

/// Whether a relation belongs to the database itself.
pub(super) fn system_relation(table: &TableRef) -> bool {
    match table.schema.as_deref() {
        Some(schema) => {
            schema == "information_schema" || schema == "pg_catalog" || schema.starts_with("pg_toast")
        }
        None => table.name.starts_with("pg_"),
    }
}
