//! The command line, read by hand: a verifier should be small enough to read.

use std::{ffi::OsString, path::PathBuf};

use countersign_audit::VerifierKey;

pub(crate) const HELP: &str = "\
Verify a Countersign log, or one entry of it, without trusting whoever keeps it.

Usage:
  countersign-verify LOGDIR --key VKEY [--checkpoint FILE]... [--json]
  countersign-verify --proof FILE --key VKEY [--entry FILE] [--json]

Arguments:
  LOGDIR             a log exported by `countersign audit export`: a folder with `checkpoint` and `tile/`
  --proof FILE       one entry with its proof, exported by `countersign audit prove`
  --key VKEY         the log's public key, such as `acme.example/log+1f2e3d4c+AV...`
  --key-file FILE    the same, from a file with one line
  --checkpoint FILE  another signed checkpoint of this log, kept elsewhere; may be repeated
  --entry FILE       the entry to prove, when the proof does not contain it
  --json             one JSON object instead of text
  --help, --version

Where the key must come from:
  Not from the folder. Whoever can change the log can change the `vkey` file in it. Get the key once from
  the operator on another way (a web site, a contract, a colleague) and keep it.

What is checked:
  Every entry is hashed again, the tree is built again, and its root is compared with the one that the
  key has signed. A changed, removed, inserted or reordered entry is named by its number; so are wrong or
  missing tiles. Numbers begin at 0.

What only kept checkpoints can show:
  That the tail was cut off, and that another history was shown to somebody else. A log that ends early is
  in itself a perfect log. Keep a copy of `checkpoint` from time to time, off the machine that keeps the
  log, and give all of them with --checkpoint.

Exit codes:
  0  verified
  1  findings: something is not as it was signed (all findings are printed, each with a stable code)
  2  no answer: wrong usage, or a file cannot be read

Examples:
  countersign-verify ./export --key \"$(cat acme.vkey)\" --checkpoint kept/2026-03-01 --checkpoint kept/2026-03-02
  countersign-verify --proof entry-73894.tlog-proof --key-file acme.vkey
";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    Help,
    Version,
    Log(LogArguments),
    Proof(ProofArguments),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogArguments {
    pub(crate) folder: PathBuf,
    pub(crate) key: Key,
    pub(crate) checkpoints: Vec<PathBuf>,
    pub(crate) json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProofArguments {
    pub(crate) file: PathBuf,
    pub(crate) key: Key,
    pub(crate) entry: Option<PathBuf>,
    pub(crate) json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Given(VerifierKey),
    File(PathBuf),
}

pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let mut arguments = arguments.into_iter();
    let (mut folder, mut key, mut proof, mut entry) = (None, None, None, None);
    let (mut checkpoints, mut json) = (Vec::new(), false);
    while let Some(argument) = arguments.next() {
        let mut value = |name: &str| arguments.next().ok_or_else(|| format!("`{name}` needs a value"));
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(Arguments::Help),
            Some("--version" | "-V") => return Ok(Arguments::Version),
            Some("--json") => json = true,
            Some("--key") => once(&mut key, "--key", given_key(&value("--key")?)?)?,
            Some("--key-file") => once(&mut key, "--key", Key::File(value("--key-file")?.into()))?,
            Some("--checkpoint") => checkpoints.push(value("--checkpoint")?.into()),
            Some("--proof") => once(&mut proof, "--proof", value("--proof")?.into())?,
            Some("--entry") => once(&mut entry, "--entry", value("--entry")?.into())?,
            Some(option) if option.starts_with('-') && option != "-" => {
                return Err(format!("there is no option `{}`", option.escape_debug()));
            }
            Some(_) | None => once(&mut folder, "LOGDIR", argument.into())?,
        }
    }
    let key = key.ok_or(
        "the log's public key is missing: give it with `--key`; never take it from the log's folder",
    )?;
    match (folder, proof) {
        (Some(folder), None) if entry.is_none() => {
            Ok(Arguments::Log(LogArguments { folder, key, checkpoints, json }))
        }
        (None, Some(file)) if checkpoints.is_empty() => {
            Ok(Arguments::Proof(ProofArguments { file, key, entry, json }))
        }
        (None, None) => Err("there is nothing to verify: give a log's folder or `--proof FILE`".into()),
        (Some(_), Some(_)) => Err("give either a log's folder or `--proof FILE`, not both".into()),
        (Some(_), None) => Err("`--entry` goes with `--proof`".into()),
        (None, Some(_)) => Err("`--checkpoint` goes with a log's folder".into()),
    }
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("`{name}` is given twice")),
    }
}

fn given_key(text: &OsString) -> Result<Key, String> {
    let text = text.to_str().ok_or("the key is not text")?;
    text.trim().parse().map(Key::Given).map_err(|error| format!("`--key` is not a verifier key: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    fn parsed(arguments: &[&str]) -> Result<Arguments, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn both_forms_are_read_in_any_order() {
        let key = || Key::Given(VKEY.parse().unwrap());
        let log = LogArguments {
            folder: "dir".into(),
            key: key(),
            checkpoints: vec!["a".into(), "b".into()],
            json: true,
        };
        let arguments = ["--checkpoint", "a", "--json", "dir", "--key", VKEY, "--checkpoint", "b"];
        assert_eq!(parsed(&arguments), Ok(Arguments::Log(log)));
        let proof = ProofArguments {
            file: "p".into(),
            key: Key::File("k".into()),
            entry: Some("e".into()),
            json: false,
        };
        assert_eq!(parsed(&["--key-file", "k", "--entry", "e", "--proof", "p"]), Ok(Arguments::Proof(proof)));
        assert_eq!(parsed(&["dir", "--help"]), Ok(Arguments::Help));
        assert_eq!(parsed(&["-V"]), Ok(Arguments::Version));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for arguments in [
            &[][..],
            &["dir"],
            &["--key", VKEY],
            &["dir", "--key"],
            &["dir", "--key", "nonsense"],
            &["dir", "--key", VKEY, "--key", VKEY],
            &["dir", "--key", VKEY, "--key-file", "k"],
            &["dir", "dir2", "--key", VKEY],
            &["dir", "--key", VKEY, "--proof", "p"],
            &["dir", "--key", VKEY, "--entry", "e"],
            &["--proof", "p", "--key", VKEY, "--checkpoint", "c"],
            &["dir", "--key", VKEY, "--force"],
        ] {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
    }
}
