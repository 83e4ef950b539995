//! The measurement of candidates on the device.

use super::choices::{Measurements, ShapeClass};
use crate::Error;
use smidgen_conv::{Forward, InputGradient, Pass, Variant, WeightGradient};
use smidgen_gpu::{
    Category, Device, DeviceFacts, DeviceKind, Launch, Region, Sequence, Timeline, wgpu,
};
use std::ops::Range;
use std::time::Instant;

const LABEL: &str = "tuning";
/// The names of what is reserved for each class, in the ledger.
const UNIFORMS: &str = "kernel parameters";
const TIMELINE: &str = "timeline";
const ALIGNMENT: u64 = 256;
/// How often each candidate is measured. The least time counts: whatever else runs on the device can only add.
const ROUNDS: usize = 5;
/// After the first round, what took longer than this times the fastest is out.
const HOPELESS: f64 = 1.3;
/// Without timestamps a measurement takes at least so long, so that submitting and waiting do not count.
const SAMPLE_SECONDS: f64 = 0.003;
const MOST_REPEATS: u32 = 200;

/// A class and what may compute it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) class: ShapeClass,
    pub(super) candidates: Vec<Variant>,
}

impl Subject {
    /// What the candidates read and write, one behind the other.
    fn regions(&self, facts: &DeviceFacts) -> Result<[Region; 4], Error> {
        let ShapeClass { pass, shape } = self.class;
        let mut workspace = 0;
        for variant in &self.candidates {
            workspace = workspace.max(smidgen_conv::workspace(
                pass,
                &shape,
                facts,
                Some(*variant),
            )?);
        }
        let mut offset = 0;
        let sizes = [
            shape.input_bytes(),
            shape.weight_bytes(),
            shape.output_bytes(),
            workspace,
        ];
        // The weight gradient reads two maps and writes a weight: the same three sizes.
        Ok(sizes.map(|size| {
            let region = Region {
                buffer: 0,
                offset,
                size,
            };
            offset += size.next_multiple_of(ALIGNMENT);
            region
        }))
    }

    /// Bytes of memory that measuring takes.
    pub(super) fn bytes(&self, facts: &DeviceFacts) -> Result<u64, Error> {
        let [.., last] = self.regions(facts)?;
        Ok((last.offset + last.size).next_multiple_of(ALIGNMENT))
    }

    fn launches(&self, variant: Variant, facts: &DeviceFacts) -> Result<Vec<Launch>, Error> {
        let ShapeClass { pass, shape } = &self.class;
        let [input, weight, output, workspace] = self.regions(facts)?;
        let variant = Some(variant);
        let workspace = (workspace.size > 0).then_some(workspace);
        Ok(match pass {
            Pass::Forward => {
                let bias = None;
                let regions = Forward {
                    input: input.into(),
                    weight,
                    bias,
                    output,
                    workspace,
                };
                smidgen_conv::forward(shape, facts, variant, &regions)?
            }
            Pass::InputGradient => {
                let regions = InputGradient {
                    output_gradient: output,
                    weight,
                    input_gradient: input,
                    accumulate: false,
                    derivative: None,
                    workspace,
                };
                smidgen_conv::input_gradient(shape, facts, variant, &regions)?
            }
            Pass::WeightGradient => {
                let regions = WeightGradient {
                    input: input.into(),
                    output_gradient: output,
                    weight_gradient: weight,
                    bias_gradient: None,
                    workspace,
                };
                smidgen_conv::weight_gradient(shape, facts, variant, &regions)?
            }
        })
    }
}

