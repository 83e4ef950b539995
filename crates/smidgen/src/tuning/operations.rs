//! What the operations of a program take on the device: the costs that the planner weighs forms by.

use super::cache::{Cache, hash};
use super::measure::{Samples, times, with_scratch};
use super::{Choices, MOST_SECONDS, Measurements, fits};
use crate::{Bytes, Error, kernels};
use smidgen_gpu::{Device, DeviceFacts, Launch, wgpu};
use smidgen_graph::{Operation, Program, Role, ValueId};
use smidgen_plan::{Costs, Limits, Peak, Place, ProgramPlan, Roofline};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds of operations as they were measured on this device; of those that were not, a roofline's, put right by what the others
/// took in place of its prediction.
#[derive(Debug, Clone)]
pub(crate) struct OperationCosts {
    roofline: Roofline,
    choices: Choices,
    measured: Measurements,
    /// Seconds for one second of the roofline.
    factor: f64,
}

impl OperationCosts {
    /// Nothing but the roofline.
    pub(crate) fn predicted(roofline: Roofline, choices: &Choices) -> Self {
        Self {
            roofline,
            choices: choices.clone(),
            measured: Measurements::default(),
            factor: 1.0,
        }
    }

    /// Measures on the device what the cache does not know of `programs`, each an [operation alone](Program::alone), within the budget and
    /// in bounded time: first what takes the most of a step by the roofline.
    pub(crate) fn measure(
        self,
        device: &Device,
        programs: &[Program],
        budget: Option<Bytes>,
        cache: Option<&Path>,
        on_progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Self, CostReport), Error> {
        let start = Instant::now();
        let facts = device.facts();
        let cache = cache.map(|folder| Cache::new(folder, facts));
        let (mut known, note) = cache.as_ref().map(Cache::load).unwrap_or_default();
        let mut report = CostReport::default();
        report.notes.extend(note);
        let mut subjects: BTreeMap<Key, Subject<'_>> = BTreeMap::new();
        for program in programs {
            let key = self.key(program);
            let seconds: f64 = (program.operations.iter())
                .map(|operation| self.roofline.seconds(program, operation))
                .sum();
            match subjects.get_mut(&key) {
                Some(subject) => subject.weight += seconds,
                None => {
                    let subject = Subject {
                        program,
                        weight: seconds,
                        seconds,
                    };
                    subjects.insert(key, subject);
                }
            }
        }
        report.operations = subjects.len();
        let mut wanted: Vec<(&Key, &Subject<'_>)> = subjects.iter().collect();
        wanted.retain(|(key, _)| known.of_operation(key).is_none());
        wanted.sort_by(|(left, one), (right, other)| {
            other.weight.total_cmp(&one.weight).then(left.cmp(right))
        });
        let mut affordable = Vec::new();
        for (key, subject) in wanted {
            let plan = subject.plan(facts, &self.choices)?;
            if fits(plan.bytes, facts, budget) {
                affordable.push((key, subject, plan));
            }
        }
        if !affordable.is_empty() {
            let most = |bytes: fn(&AlonePlan) -> u64| {
                let all = affordable.iter().map(|(.., plan)| bytes(plan));
                all.max().unwrap_or(0)
            };
            let bytes = [most(|plan| plan.bytes), most(|plan| plan.on_host)];
            let deadline = start + Duration::from_secs(MOST_SECONDS);
            let mut fresh = Measurements::default();
            with_scratch(device, bytes, |scratch| {
                for (at, (key, subject, plan)) in affordable.iter().enumerate() {
                    on_progress(at, affordable.len());
                    let launches = plan.launches(subject.program, facts, &self.choices)?;
                    // Kernels take some words for addresses or for control: what another operation left there must not be read.
                    scratch.iter().for_each(|buffer| clear(device, buffer));
                    let Some(samples) = times(device, &[launches], scratch, deadline)? else {
                        break;
                    };
                    let seconds = samples.into_iter().map(Samples::median);
                    fresh.note_operation(key, seconds.sum());
                    report.measured += 1;
                }
                Ok(())
            })?;
            on_progress(affordable.len(), affordable.len());
            let unsaved = cache.as_ref().and_then(|cache| cache.save(&fresh));
            report.notes.extend(unsaved);
            known.merge(fresh);
        }
        let (mut measured, mut predicted) = (0.0, 0.0);
        for (key, subject) in &subjects {
            match known.of_operation(key) {
                // Of a bus, which tells nothing of the rest.
                Some(_) if is_to_host(subject.program) => {}
                Some(seconds) => {
                    measured += subject.weight / subject.seconds * seconds;
                    predicted += subject.weight;
                }
                None => report.left += 1,
            }
        }
        report.seconds = start.elapsed().as_secs_f64();
        let costs = Self {
            factor: if predicted > 0.0 {
                measured / predicted
            } else {
                1.0
            },
            measured: known,
            ..self
        };
        Ok((costs, report))
    }

    /// What an operation alone is known by, and the variant that computes it. The texts are of this version.
    fn key(&self, program: &Program) -> Key {
        let layouts = program.values.iter().map(|value| {
            let on_host = if value.role == Role::Offloaded {
                " on the host"
            } else {
                ""
            };
            format!("{:?}{on_host}", value.layout)
        });
        let kinds = (program.operations.iter()).map(|operation| format!("{:?}", operation.kind));
        let name = kinds.clone().next().unwrap_or_default();
        let name = name.split([' ', '{']).next().unwrap_or_default();
        let slabs = program.slabs();
        let slabs = (slabs.count() > 1).then(|| format!("slabs of {}", slabs.images));
        let operation = format!("{name} {:016x}", hash(kinds.chain(layouts).chain(slabs)));
        let first = program.operations.first();
        let variant = first.and_then(|one| kernels::variant(program, &one.kind, &self.choices));
        let variant = variant.map_or_else(|| "rule".to_owned(), |variant| variant.to_string());
        (operation, variant)
    }
}

impl Costs for OperationCosts {
    fn launch(&self) -> f64 {
        self.factor * self.roofline.launch()
    }

