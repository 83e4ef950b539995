//! Which variant of a kernel computes what: by rule, by measurement, or as written down.

mod cache;
mod choices;
mod measure;
mod operations;
#[cfg(test)]
mod repeat;

pub use choices::Choices;
use choices::{BothGradients, WORTH_CHANGING};
pub(crate) use choices::{Measurements, ShapeClass};
pub(crate) use measure::WARM_UP;
pub use operations::CostReport;
pub(crate) use operations::OperationCosts;

use crate::{Bytes, Error, Footprint, RaceTime};
use cache::Cache;
use measure::{Class, Subject};
use smidgen_conv::{Pass, Variant};
use smidgen_gpu::{Device, DeviceFacts, DeviceKind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How the variants of kernels are chosen. Different variants may differ in the last bits of their results.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Tuning {
    /// By the rule of the device's class (discrete, integrated, software ...): the same every time.
    #[default]
    Off,
    /// By measurement, on the device and within the budget, before the session reserves its memory.
    On {
        /// The folder in which what was measured is kept for the next time, such as [`cache_folder`]; `None` keeps nothing.
        cache: Option<PathBuf>,
    },
    /// As another session chose, whose results are to be repeated bit for bit.
    Recorded(Choices),
}

/// The variable that switches measuring on or off.
const VARIABLE: &str = "SMIDGEN_TUNE";

impl Tuning {
    /// As the variable `SMIDGEN_TUNE` says, `on` (with the system's cache folder) or `off`. Without it, a GPU is measured and a software
    /// device is not: the rule of its class was found by measuring such a device, and follows the same arithmetic everywhere.
    ///
    /// # Errors
    /// Any other value.
    pub fn from_environment(facts: &DeviceFacts) -> Result<Self, Error> {
        let value = std::env::var_os(VARIABLE).unwrap_or_default();
        Self::of_variable(&value.to_string_lossy(), facts)
    }

    fn of_variable(value: &str, facts: &DeviceFacts) -> Result<Self, Error> {
        let cache = cache_folder();
        match value {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On { cache }),
            "" if facts.kind == DeviceKind::Software => Ok(Self::Off),
            "" => Ok(Self::On { cache }),
            _ => Err(Error::TuneVariable {
                value: value.into(),
            }),
        }
    }
}

/// What tuning did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TuningReport {
    /// Passes of operators with sizes of their own.
    pub classes: usize,
    /// How many of them were measured now.
    pub measured: usize,
    /// For how many there was no time or no memory to measure: these follow the rule.
    pub left: usize,
    /// How long measuring took.
    pub seconds: f64,
    /// The costs of operations that plans were weighed by; nothing where no plan had to be chosen.
    pub costs: CostReport,
    /// The plans that were raced for the budget, the first being the one to beat.
    pub race: Vec<RaceTime>,
    /// What went wrong with the cache, which is never a failure.
    pub notes: Vec<String>,
}

/// Where programs keep what can be made again: `smidgen` in the system's cache folder (`$XDG_CACHE_HOME` or `~/.cache` on Linux);
/// `None` on a system that has none.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let strategy = etcetera::choose_base_strategy().ok()?;
    Some(strategy.cache_dir().join("smidgen"))
}

/// Measuring ends after this, so that the first step is never far; what is left follows the rule, and is measured the next time.
const MOST_SECONDS: u64 = 15;

/// Where the variants of a session come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The fastest by these measurements; where there are none, the rule.
    Measured(&'a Measurements),
    Recorded(&'a Choices),
}

impl Source<'_> {
    /// The variants of these classes, as far as they need no more than `room` bytes of workspace.
    pub(crate) fn choose(
        self,
        classes: &[ShapeClass],
        facts: &DeviceFacts,
        room: u64,
    ) -> Result<Choices, Error> {
        let mut choices = Choices::default();
        for class in classes {
            let ShapeClass { pass, shape } = class;
            let recorded = match self {
                Source::Recorded(recorded) => recorded.get(class),
                Source::Measured(_) => None,
            };
            // The record may be of another device, or of a version that had no such operator.
            let usable = recorded.filter(|known| smidgen_conv::fits(*known, *pass, shape, facts));
            let variant = match (usable, self) {
                (Some(variant), _) => Some(variant),
                (None, Source::Measured(measured)) => {
                    let candidates = smidgen_conv::candidates(*pass, shape, facts, room)?;
                    measured.fastest(class, &candidates)
                }
                (None, Source::Recorded(_)) => smidgen_conv::candidates(*pass, shape, facts, room)?
                    .into_iter()
                    .next(),
            };
            if let Some(variant) = variant {
                choices.set(class, variant);
            }
        }
        if let Source::Measured(measured) = self {
            for pair in gradient_pairs(classes) {
                together(measured, &mut choices, pair, facts)?;
            }
        }
        Ok(choices)
    }
}

