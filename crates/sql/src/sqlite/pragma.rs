//! Pragmas: which of them only read, in which form.

use sqlite3_parser::ast::PragmaBody;

use crate::statement::{
    Category::{self, Admin, Data, Files, Schema, Session},
    Effect::{self, Destructive, Write},
};

/// Read without a value; with one they set something. `journal_mode` is not among them: SQLite itself does not call it
/// a read, for it may have to recover the journal.
const SETTINGS: &str = " analysis_limit application_id auto_vacuum automatic_index busy_timeout cache_size cache_spill cell_size_check \
    checkpoint_fullfsync count_changes default_cache_size defer_foreign_keys empty_result_callbacks encoding foreign_keys \
    full_column_names fullfsync hard_heap_limit ignore_check_constraints journal_size_limit legacy_alter_table \
    legacy_file_format locking_mode max_page_count mmap_size page_size query_only read_uncommitted recursive_triggers \
    reverse_unordered_selects schema_version secure_delete short_column_names soft_heap_limit synchronous temp_store threads \
    trusted_schema user_version wal_autocheckpoint writable_schema ";

/// Read with or without an argument.
const REPORTS: &str = " collation_list compile_options data_version database_list foreign_key_check foreign_key_list freelist_count \
    function_list index_info index_list index_xinfo integrity_check module_list page_count pragma_list quick_check table_info \
    table_list table_xinfo ";

/// Settings that guard, and whether they do while they are on. SQLite takes any word that it does not know for off.
const GUARDS: [(&str, bool); 6] = [
    ("foreign_keys", true),
    ("ignore_check_constraints", false),
    ("recursive_triggers", true),
    ("writable_schema", false),
    ("trusted_schema", false),
    ("query_only", true),
];

/// None when the pragma only reads; otherwise how much it does, what it is about, and a text that follows its name.
pub(super) fn judge(name: &str, body: Option<&PragmaBody<'_>>) -> Option<Judgement> {
    if member(REPORTS, name) || (body.is_none() && member(SETTINGS, name)) {
        return None;
    }
    let effect = if disables(name, body) { Destructive } else { Write };
    let (categories, text): (&'static [Category], _) = match name {
        "writable_schema" => (&[Schema, Admin], "opens the schema for direct changes, or closes it"),
        "user_version" | "application_id" | "schema_version" => {
            (&[Schema], "changes the header of the database")
        }
        "journal_mode" | "auto_vacuum" | "page_size" | "encoding" | "wal_checkpoint"
        | "incremental_vacuum" | "optimize" | "shrink_memory" | "locking_mode" | "max_page_count" => {
            (&[Admin], "changes how the database is kept")
        }
        "temp_store_directory" | "data_store_directory" => (&[Files, Admin], "changes where files are kept"),
        // Deferred checks are made when the transaction commits.
        "ignore_check_constraints" | "foreign_keys" | "defer_foreign_keys" | "recursive_triggers" => {
            (&[Session, Data], "changes which rules hold for what follows")
        }
        "case_sensitive_like" => (&[Session], "changes what comparisons mean"),
        _ if member(SETTINGS, name) => (&[Session], "changes a setting of the connection"),
        _ => (&[Admin, Category::Opaque], "is not known to change nothing"),
    };
    Some((effect, categories, text))
}

/// An effect, categories, and words.
pub(super) type Judgement = (Effect, &'static [Category], &'static str);

/// Whether it takes away what guards the rows, or their way back after a crash.
fn disables(name: &str, body: Option<&PragmaBody<'_>>) -> bool {
    let Some(body) = body else { return false };
    let value = value(body);
    let on = matches!(value.as_str(), "on" | "yes" | "true" | "1");
    let off = matches!(value.as_str(), "off" | "no" | "false" | "0");
    match name {
        // Without a journal nothing is rolled back; one in memory is lost in a crash.
        "journal_mode" => matches!(value.as_str(), "off" | "memory"),
        "synchronous" => !matches!(value.as_str(), "normal" | "1" | "full" | "2" | "extra" | "3"),
        _ => GUARDS.iter().any(|(guard, guards_on)| {
            // A value in another spelling may mean either.
            *guard == name && if *guards_on { !on } else { !off }
        }),
    }
}

/// The value as it is written, without quotes and in one case.
fn value(body: &PragmaBody<'_>) -> String {
    let (PragmaBody::Equals(value) | PragmaBody::Call(value)) = body;
    value.to_string().trim().trim_matches(['\'', '"', '`', '[', ']']).to_ascii_lowercase()
}

/// Whether `pragma_NAME` as a table only reads. SQLite offers as tables only pragmas without side effects, but the list
/// is kept here all the same.
pub(super) fn table_valued(name: &str) -> bool {
    member(REPORTS, name) || member(SETTINGS, name)
}

fn member(list: &str, name: &str) -> bool {
    !name.is_empty() && !name.contains(' ') && list.contains(&format!(" {name} "))
}
