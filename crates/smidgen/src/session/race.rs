//! Plans against each other, by real steps.

use super::Blueprint;
use super::compiled::Compiled;
use super::memory::{release, reserve};
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
        reserve(device, &blueprint.plan, &mut arena)?;
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
    release(device, &blueprint.plan, arena);
    // Memory goes back to the driver once the device is polled.
    device.wait()?;
    result
}

#[cfg(test)]
mod tests {
    use super::super::{Blueprint, Plans, SessionOptions, Training};
    use crate::Bytes;
    use smidgen_gpu::{DeviceFacts, DeviceKind};
    use smidgen_graph::zoo;
    use smidgen_plan::Preset;

    fn facts() -> DeviceFacts {
        DeviceFacts {
            name: "test".into(),
            driver: String::new(),
            backend: "vulkan".into(),
            kind: DeviceKind::Discrete,
            max_buffer_bytes: 1 << 30,
            max_binding_bytes: 1 << 30,
            storage_alignment: 256,
            uniform_alignment: 256,
            workgroup_memory_bytes: 32 << 10,
            max_invocations: 256,
            subgroup_sizes: None,
            timestamps: false,
            half_precision: false,
            host_memory: false,
        }
    }

    #[test]
    fn trivial_plans_race_where_they_fit_and_are_allowed() {
        let graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
        let (keep, again, coded) = ("keep all", "recompute all", "all at 8 bits");
        for (quality, fits) in [(1.0, true), (1.0, false), (0.0, true), (0.0, false)] {
            let options = SessionOptions {
                batch: 16,
                training: Some(Training {
                    quality,
                    ..Training::default()
                }),
                budget: None,
            };
            let plans = Plans::new(&graph, &facts(), &options).unwrap();
            let all = plans.preset(Preset::KeepAll).unwrap().footprint().total();
            let budget = Bytes(if fits { 2 * all.0 } else { all.0 - 1 });
            let (planned, contenders) = plans.contenders(&graph, &options, budget).unwrap();
            // Where everything fits, keeping all is what is planned.
            assert_eq!(planned.forms().is_empty(), fits);
            let races = |name: &str| contenders.iter().any(|contender| contender.name == name);
            let trivial = |preset| plans.preset(preset);
            let small = |blueprint: Blueprint| blueprint.footprint().total() <= budget;
            assert!(!races(keep));
            assert_eq!(races(again), trivial(Preset::Recompute).is_ok_and(small));
            assert_eq!(races(coded), quality > 0.0);
            assert!(races(again) || !fits, "with room for everything it races");
            for contender in &contenders {
                assert!(contender.blueprint.footprint().total() <= budget);
            }
        }
    }
}
