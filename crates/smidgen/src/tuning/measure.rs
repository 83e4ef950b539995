//! The measurement of candidates on the device.

use super::choices::{Measurements, ShapeClass};
use crate::Error;
use smidgen_conv::{Forward, InputGradient, Pass, Variant, WeightGradient};
use smidgen_gpu::{
    Category, Device, DeviceFacts, DeviceKind, Launch, Region, Sequence, Timeline, wgpu,
};
use smidgen_ops::probe::{FmaPeak, fma_peak};
use std::ops::Range;
use std::time::{Duration, Instant};

const LABEL: &str = "tuning";
/// The names of what is reserved for each class, in the ledger.
const UNIFORMS: &str = "kernel parameters";
const TIMELINE: &str = "timeline";
const ALIGNMENT: u64 = 256;
/// How often each candidate is measured.
const ROUNDS: usize = 5;
/// After the first round, what took longer than this times the fastest is out.
const HOPELESS: f64 = 1.3;
/// Without timestamps a measurement takes at least so long, so that submitting and waiting do not count.
const SAMPLE_SECONDS: f64 = 0.003;
const MOST_REPEATS: u32 = 200;
/// A GPU is kept busy for so long before it is timed: at rest its clocks are a fraction of what they are at work.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);

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
    with_scratch(device, bytes, |scratch| {
        for (at, subject) in subjects.iter().enumerate() {
            on_subject(at);
            let launches = subject.candidates.iter();
            let launches = launches.map(|variant| subject.launches(*variant, device.facts()));
            let launches: Vec<_> = launches.collect::<Result<_, Error>>()?;
            let Some(times) = times(device, &launches, scratch, deadline)? else {
                break;
            };
            for (variant, samples) in subject.candidates.iter().zip(times) {
                measured.note(&subject.class, *variant, samples.least());
            }
        }
        Ok(())
    })?;
    Ok(measured)
}

/// Reserves a buffer for as long as `work` takes, of zeros on a software device, of small numbers where a GPU was warmed up.
pub(super) fn with_scratch(
    device: &Device,
    bytes: u64,
    work: impl FnOnce(&wgpu::Buffer) -> Result<(), Error>,
) -> Result<(), Error> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let scratch = device.buffer(LABEL, Category::Arena, bytes, usage, false)?;
    let result = warm_up(device, &scratch).and_then(|()| work(&scratch));
    scratch.destroy();
    drop(scratch);
    device.ledger().release(LABEL);
    // Memory goes back to the driver once the device is polled.
    device.wait()?;
    result
}

fn warm_up(device: &Device, scratch: &wgpu::Buffer) -> Result<(), Error> {
    let probe = |groups| FmaPeak {
        chains: 4,
        rounds: 256,
        groups,
    };
    let groups = (scratch.size() / probe(1).output_bytes()).min(4096) as u32;
    if device.facts().kind == DeviceKind::Software || groups == 0 {
        return Ok(());
    }
    let probe = probe(groups);
    let output = Region::whole(0, probe.output_bytes());
    let launch = fma_peak(&probe, device.facts(), output)?;
    let sequence = Sequence::prepare(device, &[launch], &[scratch])?;
    let start = Instant::now();
    let mut result = Ok(());
    while result.is_ok() && start.elapsed() < WARM_UP {
        result = device.run(|pass| sequence.record(pass));
    }
    drop(sequence);
    device.ledger().release(UNIFORMS);
    Ok(result?)
}

/// Seconds of one candidate, round by round.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// For comparing candidates: whatever else runs on the device can only add.
    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// For predicting: a step meets what is usual.
    pub(super) fn median(mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let middle = self.0.get(self.0.len() / 2);
        middle.copied().unwrap_or(f64::INFINITY)
    }
}

/// The times of each candidate, given as its launches; `None` if there was no time for all of them.
pub(super) fn times(
    device: &Device,
    candidates: &[Vec<Launch>],
    scratch: &wgpu::Buffer,
    deadline: Instant,
) -> Result<Option<Vec<Samples>>, Error> {
    let mut end = 0;
    let ranges: Vec<Range<usize>> = (candidates.iter())
        .map(|launches| {
            let start = end;
            end += launches.len();
            start..end
        })
        .collect();
    if Instant::now() >= deadline {
        return Ok(None);
    }
    let launches = candidates.concat();
    device.compile_ahead(&launches, Some(deadline))?;
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
) -> Result<Option<Vec<Samples>>, Error> {
    let timeline = Timeline::new(device, sequence.len())?;
    let mut samples = vec![Samples::default(); ranges.len()];
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
        for (samples, range) in samples.iter_mut().zip(ranges) {
            let seconds = timings[range.clone()]
                .iter()
                .map(|timing| timing.time.as_secs_f64());
            if round > 0 {
                samples.0.push(seconds.sum());
            }
        }
    }
    drop(timeline);
    for _ in 0..2 {
        device.ledger().release(TIMELINE);
    }
    result.map(|()| (Instant::now() < deadline).then_some(samples))
}

/// Candidates take turns; those that are hopeless have one.
fn by_clock(
    device: &Device,
    sequence: &Sequence,
    ranges: &[Range<usize>],
    deadline: Instant,
) -> Result<Option<Vec<Samples>>, Error> {
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
    let mut samples = Vec::with_capacity(ranges.len());
    for range in ranges {
        if Instant::now() >= deadline {
            return Ok(None);
        }
        // Drivers compile a kernel when it first runs.
        run(range, 1)?;
        let seconds = run(range, 1)?;
        repeats.push(((SAMPLE_SECONDS / seconds).ceil() as u32).clamp(1, MOST_REPEATS));
        samples.push(Samples(vec![seconds]));
    }
    for round in 1..ROUNDS {
        let best = samples.iter().map(Samples::least);
        let best = best.fold(f64::INFINITY, f64::min);
        for ((samples, range), repeats) in samples.iter_mut().zip(ranges).zip(&repeats) {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            // Of a first single run the submission may be most.
            let single = round == 1 && *repeats > 1;
            if single {
                samples.0.clear();
            }
            if single || samples.least() <= best * HOPELESS {
                samples.0.push(run(range, *repeats)?);
            }
        }
    }
    Ok(Some(samples))
}