/// Measures subject after subject until `deadline`, in a buffer of `bytes` that is given back at the end; tells `on_subject` how many
/// are done. A subject that was begun too late is left out.
pub(super) fn measure(
    device: &Device,
    subjects: &[Subject],
    bytes: u64,
    deadline: Instant,
    mut on_subject: impl FnMut(usize),
) -> Result<Measurements, Error> {
    let mut measured = Measurements::default();
    let scratch = device.buffer(
        LABEL,
        Category::Arena,
        bytes,
        wgpu::BufferUsages::STORAGE,
        false,
    )?;
    let mut result = Ok(());
    for (at, subject) in subjects.iter().enumerate() {
        on_subject(at);
        match times(device, subject, &scratch, deadline) {
            Ok(Some(times)) => {
                for (variant, seconds) in subject.candidates.iter().zip(times) {
                    measured.note(&subject.class, *variant, seconds);
                }
            }
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    scratch.destroy();
    drop(scratch);
    device.ledger().release(LABEL);
    // Memory goes back to the driver once the device is polled.
    device.wait()?;
    result.map(|()| measured)
}

/// Seconds of each candidate; `None` if there was no time for all of them.
fn times(
    device: &Device,
    subject: &Subject,
    scratch: &wgpu::Buffer,
    deadline: Instant,
) -> Result<Option<Vec<f64>>, Error> {
    let mut launches = Vec::new();
    let mut ranges = Vec::with_capacity(subject.candidates.len());
    for variant in &subject.candidates {
        let first = launches.len();
        launches.extend(subject.launches(*variant, device.facts())?);
        ranges.push(first..launches.len());
    }
    if Instant::now() >= deadline {
        return Ok(None);
    }
    let sequence = Sequence::prepare(device, &launches, &[scratch])?;
    let result = if device.facts().timestamps && device.facts().kind != DeviceKind::Software {
        by_timestamps(device, &sequence, &ranges, deadline)
    } else {
        by_clock(device, &sequence, &ranges, deadline)
    };
    drop(sequence);
    device.ledger().release(UNIFORMS);
    result
}

/// Every candidate in each submission, so that all meet the same clocks.
fn by_timestamps(
    device: &Device,
    sequence: &Sequence,
    ranges: &[Range<usize>],
    deadline: Instant,
) -> Result<Option<Vec<f64>>, Error> {
    let timeline = Timeline::new(device, sequence.len())?;
    let mut least = vec![f64::INFINITY; ranges.len()];
    let mut result = Ok(());
    // The first round warms up: drivers finish compiling when a kernel first runs.
    for round in 0..=ROUNDS {
        let timings = match timeline.measure(device, sequence) {
            Ok(timings) => timings,
            Err(error) => {
                result = Err(error.into());
                break;
            }
        };
        for (least, range) in least.iter_mut().zip(ranges) {
            let seconds = timings[range.clone()]
                .iter()
                .map(|timing| timing.time.as_secs_f64());
            if round > 0 {
                *least = least.min(seconds.sum());
            }
        }
    }
    drop(timeline);
    for _ in 0..2 {
        device.ledger().release(TIMELINE);
    }
    result.map(|()| (Instant::now() < deadline).then_some(least))
}

/// Candidates take turns; those that are hopeless have one.
fn by_clock(
    device: &Device,
    sequence: &Sequence,
    ranges: &[Range<usize>],
    deadline: Instant,
) -> Result<Option<Vec<f64>>, Error> {
    let run = |range: &Range<usize>, repeats: u32| -> Result<f64, Error> {
        let start = Instant::now();
        device.run(|pass| {
            for _ in 0..repeats {
                sequence.record_range(pass, range.clone());
            }
        })?;
        Ok(start.elapsed().as_secs_f64() / f64::from(repeats))
    };
    let mut repeats = Vec::with_capacity(ranges.len());
    let mut least = Vec::with_capacity(ranges.len());
    for range in ranges {
        if Instant::now() >= deadline {
            return Ok(None);
        }
        // Drivers compile a kernel when it first runs.
        run(range, 1)?;
        let seconds = run(range, 1)?;
        repeats.push(((SAMPLE_SECONDS / seconds).ceil() as u32).clamp(1, MOST_REPEATS));
        least.push(seconds);
    }
    for round in 1..ROUNDS {
        let best = least.iter().copied().fold(f64::INFINITY, f64::min);
        for ((least, range), repeats) in least.iter_mut().zip(ranges).zip(&repeats) {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            // Of a first single run the submission may be most.
            if *least <= best * HOPELESS || (round == 1 && *repeats > 1) {
                *least = least.min(run(range, *repeats)?);
            }
        }
    }
    Ok(Some(least))
}
