//! For the tests of kernel crates: launches run in NaN-filled memory between guard words, checked and unchecked.
//!
//! Every region stands alone in one buffer, with guard words before and after it. [`Guarded::run`] runs the launches on a device
//! with run-time checks and on one without, and fails if a guard word changed or if the two differ in a single bit.

use crate::{Device, DeviceRequest, GpuError, Launch, Region, Sequence};
use std::sync::OnceLock;

/// A bit pattern that no kernel writes: a quiet NaN with a payload, and two in f16.
const GUARD: u32 = 0x7fc1_7eed;
const GUARD_BYTES: u64 = 256;

/// The device under test, with or without run-time checks; opened once for the process.
///
/// # Panics
/// If there is no adapter: tests of kernels need one.
#[must_use]
pub fn device(checked: bool) -> &'static Device {
    static DEVICES: [OnceLock<Device>; 2] = [OnceLock::new(), OnceLock::new()];
    DEVICES[usize::from(checked)].get_or_init(|| {
        let request = DeviceRequest {
            checked,
            ..Default::default()
        };
        Device::open(&request)
            .unwrap_or_else(|error| panic!("tests of kernels need a device: {error}"))
    })
}

/// Memory for one test: inputs with contents, outputs full of NaN, guard words around each.
#[derive(Debug, Default)]
pub struct Guarded {
    words: Vec<u32>,
    regions: Vec<Region>,
}

impl Guarded {
    /// Empty memory.
    #[must_use]
    pub fn new() -> Self {
        Self {
            words: vec![GUARD; GUARD_BYTES as usize / 4],
            regions: Vec::new(),
        }
    }

    /// A region with these contents (f32, u32 or i32).
    pub fn input<T: bytemuck::Pod>(&mut self, contents: &[T]) -> Region {
        let words: Vec<u32> = bytemuck::cast_slice::<T, u32>(contents).to_vec();
        self.place(words)
    }

    /// A region of `length` 32-bit words that nothing has been written to yet.
    pub fn output(&mut self, length: usize) -> Region {
        self.place(vec![GUARD; length])
    }

    fn place(&mut self, words: Vec<u32>) -> Region {
        let region = Region {
            buffer: 0,
            offset: self.words.len() as u64 * 4,
            size: words.len() as u64 * 4,
        };
        self.words.extend(words);
        // At least one guard block behind the region, and the next region aligned.
        let end = (self.words.len() as u64 * 4 + GUARD_BYTES).next_multiple_of(GUARD_BYTES);
        self.words.resize(end as usize / 4, GUARD);
        self.regions.push(region);
        region
    }

    /// Runs the launches one after the other, on the checked and on the unchecked device.
    ///
    /// # Errors
    /// A launch that the device refuses.
    ///
    /// # Panics
    /// If a guard word changed, or the two devices differ.
    pub fn run(&self, launches: &[Launch]) -> Result<Outcome, GpuError> {
        // Side by side, because compiling is most of the work on a software device.
        let (unchecked, checked) = std::thread::scope(|scope| {
            let checked = scope.spawn(|| self.run_on(device(true), launches));
            let unchecked = self.run_on(device(false), launches);
            let checked = checked
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (unchecked, checked)
        });
        let (unchecked, checked) = (unchecked?, checked?);
        assert!(checked == unchecked, "checked and unchecked kernels differ");
        Ok(Outcome { words: unchecked })
    }

    /// Runs the launches on the unchecked device alone: half the time, where other cases compare the same kernels.
    ///
    /// # Errors
    /// A launch that the device refuses.
    ///
    /// # Panics
    /// If a guard word changed.
    pub fn run_unchecked(&self, launches: &[Launch]) -> Result<Outcome, GpuError> {
        let words = self.run_on(device(false), launches)?;
        Ok(Outcome { words })
    }