/// The classes of both gradients of a shape.
fn gradient_pairs(classes: &[ShapeClass]) -> impl Iterator<Item = [ShapeClass; 2]> {
    let by_input = |class: &&ShapeClass| class.pass == Pass::InputGradient;
    let pairs = classes.iter().filter(by_input).map(|class| {
        let pass = Pass::WeightGradient;
        [*class, ShapeClass { pass, ..*class }]
    });
    pairs.filter(|[_, by_weight]| classes.contains(by_weight))
}

/// Chooses for both gradients of a shape together, where one kernel may compute the two: the fastest such kernel, or what was chosen for
/// each, whichever was faster. The rule, where that is one kernel, else what was chosen for each, is left only for what is worth it.
fn together(
    measured: &Measurements,
    choices: &mut Choices,
    pair: [ShapeClass; 2],
    facts: &DeviceFacts,
) -> Result<(), Error> {
    let shape = &pair[0].shape;
    let fused = smidgen_conv::fused_candidates(shape, facts)?;
    let chosen = pair.each_ref().map(|class| choices.get(class));
    let ([Some(by_input), Some(by_weight)], false) = (chosen, fused.is_empty()) else {
        return Ok(());
    };
    let apart = [by_input, by_weight];
    let seconds = |way: [Variant; 2]| {
        if way[0] == way[1] && fused.contains(&way[0]) {
            return measured.seconds(&BothGradients(*shape), &way[0]);
        }
        let halves = pair.iter().zip(&way);
        halves
            .map(|(class, variant)| measured.seconds(class, variant))
            .sum()
    };
    let by_rule = smidgen_conv::candidates(pair[0].pass, shape, facts, 0)?;
    let by_rule = by_rule.first().filter(|variant| fused.contains(variant));
    let default = by_rule.map_or(apart, |variant| [*variant; 2]);
    let ways = fused.iter().map(|variant| [*variant; 2]).chain([apart]);
    let best = (ways.filter_map(|way| Some((seconds(way)?, way))))
        .min_by(|(one, _), (other, _)| one.total_cmp(other));
    let best = best.zip(seconds(default));
    let better = best.filter(|((least, _), default)| *least < default * WORTH_CHANGING);
    let variants = better.map_or(default, |((_, way), _)| way);
    (pair.iter().zip(variants)).for_each(|(class, variant)| choices.set(class, variant));
    Ok(())
}

impl TuningReport {
    /// Of a session that was to use what is written down.
    pub(crate) fn of_record(recorded: &Choices, used: &Choices) -> Self {
        let others = used.iter().filter(|(class, variant)| {
            !recorded
                .iter()
                .any(|(known, noted)| known == *class && noted == *variant)
        });
        let others = others.count();
        let note = format!(
            "{others} of the variants written down cannot run here: results may differ in the last bits from those of the device they were written down on"
        );
        Self {
            classes: used.iter().count(),
            notes: if others > 0 { vec![note] } else { Vec::new() },
            ..Self::default()
        }
    }
}

/// The variants of these classes as `tuning` says, without a budget.
pub(crate) fn choices(
    device: &Device,
    classes: &[ShapeClass],
    tuning: &Tuning,
) -> Result<Choices, Error> {
    let facts = device.facts();
    let choose = |source: Source<'_>| source.choose(classes, facts, u64::MAX);
    match tuning {
        Tuning::Off => choose(Source::Measured(&Measurements::default())),
        Tuning::Recorded(choices) => choose(Source::Recorded(choices)),
        Tuning::On { cache } => {
            let classes: Vec<_> = classes.iter().map(|class| (*class, 1)).collect();
            let (measured, _) = measure(device, &classes, None, cache.as_deref(), &mut |_, _| {})?;
            choose(Source::Measured(&measured))
        }
    }
}

