//! Child processes with a limit of time: what hangs is killed and fails the test that waits for it.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs `command` to its end; `None` where it was still running after `limit` and was killed.
pub fn within(limit: Duration, command: &mut Command) -> Option<Output> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    wait(child, limit)
}

/// The same for a child that runs already, both of its outputs piped.
pub fn wait(child: Child, limit: Duration) -> Option<Output> {
    let id = child.id().to_string();
    let (sender, receiver) = std::sync::mpsc::channel();
    // Its output is read by another thread, so that it is never held up by a full pipe.
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(limit) {
        Ok(done) => Some(done.unwrap()),
        Err(_) => {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
            let _ = receiver.recv_timeout(Duration::from_secs(10));
            None
        }
    }
}

/// Sends `signal` (`TERM`, `INT`) to a process.
pub fn signal(id: u32, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status().unwrap().success());
}

/// An ignored test of this executable as a process of its own, with its output shown.
pub fn test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads", "1"]);
    command
}

#[test]
fn what_hangs_is_killed() {
    let start = Instant::now();
    assert!(within(Duration::from_millis(200), Command::new("sleep").arg("60")).is_none());
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(within(Duration::from_secs(60), &mut Command::new("true")).unwrap().status.success());
}
