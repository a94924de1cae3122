//! The parent's half while the child lives: it hears what is acknowledged, kills, and never waits for ever.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::Error;
use super::acks::Acknowledged;
use super::messages::{Message, ServeStats};
use super::progress::Progress;

/// Lines that may wait to be heard; a child that is faster than its parent waits.
const LINES_WAITING_MAX: usize = 1024;
const SIGKILL: i32 = 9;

/// When the child is killed, and when the parent gives it up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// From the end of serving to the kill.
    pub(super) kill_after: Duration,
    /// How long the child may say nothing.
    pub(super) silence_max: Duration,
    /// How long the child may take from the begin of serving to its end.
    pub(super) serving_max: Duration,
}

/// Runs a child until it is killed as planned, and returns what it acknowledged and measured.
///
/// A child that fails, ends by itself or hangs is an error. No child is left behind.
pub(super) fn run_and_kill(
    command: &mut Command,
    plan: Plan,
    progress: &Progress,
) -> Result<(Acknowledged, ServeStats), Error> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut listener = Listener::new(plan, progress);
    let heard = listener.listen(&mut child);
    let _ = child.kill();
    let status = child.wait()?;
    heard?;
    listener.result(status)
}

struct Listener<'a> {
    plan: Plan,
    progress: &'a Progress,
    acknowledged: Acknowledged,
    served: Option<ServeStats>,
    last_line: Instant,
    serving_until: Option<Instant>,
    kill_at: Option<Instant>,
    killed: bool,
}

impl<'a> Listener<'a> {
    fn new(plan: Plan, progress: &'a Progress) -> Self {
        Self {
            plan,
            progress,
            acknowledged: Acknowledged::default(),
            served: None,
            last_line: Instant::now(),
            serving_until: None,
            kill_at: None,
            killed: false,
        }
    }

    /// Hears the child to its end, and kills it on the way. What is in the pipe when it dies was acknowledged and counts.
    fn listen(&mut self, child: &mut Child) -> Result<(), Error> {
        let stdout = child.stdout.take().ok_or("the child has no stdout")?;
        let (sender, lines) = sync_channel(LINES_WAITING_MAX);
        // It ends with the pipe. Nobody joins it: somebody else may have inherited the pipe's other end.
        std::thread::Builder::new().name("demo-lines".to_owned()).spawn(move || forward(stdout, &sender))?;
        while self.hear_next(&lines)? {
            let now = Instant::now();
            if self.kill_at.is_some_and(|at| now >= at) {
                child.kill()?;
                (self.killed, self.kill_at, self.last_line) = (true, None, now);
            }
            self.check_alive(now)?;
        }
        Ok(())
    }

    /// Waits for a line or for the next deadline; whether more lines may follow.
    fn hear_next(&mut self, lines: &Receiver<std::io::Result<String>>) -> Result<bool, Error> {
        let silence_until = self.last_line + self.plan.silence_max;
        let deadline = [self.kill_at, self.serving_until].into_iter().flatten().fold(silence_until, Instant::min);
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => self.hear(&line?).map(|()| true),
            Err(RecvTimeoutError::Timeout) => Ok(true),
            Err(RecvTimeoutError::Disconnected) => Ok(false),
        }
    }

    fn hear(&mut self, line: &str) -> Result<(), Error> {
        self.last_line = Instant::now();
        match Message::parse(line)? {
            Message::Grown(regions) => self.progress.grown(regions),
            Message::Serving => {
                self.progress.serving();
                self.serving_until = Some(self.last_line + self.plan.serving_max);
            }
            Message::Committed(commit) => self.acknowledged.add(commit),
            Message::Served(stats) => {
                self.served = Some(stats);
                self.serving_until = None;
                self.kill_at = Some(self.last_line + self.plan.kill_after);
            }
            Message::Failed(why) => return Err(format!("the child failed: {why}").into()),
        }
        Ok(())
    }

    fn check_alive(&self, now: Instant) -> Result<(), Error> {
        if self.serving_until.is_some_and(|until| now >= until) {
            return Err(
                format!("the child still serves after {:?}: it hangs, and was killed", self.plan.serving_max).into()
            );
        }
        if now >= self.last_line + self.plan.silence_max {
            return Err(
                format!("the child said nothing for {:?}: it hangs, and was killed", self.plan.silence_max).into()
            );
        }
        Ok(())
    }

    /// What was heard counts only if it was the kill that ended the child.
    fn result(self, status: ExitStatus) -> Result<(Acknowledged, ServeStats), Error> {
        if !self.killed || status.signal() != Some(SIGKILL) {
            return Err(format!("the child ended before it was killed ({status}); its message is above").into());
        }
        let served = self.served.ok_or("the child was killed before it had served")?;
        Ok((self.acknowledged, served))
    }
}

