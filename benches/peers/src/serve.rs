//! The runner's side of the conversation.

use crate::{Case, Hello, Ready, Reply, Request, Sample};
use serde::Serialize;
use std::io::{BufRead, Result, Write};
use std::time::{Duration, Instant};

/// Runs of a warm case take about so many seconds together before the clock is looked at.
const CHUNK_SECONDS: f64 = 0.05;

/// A case that was built.
pub trait Subject {
    /// Runs it so often, and says how long that took until the device was done.
    ///
    /// # Errors
    /// In words.
    fn run(&mut self, times: u64) -> std::result::Result<Duration, String>;

    /// Trained numbers of a network.
    fn parameters(&self) -> Option<u64> {
        None
    }

    /// The loss of the last training step.
    fn loss(&self) -> Option<f64> {
        None
    }
}

/// Says hello and answers requests until standard input ends.
///
/// # Errors
/// If standard input or output fails, or a line is no request.
pub fn serve(
    hello: &Hello,
    mut build: impl FnMut(&Case) -> std::result::Result<Box<dyn Subject>, String>,
) -> Result<()> {
    say(hello)?;
    let mut current = None;
    for line in std::io::stdin().lock().lines() {
        let reply = match serde_json::from_str(&line?)? {
            Request::Prepare(case) => {
                // Its memory is free before the next case asks for some.
                current = None;
                prepare(|| build(&case)).map(|(subject, ready)| {
                    current = Some(subject);
                    Reply::Ready(ready)
                })
            }
            Request::Run(seconds) => match &mut current {
                Some(subject) => sample(subject.as_mut(), seconds).map(Reply::Sample),
                None => Err("nothing was prepared".into()),
            },
        };
        say(&reply.unwrap_or_else(Reply::Failed))?;
    }
    Ok(())
}

fn say(line: &impl Serialize) -> Result<()> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, line)?;
    writeln!(output)?;
    output.flush()
}

fn prepare(
    build: impl FnOnce() -> std::result::Result<Box<dyn Subject>, String>,
) -> std::result::Result<(Box<dyn Subject>, Ready), String> {
    let start = Instant::now();
    let mut subject = build()?;
    subject.run(1)?;
    let ready = Ready {
        first_seconds: start.elapsed().as_secs_f64(),
        parameters: subject.parameters(),
    };
    // What is tuned or cached at the second sight of a shape.
    subject.run(1)?;
    Ok((subject, ready))
}

/// Chunks grow, so that waiting for the device does not count where a run is short.
fn sample(subject: &mut dyn Subject, least: f64) -> std::result::Result<Sample, String> {
    let start = Instant::now();
    let (mut runs, mut seconds, mut chunk) = (0, 0.0, 1);
    while runs == 0 || start.elapsed().as_secs_f64() < least {
        let taken = subject.run(chunk)?.as_secs_f64();
        // Only chunks of full length count, once there is one.
        if taken < CHUNK_SECONDS && start.elapsed().as_secs_f64() < least {
            let factor = (1.2 * CHUNK_SECONDS / taken.max(1e-9)).clamp(1.5, 10.0);
            chunk = (chunk as f64 * factor).ceil() as u64;
            continue;
        }
        runs += chunk;
        seconds += taken;
    }
    Ok(Sample {
        seconds: seconds / runs as f64,
        loss: subject.loss(),
    })
}
