//! Plans against each other, by real steps.

use super::Blueprint;
use super::compiled::Compiled;
use super::plans::Contender;
use crate::Error;
use smidgen_gpu::Device;
use smidgen_graph::forms::Forms;
use std::time::{Duration, Instant};

/// So many steps of each plan are timed, after one that compiles and touches; the least time counts.
const STEPS: usize = 3;
/// No plan starts after so long.
const MOST_SECONDS: u64 = 15;
/// The plan that is predicted to be the fastest is left only for one that is faster by this factor: less may be noise.
const WORTH_CHANGING: f64 = 0.97;

/// What a plan took in a race.
#[derive(Debug, Clone, PartialEq)]
pub struct RaceTime {
    /// The plan, in a few words.
    pub plan: String,
    /// The form of every stash that is not whole.
    pub forms: Forms,
    /// Least seconds of a step; `None` if time ran out before its turn.
    pub seconds: Option<f64>,
}

/// Runs steps of every contender in the memory it would have, which is given back, and returns the fastest, with all times. The first
/// contender is the one to beat.
pub(super) fn race(
    device: &Device,
    contenders: Vec<Contender>,
) -> Result<(Blueprint, Vec<RaceTime>), Error> {
    let deadline = Instant::now() + Duration::from_secs(MOST_SECONDS);
    let alone = contenders.len() < 2;
    let mut times = Vec::new();
    let mut best: Option<(Blueprint, f64)> = None;
    for Contender { name, blueprint } in contenders {
        let runs = !alone && (best.is_none() || Instant::now() < deadline);
        let seconds = runs.then(|| step_seconds(device, &blueprint)).transpose()?;
        times.push(RaceTime {
            plan: name,
            forms: blueprint.forms.clone(),
            seconds,
        });
        let faster = match (&best, seconds) {
            (None, _) => true,
            (Some((_, best)), Some(seconds)) => seconds < *best,
            (Some(_), None) => false,
        };
        if faster {
            // Compared with what is to beat, all others have to be faster by a margin.
            let handicap = if best.is_none() { WORTH_CHANGING } else { 1.0 };
            best = Some((blueprint, handicap * seconds.unwrap_or(f64::INFINITY)));
        }
    }
    let (winner, _) = best.ok_or(Error::EmptyBatch)?;
    Ok((winner, times))
}

/// Least seconds of a training step on zeros, in memory that is given back.
fn step_seconds(device: &Device, blueprint: &Blueprint) -> Result<f64, Error> {
    let mut arena = Vec::new();
    let mut compiled = None;
    let result = (|| {
        for bytes in blueprint.plan.buffers() {
            arena.push(device.storage_buffer("arena", bytes)?);
        }
        let parts = (&blueprint.programs[0], &blueprint.plan.programs[0]);
        let launches = blueprint.launches[0].clone();
        let ready = compiled.insert(Compiled::new(
            device,
            &arena,
            parts.0.clone(),
            parts.1.clone(),
            launches,
        )?);
        let mut least = f64::INFINITY;
        for step in 0..=STEPS {
            let start = Instant::now();
            device.run(|pass| ready.sequence.record(pass))?;
            if step > 0 {
                least = least.min(start.elapsed().as_secs_f64());
            }
        }
        Ok(least)
    })();
    if compiled.take().is_some() {
        device.ledger().release("kernel parameters");
    }
    for buffer in arena {
        buffer.destroy();
        device.ledger().release("arena");
    }
    // Memory goes back to the driver once the device is polled.
    device.wait()?;
    result
}
