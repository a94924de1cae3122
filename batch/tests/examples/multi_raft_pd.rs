//! Three stores with a real Raft and the placement driver, each a process of its own. The driver is killed in between, and
//! comes back with what is on its disk.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::multi_raft;
use super::multi_raft::arguments::Arguments;

const ARGUMENTS: &str = "REGIONMETA_TEST_ARGUMENTS";

/// Not a test of its own: one store of the example. Does nothing without a parent.
#[test]
#[ignore = "plays a store in the test that needs three"]
fn store_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    multi_raft::run(arguments.lines().map(str::to_owned)).unwrap();
}

/// This test binary again, in the place of the example's.
fn again(arguments: &[String]) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "multi_raft_pd::store_process", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ARGUMENTS, arguments.join("\n"));
    Ok(command)
}

struct Pd(Child);

impl Pd {
    /// Starts it, and says where it listens.
    fn spawn(directory: &Path, listen: &str) -> (Self, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regionmeta-pd"));
        command.arg("--data-dir").arg(directory).args(["--cluster-id", "7", "--listen", listen]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        (Self(child), address)
    }
}

impl Drop for Pd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn three_processes_and_a_driver_that_dies() {
    let directory = TempDir::new().unwrap();
    let (pd, address) = Pd::spawn(directory.path(), "127.0.0.1:0");
    std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            let arguments = ["--pd", &address, "--seconds", "55"].map(str::to_owned);
            let arguments = Arguments::parse(arguments).unwrap();
            multi_raft::processes::run(&arguments, again).map_err(|error| error.to_string())
        });
        std::thread::sleep(Duration::from_secs(2)); // wherever the story is then
        drop(pd);
        let _pd = Pd::spawn(directory.path(), &address);
        told.join().unwrap().unwrap();
    });
}
