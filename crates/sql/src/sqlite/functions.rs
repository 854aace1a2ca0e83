//! Which functions of SQLite are known to change nothing.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::statement::{
    Category::{self, Admin, Files, Process},
    Effect::{self, Destructive, Write},
};

/// Functions that are part of SQLite and do more than compute, and those of its command-line shell.
pub(super) fn harmful(name: &str) -> Option<(Effect, &'static [Category], &'static str)> {
    Some(match name {
        "load_extension" => (Destructive, &[Process, Files], "loads code from a file"),
        "writefile" => (Destructive, &[Files], "writes a file"),
        "readfile" | "lsmode" | "fsdir" => (Write, &[Files], "reads files"),
        "edit" => (Destructive, &[Process, Files], "starts an editor"),
        "fts3_tokenizer" => (Destructive, &[Process], "can install code by its address"),
        "sqlite_log" => (Write, &[Admin], "writes to the error log"),
        "optimize" => (Write, &[Category::Data], "merges the segments of a full-text index"),
        _ => return None,
    })
}

/// Functions that only compute or read.
pub(super) fn harmless(name: &str) -> bool {
    HARMLESS.contains(name)
}

static HARMLESS: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| NAMES.split_ascii_whitespace().collect());

const NAMES: &str = "-> ->> abs acos acosh asin asinh atan atan2 atanh avg bm25 ceil ceiling changes char coalesce concat \
    concat_ws cos cosh count cume_dist current_date current_time current_timestamp date datetime degrees dense_rank exp \
    first_value floor format fts5_get_locale fts5_insttoken fts5_locale fts5_source_id glob group_concat hex highlight if ifnull \
    iif instr json json_array json_array_insert json_array_length json_error_position json_extract json_group_array \
    json_group_object json_insert json_object json_patch json_pretty json_quote json_remove json_replace json_set json_type \
    json_valid jsonb jsonb_array jsonb_array_insert jsonb_extract jsonb_group_array jsonb_group_object jsonb_insert jsonb_object \
    jsonb_patch jsonb_remove jsonb_replace jsonb_set julianday lag last_insert_rowid last_value lead length like likelihood \
    likely ln log log10 log2 lower ltrim match matchinfo max median min mod nth_value ntile nullif octet_length offsets \
    percent_rank percentile percentile_cont percentile_disc pi pow power printf quote radians random randomblob rank replace \
    round row_number rtrim sign sin sinh snippet soundex sqlite_compileoption_get sqlite_compileoption_used sqlite_source_id \
    sqlite_version sqrt strftime string_agg subtype substr substring sum tan tanh time timediff total total_changes trim trunc \
    typeof unhex unicode unistr unistr_quote unixepoch unlikely upper zeroblob";

/// Table-valued functions that only compute or read.
pub(super) fn table_valued(name: &str) -> bool {
    match name.strip_prefix("pragma_") {
        Some(pragma) => super::pragma::table_valued(pragma),
        None => matches!(name, "json_each" | "json_tree" | "jsonb_each" | "jsonb_tree"),
    }
}
