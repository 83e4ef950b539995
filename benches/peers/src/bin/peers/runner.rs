//! A runner as a process: one question at a time, each with a limit.

use smidgen_peers::{Hello, Reply, Request};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Starting takes no longer than this.
const START: Duration = Duration::from_secs(120);

/// A process that was started, and started again whenever it had to be ended.
pub(crate) struct Runner {
    pub(crate) hello: Hello,
    command: Vec<String>,
    child: Child,
    lines: Receiver<String>,
}

/// What came of a question.
pub(crate) enum Answer {
    Reply(Reply),
    /// The process was ended: it took too long.
    Late,
    /// The process ended by itself.
    Gone,
}

impl Answer {
    /// Why this is not the answer that was hoped for.
    pub(crate) fn problem(&self, limit: Duration) -> String {
        match self {
            Self::Reply(Reply::Failed(problem)) => problem.clone(),
            Self::Reply(_) => "gave the answer to another question".into(),
            Self::Late => format!("not within {} s", limit.as_secs()),
            Self::Gone => "ended unexpectedly".into(),
        }
    }
}

impl Runner {
    /// Starts a program with its arguments, and waits for its greeting.
    pub(crate) fn start(command: Vec<String>) -> Result<Self, String> {
        let (mut child, lines) = spawn(&command)?;
        let hello = match lines.recv_timeout(START) {
            Ok(line) => serde_json::from_str(&line)
                .map_err(|error| format!("it greets with `{line}`: {error}")),
            Err(RecvTimeoutError::Timeout) => Err(format!("it did not start within {START:?}")),
            Err(RecvTimeoutError::Disconnected) => Err("it ended at once".into()),
        };
        match hello {
            Ok(hello) => Ok(Self {
                hello,
                command,
                child,
                lines,
            }),
            Err(problem) => {
                end(&mut child);
                Err(problem)
            }
        }
    }

    /// Asks, and waits for the answer. After a limit or an end that nobody wanted the runner is a new process.
    pub(crate) fn ask(&mut self, request: &Request, limit: Duration) -> Result<Answer, String> {
        let line = serde_json::to_string(request).map_err(|error| error.to_string())?;
        let sent = match &mut self.child.stdin {
            Some(input) => writeln!(input, "{line}")
                .and_then(|()| input.flush())
                .is_ok(),
            None => false,
        };
        let answer = if sent {
            match self.lines.recv_timeout(limit) {
                Ok(line) => {
                    let reply = serde_json::from_str(&line);
                    Answer::Reply(reply.map_err(|error| {
                        format!("{} answers `{line}`: {error}", self.hello.name)
                    })?)
                }
                Err(RecvTimeoutError::Timeout) => Answer::Late,
                Err(RecvTimeoutError::Disconnected) => Answer::Gone,
            }
        } else {
            Answer::Gone
        };
        if !matches!(answer, Answer::Reply(_)) {
            let fresh = Self::start(self.command.clone())?;
            *self = fresh;
        }
        Ok(answer)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A process that is gone already needs no ending.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Standard error stays that of this program.
fn spawn(command: &[String]) -> Result<(Child, Receiver<String>), String> {
    let [program, arguments @ ..] = command else {
        return Err("a runner without a program".into());
    };
    let failed = |error: &dyn std::fmt::Display| format!("`{program}`: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let output = child.stdout.take().ok_or_else(|| failed(&"no output"))?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        // Only lines of the conversation: some frameworks print on standard output as well.
        let said = BufReader::new(output).lines().map_while(Result::ok);
        for line in said.filter(|line| line.starts_with('{')) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Ok((child, lines))
}
