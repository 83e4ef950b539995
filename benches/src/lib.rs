//! What the benchmarks share: one device, filled memory, the measurement of launches, the passes of a convolution and training steps.
//!
//! The sizes come from the tables that drive the tests (`smidgen_reference`), so that a row added there is tested and measured.
//! `benches/peers` measures the same work beside that of other frameworks.

pub mod convolution;
pub mod training;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use smidgen_gpu::{Device, DeviceRequest, GpuError, Launch, Region, Sequence, wgpu};
use smidgen_ops::MapShape;
use smidgen_reference::elementwise::MapCase;
use smidgen_reference::numbers::normal;
use std::fmt::Display;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Regions start at multiples of this; the alignment of every device divides it.
const ALIGNMENT: u64 = 256;
/// The name of the buffer in the ledger.
const LABEL: &str = "benchmark";

/// The device that everything is measured on: `SMIDGEN_ADAPTER`, or else the best there is.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        Device::open(&DeviceRequest::default())
            .unwrap_or_else(|error| panic!("a benchmark needs a device: {error}"))
    })
}

/// Criterion with few samples and `seconds` for each benchmark, and the options of the command line.
#[must_use]
pub fn criterion(seconds: f64) -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs_f64(seconds / 2.0))
        .measurement_time(Duration::from_secs_f64(seconds))
        .nresamples(10_000)
        .configure_from_args()
}

/// The contents of the one buffer that the launches of a benchmark work in.
#[derive(Debug, Default)]
pub struct Memory {
    words: Vec<u32>,
}

impl Memory {
    /// Empty memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A region of normally distributed values. Outputs get some as well: what is not measured must not matter.
    pub fn values(&mut self, bytes: u64) -> Region {
        static VALUES: OnceLock<Vec<u32>> = OnceLock::new();
        let values =
            VALUES.get_or_init(|| normal(1, 65_521).into_iter().map(f32::to_bits).collect());
        self.region(values.iter().copied().cycle().take(bytes as usize / 4))
    }

    /// A region of ones, for variances and the like.
    pub fn ones(&mut self, bytes: u64) -> Region {
        self.region(std::iter::repeat_n(1.0_f32.to_bits(), bytes as usize / 4))
    }

    /// A region with these contents.
    pub fn words(&mut self, words: &[u32]) -> Region {
        self.region(words.iter().copied())
    }

    /// The contents on a device; [`release`] takes it off the ledger again.
    ///
    /// # Errors
    /// No room.
    pub fn upload(&self, device: &Device) -> Result<wgpu::Buffer, GpuError> {
        device.buffer_with(LABEL, &self.words)
    }

    fn region(&mut self, words: impl Iterator<Item = u32>) -> Region {
        let offset = (self.words.len() as u64 * 4).next_multiple_of(ALIGNMENT);
        self.words.resize(offset as usize / 4, 0);
        self.words.extend(words);
        Region {
            buffer: 0,
            offset,
            size: self.words.len() as u64 * 4 - offset,
        }
    }
}

/// What the host functions of the kernel crates give.
pub trait IntoLaunches {
    /// As a list.
    ///
    /// # Panics
    /// If it is an error: the tables hold nothing that an operator refuses.
    fn into_launches(self) -> Vec<Launch>;
}

impl IntoLaunches for Launch {
    fn into_launches(self) -> Vec<Launch> {
        vec![self]
    }
}

impl IntoLaunches for Vec<Launch> {
    fn into_launches(self) -> Vec<Launch> {
        self
    }
}

impl<L: IntoLaunches, E: Display> IntoLaunches for Result<L, E> {
    fn into_launches(self) -> Vec<Launch> {
        self.unwrap_or_else(|error| panic!("an operator refused a case: {error}"))
            .into_launches()
    }
}

/// Measures launches as `function/case`, with the bytes of all regions they bind as throughput: what a kernel that reads and writes
/// everything once would move.
pub fn measure_bytes(
    group: &mut BenchmarkGroup<'_, WallTime>,
    function: &str,
    case: &str,
    memory: &Memory,
    launches: impl IntoLaunches,
) {
    let launches = launches.into_launches();
    let regions = launches.iter().flat_map(|launch| &launch.regions);
    let bytes = regions.map(|region| region.size).sum();
    measure(
        group,
        function,
        case,
        Throughput::Bytes(bytes),
        memory,
        launches,
    );
}

