//! A whole log: read, verified, reported.

use countersign_audit::{
    BundleId, Checkpoint, Finding, Report, TileId, Verification, VerifierKey, export, note::NOTE_BYTES_MAX,
    time,
};

use crate::{
    Printed,
    arguments::LogArguments,
    folder::{self, Folder, named},
    shown,
};

/// The most findings and file names in the report for people; the JSON report has all of them.
const LINES_MAX: usize = 50;

pub(crate) fn verify(arguments: &LogArguments) -> Result<Printed, String> {
    let key = folder::key(&arguments.key)?;
    let mut folder = Folder(arguments.folder.clone());
    let checkpoint = folder.checkpoint()?;
    let in_folder = folder.checkpoints()?;
    let mut kept = Vec::new();
    for path in &arguments.checkpoints {
        kept.push((path.to_string_lossy().into_owned(), folder::read_named(path, NOTE_BYTES_MAX)?));
    }
    let mut verification = Verification::new(&key, &checkpoint);
    for (source, note) in kept.iter().chain(&in_folder) {
        verification = verification.with_checkpoint(source, note);
    }
    let mut report = verification.run(&mut folder)?;
    check_names(&mut report, &key, &in_folder);
    check_vkey(&mut report, &key, folder.vkey()?.as_deref());
    if arguments.json {
        return Ok(Printed { text: format!("{}\n", report.to_json()), good: report.verified() });
    }
    let files = folder.files()?;
    let strangers = strangers(&files, report.size);
    Ok(Printed { text: describe(&report, &key, &strangers), good: report.verified() })
}

/// An earlier checkpoint is named by its size; a good one under another name is a mix-up.
fn check_names(report: &mut Report, key: &VerifierKey, in_folder: &[(String, Vec<u8>)]) {
    for (path, note) in in_folder {
        let Ok(checkpoint) = Checkpoint::open(note, key) else { continue };
        if *path != format!("{}/{}", export::CHECKPOINTS, checkpoint.size()) {
            let reason = format!("it is signed for {} entries, which is not its name", checkpoint.size());
            report.push(Finding::FileMismatch { file: path.clone(), reason });
        }
    }
}

/// The folder's own key vouches for nothing, but another one than the trusted is a mix-up or worse.
fn check_vkey(report: &mut Report, key: &VerifierKey, vkey: Option<&str>) {
    if vkey.is_some_and(|vkey| vkey.strip_suffix('\n').unwrap_or(vkey) != key.to_string()) {
        let reason = "it is another key than the trusted one".to_owned();
        report.push(Finding::FileMismatch { file: export::VKEY.to_owned(), reason });
    }
}

/// Files that are not part of the log of this size, such as partial tiles of earlier exports.
fn strangers(files: &[String], size: u64) -> Vec<&str> {
    let earlier = format!("{}/", export::CHECKPOINTS);
    let known = |path: &str| {
        path == export::CHECKPOINT
            || path == export::VKEY
            || path.starts_with(&earlier)
            || TileId::parse_path(path).is_ok_and(|tile| tile.belongs_to(size))
            || BundleId::parse_path(path).is_ok_and(|bundle| bundle.belongs_to(size))
    };
    files.iter().map(String::as_str).filter(|path| !known(path)).collect()
}

fn describe(report: &Report, key: &VerifierKey, strangers: &[&str]) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: &str| out.push_str(&format!("{name:<12} {text}\n"));
    line("key", &key.to_string());
    if let (Some(origin), Some(root)) = (&report.origin, &report.root) {
        line("log", &shown(origin));
        line("signed", &format!("{} entries with root {root}", report.size));
        line("entries", &format!("{} of {} are what was signed", report.entries_verified, report.size));
        let agree = report.checkpoints_verified;
        line(
            "checkpoints",
            &format!("{agree} other{} of the same history", if agree == 1 { " is" } else { "s are" }),
        );
        describe_more(&mut line, report, strangers);
    } else {
        line("log", "not read, as there is no signed checkpoint to compare it with");
    }
    if report.verified() {
        out.push_str("\nVERIFIED\n");
        return out;
    }
    let count =
        u64::try_from(report.findings.len()).unwrap_or(u64::MAX).saturating_add(report.findings_omitted);
    out.push_str(&format!("\nNOT VERIFIED: {count} finding{}\n", if count == 1 { "" } else { "s" }));
    for finding in report.findings.iter().take(LINES_MAX) {
        out.push_str(&format!("  {:<24} {}\n", finding.code(), shown(&finding.to_string())));
    }
    if report.findings.len() > LINES_MAX {
        out.push_str("  … `--json` lists more\n");
    }
    out
}

/// What is good to know and neither good nor bad.
fn describe_more(line: &mut impl FnMut(&str, &str), report: &Report, strangers: &[&str]) {
    if let Some((first, last)) = report.times_ms {
        let text = |at_ms| time::format_ms(at_ms).unwrap_or_default();
        line("written", &format!("{} to {}, as the entries say", text(first), text(last)));
    }
    if report.unknown_versions > 0 {
        let entries = report.unknown_versions;
        line(
            "note",
            &format!(
                "{entries} entries of a newer version: their bytes were verified, their meaning was not read"
            ),
        );
    }
    if !strangers.is_empty() {
        let first: Vec<String> = strangers.iter().take(5).map(|path| named(path.as_ref())).collect();
        let more = if strangers.len() > 5 { ", …" } else { "" };
        let count = strangers.len();
        line(
            "note",
            &format!("{count} files are not part of this log and were not read: {}{more}", first.join(", ")),
        );
    }
}
