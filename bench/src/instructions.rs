//! Instructions of the gateway for one guarded write, as callgrind counts them. Unlike time this figure hardly wavers, so that it
//! can be held to one that is committed.
//!
//! Two gateways do the same but for the number of calls, so that starting and stopping cancel out. One caller: how many calls
//! share a commit depends on the moment.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::{
    gateway,
    load::{self, Target},
    process, progress,
};

/// More than the committed figure by this factor is too many.
const MORE_MAX: f64 = 1.1;
/// Fewer by this factor, and the committed figure is to be lowered.
const LESS_MAX: f64 = 0.8;
const CALLS: [u32; 2] = [100, 500];

/// Measures, and compares with the figure in the file, where there is one.
///
/// # Errors
/// Fails where the figure is not near the committed one.
pub(crate) async fn measure(binary: &Path, committed: &Path) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let me = std::env::current_exe()?;
    let (_upstream, direct) = process::start(&me, &["upstream"])?;
    let mut totals = Vec::new();
    for calls in CALLS {
        progress(&format!("{calls} calls under callgrind …"));
        totals.push(total(binary, &folder.path().join(calls.to_string()), &direct, calls).await?);
    }
    let [few, many] = CALLS.map(f64::from);
    let (Some(less), Some(more)) = (totals.first(), totals.last()) else { anyhow::bail!("no totals") };
    let each = (more - less) / (many - few);
    let Ok(text) = std::fs::read_to_string(committed) else {
        return Ok(format!(
            "{}; no figure is committed: write {each:.0} to {}",
            words(each),
            committed.display()
        ));
    };
    let written = text.trim().parse().with_context(|| format!("{} holds no number", committed.display()))?;
    compare(each, written)
}

fn words(each: f64) -> String {
    format!("{:.0} thousand instructions for a guarded write of one caller", each / 1e3)
}

/// Says how a figure stands to the committed one.
///
/// # Errors
/// Fails where it is not near.
fn compare(each: f64, written: f64) -> anyhow::Result<String> {
    let said = format!("{}, {:.2} x what is committed", words(each), each / written);
    ensure!(each <= written * MORE_MAX, "{said}: at most {MORE_MAX}");
    ensure!(each >= written * LESS_MAX, "{said}: write {each:.0} there");
    Ok(said)
}

/// All instructions of a gateway that serves so many calls, from its start to its end.
async fn total(binary: &Path, folder: &Path, upstream: &str, calls: u32) -> anyhow::Result<f64> {
    let counts: PathBuf = folder.join("callgrind.out");
    let to = format!("--callgrind-out-file={}", counts.display());
    let under = ["valgrind", "--tool=callgrind", "--quiet", &to];
    let gateway = gateway::start_under(&under, binary, folder, upstream, "path = \"countersign.db\"")?;
    let target = Target { url: gateway.url.clone(), key: Some(gateway.key.clone()), tool: "write" };
    load::repeat(&target, calls).await?;
    gateway.process.end()?;
    let text = std::fs::read_to_string(&counts).context("callgrind has written nothing")?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals:")).context("no totals")?;
    Ok(line.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn a_figure_stays_near_what_is_committed() {
        assert!(compare(1_099_000.0, 1_000_000.0).is_ok());
        assert!(compare(801_000.0, 1_000_000.0).is_ok());
        assert!(compare(1_101_000.0, 1_000_000.0).unwrap_err().to_string().ends_with("at most 1.1"));
        assert!(compare(799_000.0, 1_000_000.0).unwrap_err().to_string().ends_with("write 799000 there"));
        assert!(compare(1.0, f64::NAN).is_err());
    }
}