/// Measures what the cache does not know of these classes, each given with how often a step runs it.
pub(crate) fn measure(
    device: &Device,
    classes: &[(ShapeClass, usize)],
    budget: Option<Bytes>,
    cache: Option<&std::path::Path>,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<(Measurements, TuningReport), Error> {
    let start = Instant::now();
    let facts = device.facts();
    let cache = cache.map(|folder| Cache::new(folder, facts));
    let (mut known, note) = cache.as_ref().map(Cache::load).unwrap_or_default();
    let mut report = TuningReport {
        classes: classes.len(),
        notes: note.into_iter().collect(),
        ..TuningReport::default()
    };
    let mut subjects = Vec::new();
    let mut subject = |class: Class, work: u64, candidates: Vec<Variant>| {
        if !known.knows(&class, &candidates) {
            subjects.push((work, Subject { class, candidates }));
        }
    };
    let plain: Vec<ShapeClass> = classes.iter().map(|(class, _)| *class).collect();
    let mut fused = Vec::new();
    for [by_input, _] in gradient_pairs(&plain) {
        let candidates = smidgen_conv::fused_candidates(&by_input.shape, facts)?;
        if !candidates.is_empty() {
            fused.push((by_input.shape, candidates));
        }
    }
    report.classes += fused.len();
    for (class, count) in classes {
        let candidates = smidgen_conv::candidates(class.pass, &class.shape, facts, u64::MAX)?;
        let work = class.shape.multiply_adds() * *count as u64;
        let both = fused.iter().find(|(shape, _)| *shape == class.shape);
        let both = both.filter(|_| class.pass != Pass::Forward);
        // A single candidate is measured only to be compared with one kernel for both gradients.
        if candidates.len() > 1 || both.is_some() {
            subject(Class::One(*class), work, candidates);
        }
        if let (Pass::InputGradient, Some((shape, candidates))) = (class.pass, both) {
            let class = Class::Both(BothGradients(*shape));
            subject(class, 2 * work, candidates.clone());
        }
    }
    // What matters most comes first, should time run out.
    subjects.sort_by_key(|(work, _)| std::cmp::Reverse(*work));
    let wanted = subjects.len();
    let (mut affordable, mut bytes) = (Vec::new(), 0);
    for (_, subject) in subjects {
        let needed = subject.bytes(facts)?;
        if fits(needed, facts, budget) {
            bytes = bytes.max(needed);
            affordable.push(subject);
        }
    }
    if !affordable.is_empty() {
        let deadline = start + Duration::from_secs(MOST_SECONDS);
        let all = affordable.len();
        let measured = measure::measure(device, &affordable, bytes, deadline, |done| {
            on_progress(done, all);
        })?;
        report.measured = affordable
            .iter()
            .filter(|subject| measured.knows(&subject.class, &subject.candidates))
            .count();
        let unsaved = cache.as_ref().and_then(|cache| cache.save(&measured));
        report.notes.extend(unsaved);
        known.merge(measured);
        on_progress(all, all);
    }
    report.left = wanted - report.measured;
    report.seconds = start.elapsed().as_secs_f64();
    Ok((known, report))
}

/// Whether a buffer of so many bytes can be had while measuring.
fn fits(bytes: u64, facts: &DeviceFacts, budget: Option<Bytes>) -> bool {
    /// More than the uniforms and timestamps of all candidates of a class take.
    const BESIDE: u64 = 64 << 10;
    let total = Footprint::new(facts, &[bytes], &[BESIDE], &[], &[BESIDE]).total();
    bytes <= facts.max_buffer_bytes && budget.is_none_or(|budget| total <= budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: DeviceKind) -> DeviceFacts {
        DeviceFacts {
            name: String::new(),
            driver: String::new(),
            backend: String::new(),
            kind,
            max_buffer_bytes: 1 << 28,
            max_binding_bytes: 1 << 27,
            storage_alignment: 256,
            uniform_alignment: 256,
            workgroup_memory_bytes: 16 << 10,
            max_invocations: 256,
            subgroup_sizes: None,
            timestamps: false,
            half_precision: false,
            host_memory: false,
        }
    }

    #[test]
    fn the_variable_is_on_or_off_and_nothing_else() {
        let of = |value, kind| Tuning::of_variable(value, &facts(kind));
        let on = |tuning| matches!(tuning, Ok(Tuning::On { .. }));
        for kind in [DeviceKind::Software, DeviceKind::Discrete] {
            assert!(on(of("on", kind)));
            assert!(matches!(of("off", kind), Ok(Tuning::Off)));
            for wrong in ["1", "ON", "offf", " "] {
                let error = of(wrong, kind).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("`{wrong}`")) && error.contains("`off`"),
                    "{error}"
                );
            }
        }
        assert!(on(of("", DeviceKind::Integrated)));
        assert!(matches!(of("", DeviceKind::Software), Ok(Tuning::Off)));
    }

    #[test]
    fn a_record_is_kept_to_as_far_as_the_device_can() {
        let facts = facts(DeviceKind::Discrete);
        let class = |width| ShapeClass {
            pass: smidgen_conv::Pass::Forward,
            shape: smidgen_conv::ConvolutionShape::new(1, [8, 8, width], 8, [3, 3]),
        };
        let [noted, foreign, new] = [8, 16, 32].map(class);
        let mut record = Choices::default();
        record.set(&noted, "direct 2x2".parse().unwrap());
        record.set(&foreign, "subgroup-16 4x2".parse().unwrap());
        let used = Source::Recorded(&record)
            .choose(&[noted, foreign, new], &facts, 0)
            .unwrap();
        assert_eq!(used.get(&noted), record.get(&noted));
        let rule = Measurements::default();
        let default = Source::Measured(&rule)
            .choose(&[noted, foreign, new], &facts, 0)
            .unwrap();
        assert_ne!(default.get(&noted), record.get(&noted));
        for other in [foreign, new] {
            assert_eq!(used.get(&other), default.get(&other));
        }
        let report = TuningReport::of_record(&record, &used);
        assert!(
            report.notes[0].starts_with("2 of the variants"),
            "{report:?}"
        );
        assert!(TuningReport::of_record(&used, &used).notes.is_empty());
    }

    #[test]
    fn gradients_that_one_kernel_computes_are_chosen_together() {
        let facts = facts(DeviceKind::Discrete);
        let shape = smidgen_conv::ConvolutionShape::new(8, [96, 28, 28], 96, [3, 3])
            .with_padding(1)
            .with_groups(96);
        let classes =
            [Pass::InputGradient, Pass::WeightGradient].map(|pass| ShapeClass { pass, shape });
        let [by_input, by_weight] = classes
            .map(|class| smidgen_conv::candidates(class.pass, &shape, &facts, u64::MAX).unwrap());
        let shared = smidgen_conv::fused_candidates(&shape, &facts).unwrap();
        assert_eq!(shared[0], by_input[0]);
        let dense = smidgen_conv::ConvolutionShape { groups: 1, ..shape };
        assert_eq!(
            smidgen_conv::fused_candidates(&dense, &facts),
            Ok(Vec::new())
        );
        // Each gradient has a fastest of its own, a third kernel is the fastest of those that compute both; the first is the rule's.
        let choose = |of_third: f64, of_rule: f64| {
            let mut measured = Measurements::default();
            for (class, candidates) in classes.iter().zip([&by_input, &by_weight]) {
                candidates
                    .iter()
                    .for_each(|variant| measured.note(class, *variant, 9.0));
            }
            measured.note(&classes[0], shared[1], 1.0);
            measured.note(&classes[1], by_weight[by_weight.len() - 1], 1.0);
            for variant in &shared {
                measured.note(&BothGradients(shape), *variant, 9.0);
            }
            measured.note(&BothGradients(shape), shared[2], of_third);
            measured.note(&BothGradients(shape), shared[0], of_rule);
            let choices = Source::Measured(&measured)
                .choose(&classes, &facts, u64::MAX)
                .unwrap();
            classes.each_ref().map(|class| choices.get(class).unwrap())
        };
        assert_eq!(choose(1.9, 5.0), [shared[2]; 2]);
        assert_eq!(
            choose(2.1, 5.0),
            [shared[1], by_weight[by_weight.len() - 1]]
        );
        assert_eq!(choose(1.99, 2.0), [shared[0]; 2]);
        // Nothing is known of kernels that compute both.
        let mut measured = Measurements::default();
        for (class, candidates) in classes.iter().zip([&by_input, &by_weight]) {
            for (at, variant) in candidates.iter().enumerate() {
                measured.note(class, *variant, 1.0 / (1 + at) as f64);
            }
        }
        let choices = Source::Measured(&measured)
            .choose(&classes, &facts, u64::MAX)
            .unwrap();
        for class in &classes {
            assert_eq!(choices.get(class), Some(shared[0]));
        }
    }

    #[test]
    fn memory_for_measuring_comes_out_of_the_budget() {
        let facts = facts(DeviceKind::Discrete);
        assert!(fits(1 << 27, &facts, None));
        assert!(!fits(1 << 29, &facts, None));
        assert!(fits(1 << 24, &facts, Some(Bytes(1 << 26))));
        assert!(!fits(1 << 26, &facts, Some(Bytes(1 << 26))));
    }
}
