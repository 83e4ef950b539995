//! The measurement of launches.

use super::BenchOptions;
use super::{Kind, Row, Unit};
use crate::Error;
use crate::tuning::Choices;
use smidgen_gpu::{Device, Launch, Sequence, wgpu};
use std::time::Instant;

/// A sample takes at least so long, so that submitting and waiting do not count.
const SAMPLE_SECONDS: f64 = 0.02;
/// Dispatches of one pass; more would only make it longer to record.
const MOST_REPEATS: u32 = 10_000;
const LABEL: &str = "benchmark";
/// The name of a sequence's uniforms in the ledger.
const UNIFORMS: &str = "kernel parameters";

/// What the measurements of a run share.
pub(super) struct Bench<'a> {
    pub(super) device: &'a Device,
    pub(super) choices: &'a Choices,
    samples: usize,
}

/// What a row measures, and how much work it is.
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) unit: Unit,
    /// Operations, or bytes read plus written, of one run.
    pub(super) work: u64,
}

/// Buffers filled with noise that leave the ledger when they are dropped.
pub(super) struct Buffers<'a> {
    device: &'a Device,
    buffers: Vec<wgpu::Buffer>,
}

impl Drop for Buffers<'_> {
    fn drop(&mut self) {
        let mut ledger = self.device.ledger();
        for _ in &self.buffers {
            ledger.release(LABEL);
        }
    }
}

impl<'a> Bench<'a> {
    pub(super) fn new(device: &'a Device, options: &BenchOptions, choices: &'a Choices) -> Self {
        let samples = if options.quick { 5 } else { 7 };
        Self {
            device,
            choices,
            samples,
        }
    }

    /// One buffer for each of `sizes`, in bytes.
    pub(super) fn buffers(&self, sizes: &[u64]) -> Result<Buffers<'a>, Error> {
        let device = self.device;
        let mut made = Buffers {
            device,
            buffers: Vec::new(),
        };
        for size in sizes {
            let contents: Vec<f32> = noise().take(*size as usize / 4).collect();
            made.buffers.push(device.buffer_with(LABEL, &contents)?);
        }
        Ok(made)
    }

    /// Runs `launches` often enough to tell how long one run takes.
    pub(super) fn row(
        &self,
        subject: Subject,
        launches: &[Launch],
        buffers: &Buffers<'_>,
    ) -> Result<Row, Error> {
        let device = self.device;
        let bound: Vec<_> = buffers.buffers.iter().collect();
        let sequence = Sequence::prepare(device, launches, &bound)?;
        let seconds = self.samples_of(&sequence);
        drop(sequence);
        if Sequence::uniform_bytes(launches, device.facts().uniform_alignment) > 0 {
            device.ledger().release(UNIFORMS);
        }
        Ok(Row::new(subject, seconds?, Some(variant(launches))))
    }

    /// Seconds of one run, by sample.
    fn samples_of(&self, sequence: &Sequence) -> Result<Vec<f64>, Error> {
        let time = |repeats: u32| -> Result<f64, Error> {
            let start = Instant::now();
            self.device
                .run(|pass| (0..repeats).for_each(|_| sequence.record(pass)))?;
            Ok(start.elapsed().as_secs_f64())
        };
        // Drivers compile a kernel when it first runs.
        time(1)?;
        let mut repeats = 1;
        loop {
            let taken = time(repeats)?;
            if taken >= SAMPLE_SECONDS || repeats >= MOST_REPEATS {
                break;
            }
            // In steps, because the time of few runs is mostly that of submitting.
            let factor = (1.1 * SAMPLE_SECONDS / taken).clamp(1.5, 10.0);
            repeats = ((f64::from(repeats) * factor).ceil() as u32).min(MOST_REPEATS);
        }
        (0..self.samples)
            .map(|_| Ok(time(repeats)? / f64::from(repeats)))
            .collect()
    }
}

/// Evenly distributed between -0.5 and 0.5, always the same: constant data would let a GPU run at higher clocks.
pub(crate) fn noise() -> impl Iterator<Item = f32> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    })
}

/// The shaders and defines of launches, in the order they run: `direct QUADS=4 TILE=4 + sum_partials`.
fn variant(launches: &[Launch]) -> String {
    let name = |launch: &Launch| {
        let file = launch.shader.rsplit('/').next().unwrap_or(launch.shader);
        let mut words = vec![file.trim_end_matches(".wgsl").to_owned()];
        words.extend(launch.defines.iter().map(|(name, value)| {
            if value.is_empty() {
                name.clone()
            } else {
                format!("{name}={value}")
            }
        }));
        words.join(" ")
    };
    launches.iter().map(name).collect::<Vec<_>>().join(" + ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::params;

    params! { struct Nothing { count: u32 } }

    #[test]
    fn a_variant_is_named_by_its_files_and_defines() {
        let launch = |shader, defines: &[(&str, String)]| {
            Launch::new(shader, defines, &Nothing { count: 0 }, Vec::new(), [1; 3])
        };
        let launches = [
            launch(
                "conv/direct.wgsl",
                &[("TILE", "4".into()), ("BIAS", String::new())],
            ),
            launch("conv/sum_partials.wgsl", &[]),
        ];
        assert_eq!(variant(&launches), "direct BIAS TILE=4 + sum_partials");
    }

    #[test]
    fn noise_is_spread_around_zero() {
        let values: Vec<f32> = noise().take(10_000).collect();
        assert!(values.iter().all(|value| value.abs() <= 0.5));
        let mean = values.iter().sum::<f32>() / 10_000.0;
        assert!(mean.abs() < 0.02, "{mean}");
    }
}