    /// As [`run`](Self::run), but with these regions, arrays of `vec4<f32>`, held in f16 while the launches run. What comes out is f32 again.
    ///
    /// # Errors
    /// A launch that the device refuses.
    ///
    /// # Panics
    /// As `run`, or if a launch names what is in no region.
    pub fn run_in_halves(&self, launches: &[Launch], maps: &[Region]) -> Result<Outcome, GpuError> {
        let mut memory = Self::new();
        let places: Vec<Region> = (self.regions.iter())
            .map(|region| {
                let words = words_in(&self.words, *region);
                memory.place(if maps.contains(region) {
                    to_halves(words)
                } else {
                    words.to_vec()
                })
            })
            .collect();
        let moved: Vec<Launch> = (launches.iter().cloned())
            .map(|mut launch| {
                for (at, region) in launch.regions.iter_mut().enumerate() {
                    let within = |own: &Region| {
                        own.offset <= region.offset
                            && region.offset + region.size <= own.offset + own.size
                    };
                    let own = self.regions.iter().position(within);
                    let own = own.unwrap_or_else(|| panic!("{region:?} is in no region"));
                    let whole = self.regions[own];
                    let share = if maps.contains(&whole) { 2 } else { 1 };
                    if share == 2 {
                        launch.halves.push(at);
                    }
                    *region = Region {
                        offset: places[own].offset + (region.offset - whole.offset) / share,
                        size: region.size / share,
                        ..places[own]
                    };
                }
                launch
            })
            .collect();
        let outcome = memory.run(&moved)?;
        let mut words = self.words.clone();
        for (region, place) in self.regions.iter().zip(places) {
            let found = words_in(&outcome.words, place);
            let found = if maps.contains(region) {
                of_halves(found)
            } else {
                found.to_vec()
            };
            words[(region.offset / 4) as usize..][..found.len()].copy_from_slice(&found);
        }
        Ok(Outcome { words })
    }

    fn run_on(&self, device: &Device, launches: &[Launch]) -> Result<Vec<u32>, GpuError> {
        let buffer = device.buffer_with("guarded memory", &self.words)?;
        let sequence = Sequence::prepare(device, launches, &[&buffer])?;
        device.run(|pass| sequence.record(pass))?;
        let words = device.read(&buffer, 0, self.words.len())?;
        let mut ledger = device.ledger();
        ledger.release("guarded memory");
        ledger.release("kernel parameters");
        drop(ledger);
        for (at, word) in words.iter().enumerate() {
            let byte = at as u64 * 4;
            let inside = self
                .regions
                .iter()
                .any(|region| (region.offset..region.offset + region.size).contains(&byte));
            assert!(
                inside || *word == GUARD,
                "a kernel wrote outside its regions, at byte {byte}"
            );
        }
        Ok(words)
    }
}

fn words_in(words: &[u32], region: Region) -> &[u32] {
    &words[(region.offset / 4) as usize..][..(region.size / 4) as usize]
}

/// Numbers in f16, of those that are some; what was not written stays so.
fn to_halves(words: &[u32]) -> Vec<u32> {
    let half = |bits: u32| {
        let (magnitude, sign) = (bits & 0x7fff_ffff, bits >> 16 & 0x8000);
        let odd = magnitude >> 13 & 1;
        sign | match magnitude {
            0x7f80_0001.. => 0x7e00,
            0x3880_0000.. => ((magnitude + 0xfff + odd - (112 << 23)) >> 13).min(0x7c00),
            _ => (f32::from_bits(magnitude) * 2.0_f32.powi(24)).round_ties_even() as u32,
        }
    };
    let pair = |pair: &[u32]| match pair[0] {
        GUARD => GUARD,
        first => half(first) | half(pair[1]) << 16,
    };
    words.chunks(2).map(pair).collect()
}

/// The numbers that f16 stand for; no kernel writes the NaN that is in [`GUARD`].
fn of_halves(words: &[u32]) -> Vec<u32> {
    let number = |half: u32| {
        let (magnitude, sign) = (half & 0x7fff, (half & 0x8000) << 16);
        sign | match magnitude {
            0x7c00.. => 0x7f80_0000 | (magnitude & 0x3ff) << 13,
            _ => (f32::from_bits(magnitude << 13) * 2.0_f32.powi(112)).to_bits(),
        }
    };
    let pair = |word: &u32| match *word {
        GUARD => [GUARD; 2],
        word => [number(word & 0xffff), number(word >> 16)],
    };
    words.iter().flat_map(pair).collect()
}

