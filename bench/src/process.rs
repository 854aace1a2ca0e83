//! The processes that are measured: started, asked for their address, their processor time and memory.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// A child process that is killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// Starts a program and reads its first line of output.
pub(crate) fn start(program: &Path, arguments: &[&str]) -> anyhow::Result<(Process, String)> {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures processes of its own")]
    let mut command = Command::new(program);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let output = child.stdout.take().context("no output")?;
    let mut line = String::new();
    let read = BufReader::new(output).read_line(&mut line)?;
    ensure!(read > 0, "{} printed no address", program.display());
    Ok((Process(child), line.trim().to_owned()))
}

impl Process {
    /// Asks the process to end, and waits until it has.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "a benchmark ends what it started")]
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status()?;
        ensure!(asked.success(), "the process cannot be asked to end");
        let ended = self.0.wait()?;
        ensure!(ended.success(), "the process ended with {ended}");
        Ok(())
    }

    /// Processor time used so far, in microseconds (proc(5), fields 14 and 15 of `stat`; 100 ticks a second).
    pub(crate) fn cpu_us(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, after) = stat.rsplit_once(')').context("stat")?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |at: usize| -> anyhow::Result<f64> { Ok(fields.get(at).context("stat")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) * 10_000.0)
    }

    /// Resident memory, in MiB.
    pub(crate) fn memory_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}

/// Serves a router on a free loopback port and prints its address.
pub(crate) async fn serve(router: axum::Router) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    writeln!(out, "http://{}/mcp", listener.local_addr()?)?;
    out.flush()?;
    axum::serve(listener, router).await?;
    Ok(())
}
