//! The measurement of candidates on the device.

use super::choices::{BothGradients, Measurements, ShapeClass};
use crate::Error;
use smidgen_conv::{ConvolutionShape, Forward, InputGradient, Pass, Variant, WeightGradient};
use smidgen_gpu::{
    Category, Device, DeviceFacts, DeviceKind, Launch, Region, Sequence, Timeline, wgpu,
};
use smidgen_ops::probe::{FmaPeak, fma_peak};
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

const LABEL: &str = "tuning";
const LABEL_ON_HOST: &str = "tuning on the host";
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

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(super) enum Class {
    One(ShapeClass),
    /// Both gradients by one kernel.
    Both(BothGradients),
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(class) => class.fmt(formatter),
            Self::Both(class) => class.fmt(formatter),
        }
    }
}

/// A class and what may compute it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) class: Class,
    pub(super) candidates: Vec<Variant>,
}

/// What candidates read and write: the maps and weights, or their gradients in the place of those that a pass does not read.
struct Regions {
    input: Region,
    weight: Region,
    output: Region,
    workspace: Region,
    /// Of both gradients at once only.
    input_gradient: Region,
    weight_gradient: Region,
}

impl Subject {
    fn shape(&self) -> ConvolutionShape {
        match self.class {
            Class::One(class) => class.shape,
            Class::Both(BothGradients(shape)) => shape,
        }
    }

    /// What the candidates read and write, one behind the other, and the bytes that it takes.
    fn regions(&self, facts: &DeviceFacts) -> Result<(Regions, u64), Error> {
        let shape = self.shape();
        let (pass, both) = match self.class {
            Class::One(class) => (class.pass, false),
            Class::Both(_) => (Pass::WeightGradient, true),
        };
        let mut workspace = 0;
        for variant in &self.candidates {
            workspace = workspace.max(smidgen_conv::workspace(
                pass,
                &shape,
                facts,
                Some(*variant),
            )?);
        }
        let mut end = 0;
        let mut region = |size: u64| {
            let region = Region {
                buffer: 0,
                offset: end,
                size,
            };
            end += size.next_multiple_of(ALIGNMENT);
            region
        };
        let besides = |size| if both { size } else { 0 };
        let regions = Regions {
            input: region(shape.input_bytes()),
            weight: region(shape.weight_bytes()),
            output: region(shape.output_bytes()),
            workspace: region(workspace),
            input_gradient: region(besides(shape.input_bytes())),
            weight_gradient: region(besides(shape.weight_bytes())),
        };
        Ok((regions, end))
    }

    /// Bytes of memory that measuring takes.
    pub(super) fn bytes(&self, facts: &DeviceFacts) -> Result<u64, Error> {
        Ok(self.regions(facts)?.1)
    }

    fn launches(&self, variant: Variant, facts: &DeviceFacts) -> Result<Vec<Launch>, Error> {
        let shape = &self.shape();
        let (regions, _) = self.regions(facts)?;
        let Regions {
            input,
            weight,
            output,
            ..
        } = regions;
        let variant = Some(variant);
        let workspace = (regions.workspace.size > 0).then_some(regions.workspace);
        let by_input = |input_gradient| InputGradient {
            output_gradient: output,
            weight,
            input_gradient,
            accumulate: false,
            derivative: None,
            workspace,
        };
        let by_weight = |weight_gradient| WeightGradient {
            input: input.into(),
            output_gradient: output,
            weight_gradient,
            bias_gradient: None,
            workspace,
        };
        let pass = match self.class {
            Class::One(class) => class.pass,
            Class::Both(_) => {
                let by_input = by_input(regions.input_gradient);
                let by_weight = by_weight(regions.weight_gradient);
                let both = [variant; 2];
                return Ok(smidgen_conv::backward(
                    shape, facts, both, &by_input, &by_weight,
                )?);
            }
        };
        Ok(match pass {
            Pass::Forward => {
                let regions = Forward {
                    input: input.into(),
                    weight,
                    bias: None,
                    output,
                    workspace,
                };
                smidgen_conv::forward(shape, facts, variant, &regions)?
            }
            Pass::InputGradient => {
                smidgen_conv::input_gradient(shape, facts, variant, &by_input(input))?
            }
            Pass::WeightGradient => {
                smidgen_conv::weight_gradient(shape, facts, variant, &by_weight(weight))?
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
    with_scratch(device, [bytes, 0], |scratch| {
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

/// Reserves a buffer for as long as `work` takes, and one in the host's memory if it is to have bytes, of zeros on a software device, of small numbers where a GPU was warmed up.
pub(super) fn with_scratch(
    device: &Device,
    [bytes, on_host]: [u64; 2],
    work: impl FnOnce(&[&wgpu::Buffer]) -> Result<(), Error>,
) -> Result<(), Error> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let mut scratch = vec![device.buffer(LABEL, Category::Arena, bytes, usage, false)?];
    let result = (|| {
        if on_host > 0 {
            scratch.push(device.host_buffer(LABEL_ON_HOST, on_host)?);
        }
        warm_up(device, &scratch[0])?;
        work(&scratch.iter().collect::<Vec<_>>())
    })();
    for (buffer, label) in scratch.drain(..).zip([LABEL, LABEL_ON_HOST]) {
        buffer.destroy();
        drop(buffer);
        device.ledger().release(label);
    }
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
    scratch: &[&wgpu::Buffer],
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
    let sequence = Sequence::prepare(device, &launches, scratch)?;
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
