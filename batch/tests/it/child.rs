//! This binary run again as another process: what needs a second owner, other rights, or a kill -9.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

const ROLE: &str = "REGIONMETA_TEST_CHILD";
const DIRECTORY: &str = "REGIONMETA_TEST_DIRECTORY";
/// Begins every line that a child means for its parent; the test runner prints lines of its own.
const MARK: &str = "@child ";
/// Ends every such line: one that a kill cut off was not said.
const END: &str = " @";

/// Not a test of its own: does what the parent asked for, and nothing without a parent.
#[test]
#[ignore = "plays the other process in tests that need one"]
fn child() {
    let (Ok(role), Ok(directory)) = (std::env::var(ROLE), std::env::var(DIRECTORY)) else { return };
    let directory = Path::new(&directory);
    match role.as_str() {
        "hold" => crate::directory::child_holds(directory),
        "try" => crate::directory::child_tries(directory),
        "large batches" => crate::memory::child_writes_large_batches(directory),
        "disk full" => crate::disk_full::child_fills(directory),
        "commit synced" => crate::kill::child_commits(directory, true),
        "commit buffered" => crate::kill::child_commits(directory, false),
        #[cfg(target_os = "linux")]
        "power synced" => crate::power::child_writes(directory, true),
        #[cfg(target_os = "linux")]
        "power buffered" => crate::power::child_writes(directory, false),
        "change" => crate::bounds::child_changes(directory),
        "recover" => crate::recovery_crash::child_recovers(directory),
        other => panic!("no such role: {other}"),
    }
}

/// Says a line to the parent, at once.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The line break in front ends whatever the test runner has begun.
    out.write_all(format!("\n{MARK}{line}{END}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The command that runs a role in a directory; the caller may change user or group before it spawns.
pub(crate) fn command(role: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child::child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(DIRECTORY, directory).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// A running child, killed with SIGKILL at the latest when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn spawn(role: &str, directory: &Path) -> Self {
        Self::from_command(command(role, directory)).unwrap()
    }

    pub(crate) fn from_command(mut command: Command) -> std::io::Result<Self> {
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Ok(Self { child, lines })
    }

    /// The next line that the child said; `None` when it has ended.
    pub(crate) fn heard(&mut self) -> Option<String> {
        for line in self.lines.by_ref() {
            if let Some(said) = line.ok()?.strip_prefix(MARK).and_then(|said| said.strip_suffix(END)) {
                return Some(said.to_owned());
            }
        }
        None
    }

    /// SIGKILL, then the rest of what it said.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let rest = std::iter::from_fn(|| self.heard()).collect();
        self.child.wait().unwrap();
        rest
    }
}

impl Running {
    /// Waits for its end. True if it was killed, false if it came to its end.
    pub(crate) fn was_killed(mut self) -> bool {
        while self.heard().is_some() {}
        let status = self.child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "the child failed: {status}");
        !status.success()
    }

    /// SIGKILL after a while, wherever the child then is; returns everything that it said.
    pub(crate) fn kill_after(&mut self, delay: Duration) -> Vec<String> {
        let pid = Pid::from_child(&self.child);
        let said = std::thread::scope(|scope| {
            // The child is waited for after this scope only, so its number cannot have become another process's.
            scope.spawn(move || {
                std::thread::sleep(delay);
                rustix::process::kill_process(pid, Signal::KILL).unwrap();
            });
            // Listening all the while: a child that waits for its parent to listen would not be writing to its disk.
            std::iter::from_fn(|| self.heard()).collect()
        });
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the child ended by itself: {status}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