/// Sends whole lines until the pipe ends. A line without its end was cut by the kill: its commit was not acknowledged.
fn forward(pipe: impl Read, lines: &SyncSender<std::io::Result<String>>) {
    let mut pipe = BufReader::with_capacity(1 << 20, pipe);
    loop {
        let mut line = String::new();
        let sent = match pipe.read_line(&mut line) {
            Ok(_) if !line.ends_with('\n') => return,
            Ok(_) => lines.send(Ok(line)),
            Err(error) => lines.send(Err(error)),
        };
        if sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script as the child; `$1` is the message of having served.
    fn supervise(script: &str) -> Result<(Acknowledged, ServeStats), String> {
        let served = Message::Served(ServeStats::default()).to_line().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", served.trim_end()]);
        let plan = Plan {
            kill_after: Duration::from_millis(100),
            // A child that has served is silent, and is killed long before that is a reason.
            silence_max: if script.contains("$1") { Duration::from_secs(30) } else { Duration::from_millis(700) },
            serving_max: Duration::from_millis(1500),
        };
        let started = Instant::now();
        let outcome = run_and_kill(&mut command, plan, &Progress::new(1, 1));
        assert!(started.elapsed() < Duration::from_secs(15), "{script} kept its parent waiting");
        outcome.map_err(|error| error.to_string())
    }

    #[test]
    fn a_child_that_served_is_killed_even_if_it_says_nothing_more() {
        let (acknowledged, served) =
            supervise(r#"echo serving; echo "committed 1 1 2 1 1 6 9"; echo "$1"; exec sleep 1000"#).unwrap();
        assert_eq!((acknowledged.versions, served), (1, ServeStats::default()));
    }

    #[test]
    fn what_was_said_before_the_kill_counts_but_not_a_line_that_was_cut() {
        let script = r#"echo "$1"; echo "committed 1 1 2 1 1 6 9"; printf "committed 1 2 2 1 2 7 9"; exec sleep 1000"#;
        let (acknowledged, _) = supervise(script).unwrap();
        assert_eq!(acknowledged.commits.get(&1), Some(&1));
    }

    #[test]
    fn a_child_that_hangs_is_killed_and_an_error() {
        for script in ["exec sleep 1000", "echo serving; exec sleep 1000"] {
            let error = supervise(script).unwrap_err();
            assert!(error.contains("said nothing"), "{script}: {error}");
        }
        let error = supervise("echo serving; while :; do echo grown 1; sleep 0.1; done").unwrap_err();
        assert!(error.contains("still serves"), "{error}");
    }

    #[test]
    fn a_child_that_fails_or_ends_by_itself_never_passes() {
        for (script, why) in [
            ("exit 3", "exit status: 3"),
            (r#"echo "$1"; exit 0"#, "exit status: 0"),
            (r#"echo "$1"; kill -9 $$"#, "ended before it was killed"),
            (r#"echo "$1"; echo "failed disk full"; exec sleep 1000"#, "disk full"),
            ("echo nonsense; exec sleep 1000", "unknown message"),
        ] {
            let error = supervise(script).unwrap_err();
            assert!(error.contains(why), "{script}: {error}");
        }
    }
}