    fn seconds(&self, program: &Program, operation: &Operation) -> f64 {
        // By its parts, which were measured as operations of their own.
        if let Some(seconds) = self.in_slices(program, operation) {
            return seconds;
        }
        let alone = || program.alone(operation);
        let measured = || self.measured.of_operation(&self.key(&alone()));
        if let Some(seconds) = (!self.measured.is_empty()).then(measured).flatten() {
            return seconds;
        }
        if let Some(parts) = operation.apart() {
            return parts.iter().map(|part| self.seconds(program, part)).sum();
        }
        let seconds = self.roofline.seconds(program, operation);
        if is_to_host(&alone()) {
            seconds
        } else {
            self.factor * seconds
        }
    }
}

/// Whether this operation alone copies to the host's memory, or from there.
fn is_to_host(program: &Program) -> bool {
    let mut values = program.values.iter();
    values.any(|value| value.role == Role::Offloaded)
}

fn clear(device: &Device, scratch: &wgpu::Buffer) {
    let mut encoder = device.wgpu().create_command_encoder(&Default::default());
    encoder.clear_buffer(scratch, 0, None);
    device.queue().submit([encoder.finish()]);
}

/// What the measurement of operations did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CostReport {
    /// Operations with sizes of their own.
    pub operations: usize,
    /// How many of them were measured now.
    pub measured: usize,
    /// For how many there was no time or no memory: these are predicted.
    pub left: usize,
    /// How long measuring took.
    pub seconds: f64,
    /// What went wrong with the cache, which is never a failure.
    pub notes: Vec<String>,
}

/// An operation, and how it is computed.
type Key = (String, String);

/// An operation alone, with the seconds that the roofline predicts for one run of it and for all of a step.
struct Subject<'a> {
    program: &'a Program,
    seconds: f64,
    weight: f64,
}

impl Subject<'_> {
    /// Its values and its workspace one behind the other.
    fn plan(&self, facts: &DeviceFacts, choices: &Choices) -> Result<AlonePlan, Error> {
        let limits = Limits {
            alignment: facts.storage_alignment.max(256),
            max_binding_bytes: facts.max_binding_bytes,
            max_buffer_bytes: facts.max_buffer_bytes / 256 * 256,
        };
        // What stands on the host is in a buffer of its own, behind that of the device.
        let mut ends = [0, limits.max_buffer_bytes];
        let mut place = |bytes: u64, on_host: bool| {
            let end = &mut ends[usize::from(on_host)];
            let offset = *end;
            *end += bytes.next_multiple_of(limits.alignment);
            Some(Place { offset, bytes })
        };
        let values = self.program.values.iter().enumerate();
        let values = values.map(|(id, value)| {
            let on_host = value.role == Role::Offloaded;
            place(self.program.bytes(ValueId(id)), on_host)
        });
        let values = values.collect();
        let workspaces = kernels::workspaces(self.program, facts, choices)?;
        let workspaces = (workspaces.into_iter())
            .map(|bytes| (bytes > 0).then(|| place(bytes, false)).flatten())
            .collect();
        let [end, on_host] = [ends[0], ends[1] - limits.max_buffer_bytes];
        let peak = Peak {
            operation: 0,
            persistent: 0,
            stash: 0,
            height: end,
            bound: end,
        };
        Ok(AlonePlan {
            places: ProgramPlan {
                values,
                workspaces,
                peak,
            },
            limits,
            bytes: end,
            on_host,
        })
    }
}

/// Where an operation alone has its values.
struct AlonePlan {
    places: ProgramPlan,
    limits: Limits,
    bytes: u64,
    on_host: u64,
}

impl AlonePlan {
    fn launches(
        &self,
        program: &Program,
        facts: &DeviceFacts,
        choices: &Choices,
    ) -> Result<Vec<Launch>, Error> {
        let launches = kernels::launches(program, &self.places, self.limits, facts, choices)?;
        Ok(launches.concat())
    }
}
