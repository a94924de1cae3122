//! T28, I7: reading makes no system call, also at the last drop of a snapshot.
//!
//! Linux can be told to kill a process at the first system call of a thread. So the reads run in a process of their own,
//! this test once more; its reading thread gives up all calls but two, with which it says that it is done and ends. A writer
//! beside it may call what it likes.
//!
//! What the allocator does with memory that is given back to it is its own affair (glibc's takes a lock and may wait for it,
//! or may give pages back to the system), so what the reading thread frees is put aside.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use crate::alloc;
use crate::every_read::{Looker, WAYS};
use crate::readers::{change, tiled};
use crate::seed::rng;

/// Tells the process that it is the one whose calls are watched, and whether it is to make one.
const ROLE: &str = "REGIONMETA_SYSTEM_CALLS";
const NOT_TO_BE_HAD: i32 = 77;
const DONE: &[u8] = b"read without a system call\n";

/// Kills this process at the next system call of this thread, but for `write` and `exit_group`. `false` if the system does
/// not let us.
#[expect(unsafe_code, reason = "the standard library does not have the call")]
fn give_up_system_calls() -> bool {
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
    let skip_if =
        |call: libc::c_long, steps| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, steps, 0);
    let answer = |answer| statement(libc::BPF_RET | libc::BPF_K, answer, 0, 0);
    let mut filter = [
        load(0), // the number of the call
        skip_if(libc::SYS_write, 2),
        skip_if(libc::SYS_exit_group, 1),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the first two calls take plain numbers; the third reads `program` and the filter that it points to, both of which
    // live until it returns, and copies them.
    unsafe {
        // A process that is killed on purpose leaves no core file.
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// The two calls that are left.
#[expect(unsafe_code, reason = "the standard library's ways to end make more calls")]
fn say_and_end(words: &[u8], code: i32) -> ! {
    // SAFETY: the pointer and the length are those of one slice; the second call does not return.
    unsafe {
        libc::write(libc::STDOUT_FILENO, words.as_ptr().cast(), words.len());
        libc::_exit(code)
    }
}

/// What the watched process does. It ends with it.
fn be_watched(role: &str) -> ! {
    let mut rng = rng("be_watched");
    let (meta, seed) = (std::sync::Arc::new(tiled()), rng.u64(..));
    let mut looker = Looker::new(&meta, rng.u64(..));
    let write = move || {
        let (mut rng, mut next_id) = (fastrand::Rng::with_seed(seed), 1_000);
        loop {
            change(&meta, &mut rng, &mut next_id);
        }
    };
    let _writer = std::thread::Builder::new().name("writer".to_owned()).spawn(write).unwrap();
    (0..WAYS.len()).for_each(|way| looker.look(way));
    alloc::put_aside_what_is_freed_here();
    if !give_up_system_calls() {
        say_and_end(b"", NOT_TO_BE_HAD);
    }
    if role == "sinner" {
        std::thread::yield_now(); // one that nobody would miss
    }
    looker.look_a_million_times(Looker::look);
    say_and_end(DONE, 0)
}

/// This test once more, in a process that is watched; nothing if that cannot be had.
fn watched(test: &str, role: &str) -> Option<Output> {
    let arguments = [&format!("system_calls::{test}"), "--exact", "--nocapture", "--test-threads=1"];
    let output = Command::new(std::env::current_exe().unwrap()).args(arguments).env(ROLE, role).output().unwrap();
    if output.status.code() != Some(NOT_TO_BE_HAD) {
        return Some(output);
    }
    // Not by `println`, which a test that passes does not show.
    let words = b"SKIPPED: this system does not let a process give up system calls\n";
    std::io::stderr().write_all(words).unwrap();
    None
}

#[test]
#[cfg_attr(feature = "lock-swap", ignore = "a lock may have to wait, and waiting is a system call")]
fn a_million_reads_beside_a_writer_make_no_system_call() {
    if let Ok(role) = std::env::var(ROLE) {
        be_watched(&role);
    }
    let Some(output) = watched("a_million_reads_beside_a_writer_make_no_system_call", "reader") else { return };
    assert_ne!(output.status.signal(), Some(libc::SIGSYS), "a read made a system call: {output:?}");
    assert!(output.status.success() && output.stdout.ends_with(DONE), "{output:?}");
}

#[test]
fn a_thread_that_makes_a_system_call_is_caught() {
    if let Ok(role) = std::env::var(ROLE) {
        be_watched(&role);
    }
    let Some(output) = watched("a_thread_that_makes_a_system_call_is_caught", "sinner") else { return };
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}