/// Measures launches as `function/case`. The iterations of a sample are submitted as one pass, and the sample ends when the device
/// has done them: time on the device, without that of submitting.
///
/// # Panics
/// If the device refuses or fails.
pub fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    function: &str,
    case: &str,
    throughput: Throughput,
    memory: &Memory,
    launches: impl IntoLaunches,
) {
    let launches = launches.into_launches();
    let failed = |error: GpuError| panic!("{function}, {case}: {error}");
    // Criterion calls the closure for every sample, and not at all for what the command line leaves out.
    let mut prepared = None;
    group
        .sampling_mode(SamplingMode::Flat)
        .throughput(throughput)
        .bench_function(BenchmarkId::new(function, case), |bencher| {
            let work = prepared
                .get_or_insert_with(|| Work::prepare(memory, &launches).unwrap_or_else(failed));
            bencher.iter_custom(|iterations| match work.run(iterations) {
                Ok(time) => time,
                Err(error) => panic!("{function}, {case}: {error}"),
            });
        });
}

/// Launches that can be run again and again in memory of their own.
#[derive(Debug)]
pub struct Work(Sequence);

impl Work {
    /// Fills memory and runs the launches once, since drivers compile a kernel when it first runs.
    ///
    /// # Errors
    /// If the device refuses or fails.
    pub fn prepare(memory: &Memory, launches: &[Launch]) -> Result<Self, GpuError> {
        Self::prepare_in(&memory.upload(device())?, launches)
    }

    /// The same in memory that others work in as well.
    ///
    /// # Errors
    /// If the device refuses or fails.
    pub fn prepare_in(buffer: &wgpu::Buffer, launches: &[Launch]) -> Result<Self, GpuError> {
        let work = Self(Sequence::prepare(device(), launches, &[buffer])?);
        work.run(1)?;
        Ok(work)
    }

    /// Runs the launches so often in one submission, and says how long that took until the device was done.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(&self, iterations: u64) -> Result<Duration, GpuError> {
        let start = Instant::now();
        device().run(|pass| (0..iterations).for_each(|_| self.0.record(pass)))?;
        Ok(start.elapsed())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        release(device());
    }
}

/// Takes what a benchmark reserved off the ledger.
pub fn release(device: &Device) {
    let mut ledger = device.ledger();
    ledger.release(LABEL);
    ledger.release("kernel parameters");
}

/// Median milliseconds of each of these works, which run one after the other in every round. Short ones run several times a round, so
/// that submitting does not count.
///
/// # Errors
/// If the device fails.
pub fn medians(works: &[Sequence], rounds: usize) -> Result<Vec<f64>, GpuError> {
    let run = |work: &Sequence, repeats: usize| -> Result<f64, GpuError> {
        let start = Instant::now();
        device().run(|pass| (0..repeats).for_each(|_| work.record(pass)))?;
        Ok(start.elapsed().as_secs_f64() * 1e3 / repeats as f64)
    };
    let mut repeats = Vec::new();
    for work in works {
        // The first run compiles.
        run(work, 1)?;
        repeats.push((4.0 / run(work, 1)?).ceil().clamp(1.0, 32.0) as usize);
    }
    let mut times = vec![Vec::new(); works.len()];
    for _ in 0..rounds.max(1) {
        for ((work, times), repeats) in works.iter().zip(&mut times).zip(&repeats) {
            times.push(run(work, *repeats)?);
        }
    }
    Ok(times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect())
}

/// The shape of a case.
#[must_use]
pub fn map_shape(map: &MapCase) -> MapShape {
    let [batch, channels, height, width] =
        [map.batch, map.channels, map.height, map.width].map(|size| size as u32);
    MapShape::new(batch, channels, height, width)
}

/// A map as large as those of real networks, where the time is that of memory: the first stage of ResNet-20 at batch 32.
#[must_use]
pub fn large_map() -> MapCase {
    MapCase::new("32x16x32x32", [32, 16, 32, 32])
}