/// What the memory holds afterwards.
#[derive(Debug)]
pub struct Outcome {
    words: Vec<u32>,
}

impl Outcome {
    /// The contents of a region as f32 or u32.
    ///
    /// # Panics
    /// If a word of it was never written.
    #[must_use]
    pub fn read<T: bytemuck::Pod>(&self, region: Region) -> Vec<T> {
        let words = words_in(&self.words, region);
        let unwritten = words.iter().filter(|word| **word == GUARD).count();
        assert!(
            unwritten == 0,
            "{unwritten} of {} words were never written",
            words.len()
        );
        bytemuck::cast_slice(words).to_vec()
    }
}

/// Compares the declared uniform of a kernel with what reflection finds, for every row of the table of variants of that file.
///
/// # Panics
/// If they differ, or there is no such row.
pub fn assert_params_match<P: crate::Params>(shader: &str) {
    let rows: Vec<_> = smidgen_shaders::VARIANTS
        .iter()
        .filter(|row| row.file == shader)
        .collect();
    assert!(!rows.is_empty(), "no variant of {shader}");
    for row in rows {
        assert_eq!(row.uniform_fields, P::FIELDS, "{shader} {:?}", row.defines);
        assert_eq!(
            row.uniform_size as usize,
            size_of::<P>(),
            "{shader} {:?}",
            row.defines
        );
    }
}

/// Relative error in the L2 norm: `|actual - expected| / |expected|` (absolute where the expectation is zero).
#[must_use]
pub fn relative_error(actual: &[f32], expected: &[f64]) -> f64 {
    error_beside(actual, expected, expected)
}

/// Error in the L2 norm beside a scale of its own: `|actual - expected| / |scale|` (absolute where the scale is zero).
///
/// Where terms may cancel, as in random cases with few outputs, the scale is the sum of the terms' absolute values.
#[must_use]
pub fn error_beside(actual: &[f32], expected: &[f64], scale: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "lengths differ");
    let difference: f64 = actual
        .iter()
        .zip(expected)
        .map(|(a, e)| (f64::from(*a) - e).powi(2))
        .sum();
    let norm: f64 = scale.iter().map(|value| value * value).sum();
    if norm == 0.0 {
        difference.sqrt()
    } else {
        (difference / norm).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params;

    params! { struct FillParams { count: u32, value: f32 } }

    #[test]
    fn the_parameters_of_fill_match_its_shader() {
        assert_params_match::<FillParams>("ops/fill.wgsl");
    }

    #[test]
    fn a_fill_writes_its_region_and_nothing_else() {
        let mut memory = Guarded::new();
        let region = memory.output(1000);
        let fill = |count| {
            Launch::new(
                "ops/fill.wgsl",
                &[],
                &FillParams { count, value: 2.5 },
                vec![region],
                [4, 1, 1],
            )
        };
        let values: Vec<f32> = memory.run(&[fill(1000)]).unwrap().read(region);
        assert_eq!(values, vec![2.5; 1000]);
        let partly = memory.run(&[fill(999)]).unwrap();
        assert!(std::panic::catch_unwind(|| partly.read::<f32>(region)).is_err());
    }

    #[test]
    fn a_launch_that_does_not_fit_its_shader_is_refused() {
        params! { struct Wrong { count: u32 } }
        let mut memory = Guarded::new();
        let region = memory.output(8);
        let wrong = Launch::new(
            "ops/fill.wgsl",
            &[],
            &Wrong { count: 8 },
            vec![region],
            [1, 1, 1],
        );
        assert!(matches!(memory.run(&[wrong]), Err(GpuError::Launch { .. })));
        let params = FillParams {
            count: 8,
            value: 0.0,
        };
        let twice = Launch::new(
            "ops/fill.wgsl",
            &[],
            &params,
            vec![region, region],
            [1, 1, 1],
        );
        assert!(matches!(memory.run(&[twice]), Err(GpuError::Launch { .. })));
        let beyond = Region {
            size: 1 << 20,
            ..region
        };
        let outside = Launch::new("ops/fill.wgsl", &[], &params, vec![beyond], [1, 1, 1]);
        assert!(matches!(
            memory.run(&[outside]),
            Err(GpuError::Launch { .. })
        ));
    }
}
