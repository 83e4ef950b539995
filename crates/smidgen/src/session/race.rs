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

/// Runs steps of the planned session and of its contenders in the memory each would have, which is given back, and returns the fastest, with
/// all times.
pub(super) fn race(
    device: &Device,
    planned: Blueprint,
    contenders: Vec<Contender>,
) -> Result<(Blueprint, Vec<RaceTime>), Error> {
    let deadline = Instant::now() + Duration::from_secs(MOST_SECONDS);
    let to_beat = (!contenders.is_empty())
        .then(|| step_seconds(device, &planned))
        .transpose()?;
    let mut times = vec![RaceTime {
        plan: "planned".into(),
        forms: planned.forms.clone(),
        seconds: to_beat,
    }];
    let mut winner = planned;
    let mut least = to_beat.map_or(0.0, |seconds| WORTH_CHANGING * seconds);
    for Contender { name, blueprint } in contenders {
        let seconds = (Instant::now() < deadline)
            .then(|| step_seconds(device, &blueprint))
            .transpose()?;
        times.push(RaceTime {
            plan: name,
            forms: blueprint.forms.clone(),
            seconds,
        });
        if let Some(seconds) = seconds.filter(|seconds| *seconds < least) {
            (winner, least) = (blueprint, seconds);
        }
    }
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
