use crate::lifetime::{Lifetime, Placement, placements};
use crate::pack::{Item, liveness, pack};
use serde::{Deserialize, Serialize};
use smidgen_graph::{Layout, Program, Role, ValueId};
use std::collections::HashMap;

/// What a device demands of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Offsets are multiples of this, in bytes.
    pub alignment: u64,
    /// The largest tensor, in bytes; of maps in slabs, the largest slab.
    pub max_binding_bytes: u64,
    /// The largest buffer, in bytes; an arena that is larger is cut into several, and no tensor lies across a cut.
    pub max_buffer_bytes: u64,
}

/// Bytes of an arena, from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// First byte.
    pub offset: u64,
    /// Bytes, without the padding up to the alignment.
    pub bytes: u64,
}

/// The places of one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramPlan {
    /// By value id; `None` for what no operation touches.
    pub values: Vec<Option<Place>>,
    /// By operation; `None` where the kernels need no workspace.
    pub workspaces: Vec<Option<Place>>,
    /// The peak and what it consists of.
    pub peak: Peak,
}

/// The moment at which a program needs the most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// Index of the operation; of several that need as much, the first.
    pub operation: usize,
    /// Parameters, optimiser state, running statistics, control and metrics, in bytes.
    pub persistent: u64,
    /// All stashes of the step, in bytes.
    pub stash: u64,
    /// Height of the arena above the persistent part, in bytes.
    pub height: u64,
    /// No placement could be lower than this, in bytes (above the persistent part).
    pub bound: u64,
}

/// Where everything stands: the same input gives the same plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What it was made for.
    pub limits: Limits,
    /// One for each program, in the order given; they share their persistent values, by name.
    pub programs: Vec<ProgramPlan>,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Bytes in the host's memory, which the device's kernels read and write there: a second arena, in buffers of its own. Its places begin where
    /// the buffer does that follows those of the first.
    pub host_bytes: u64,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A tensor is larger than the device can bind.
    #[error(
        "`{value}` needs {bytes} bytes, and this device binds at most {limit} at once; {}", remedy(*batch)
    )]
    TooLarge {
        /// Name of the value (or of the layer whose workspace it is).
        value: String,
        /// Its bytes.
        bytes: u64,
        /// What the device binds.
        limit: u64,
        /// The largest batch at which it would fit; `None` if it does not shrink with the batch, or not enough.
        batch: Option<u64>,
    },
    /// A map in slabs is larger than a buffer of the device.
    #[error(
        "`{value}` needs {bytes} bytes, and a buffer of this device has at most {limit}; {}", remedy(*batch)
    )]
    AboveBuffer {
        /// Name of the value.
        value: String,
        /// Its bytes.
        bytes: u64,
        /// What a buffer has.
        limit: u64,
        /// As in [`TooLarge`](Self::TooLarge).
        batch: Option<u64>,
    },
    /// Two programs disagree about a persistent value.
    #[error("`{value}` has {here} bytes in one program and {there} in another")]
    Disagreement {
        /// Name of the value.
        value: String,
        /// Bytes in one.
        here: u64,
        /// Bytes in the other.
        there: u64,
    },
}

impl Plan {
    /// Places the values of `programs`, which never run at the same time, in one arena. `workspaces[p][o]` are the bytes of
    /// workspace that operation `o` of program `p` needs.
    ///
    /// # Errors
    /// A tensor larger than the device binds, a map in slabs larger than a buffer, or programs that disagree about a shared value.
    pub fn new(
        programs: &[&Program],
        workspaces: &[Vec<u64>],
        limits: Limits,
    ) -> Result<Self, PlanError> {
        check_sizes(programs, workspaces, limits)?;
        let mut cursor = Cursor { limits, at: 0 };
        let mut shared: HashMap<&str, Place> = HashMap::new();
        let values = programs.iter().flat_map(|program| {
            let values = program.values.iter().enumerate();
            values.map(|(id, value)| (value, program.bytes(ValueId(id))))
        });
        for (value, bytes) in values.filter(|(value, _)| value.role.is_persistent()) {
            match shared.get(value.name.as_str()) {
                Some(place) if place.bytes != bytes => {
                    return Err(PlanError::Disagreement {
                        value: value.name.clone(),
                        here: bytes,
                        there: place.bytes,
                    });
                }
                Some(_) => {}
                None => {
                    shared.insert(&value.name, cursor.take(bytes));
                }
            }
        }
        let persistent = cursor;
        let (mut arena_bytes, mut plans) = (persistent.at, Vec::new());
        for (program, workspaces) in programs.iter().zip(workspaces) {
            let (plan, end) = place(program, workspaces, &shared, persistent);
            arena_bytes = arena_bytes.max(end);
            plans.push(plan);
        }
        let host = Cursor {
            limits,
            at: arena_bytes.next_multiple_of(limits.max_buffer_bytes),
        };
        let mut host_bytes = 0;
        for (program, plan) in programs.iter().zip(&mut plans) {
            let mut cursor = host;
            for (id, place) in plan.values.iter_mut().enumerate() {
                if program.values[id].role == Role::Offloaded {
                    *place = Some(cursor.take(program.bytes(ValueId(id))));
                }
            }
            host_bytes = host_bytes.max(cursor.at - host.at);
        }
        Ok(Self {
            limits,
            programs: plans,
            arena_bytes,
            host_bytes,
        })
    }

    /// By operation of a program: the bytes above the persistent part that are in use while it runs. No placement is lower.
    #[must_use]
    pub fn in_use(program: &Program, workspaces: &[u64], limits: Limits) -> Vec<u64> {
        let limits = Limits {
            max_buffer_bytes: u64::MAX,
            ..limits
        };
        let layers = Layers::new(program, workspaces, Cursor { limits, at: 0 });
        let items: Vec<Item> = (layers.transients.iter())
            .map(|(_, item, _)| *item)
            .collect();
        liveness(&items, &layers.floor)
    }

    /// The sizes of the buffers the arena is made of.
    #[must_use]
    pub fn buffers(&self) -> Vec<u64> {
        cut(self.arena_bytes, self.limits)
    }

    /// The sizes of those in the host's memory, which follow them.
    #[must_use]
    pub fn host_buffers(&self) -> Vec<u64> {
        cut(self.host_bytes, self.limits)
    }
}

fn cut(bytes: u64, limits: Limits) -> Vec<u64> {
    let mut left = bytes;
    let mut buffers = Vec::new();
    while left > 0 {
        let bytes = left.min(limits.max_buffer_bytes);
        buffers.push(bytes);
        left -= bytes;
    }
    buffers
}

/// Refuses what the device cannot bind, naming the value with the strictest remedy: what no batch helps first, else the least batch.
fn check_sizes(
    programs: &[&Program],
    workspaces: &[Vec<u64>],
    limits: Limits,
) -> Result<(), PlanError> {
    let limit = limits.max_binding_bytes.min(limits.max_buffer_bytes);
    let mut worst: Option<(Option<u64>, &str, u64)> = None;
    for (program, workspaces) in programs.iter().zip(workspaces) {
        let divided = program.slabs().count() > 1;
        let values = program.values.iter().enumerate();
        // Codes are bound a slab at a time too, and are smaller than what they stand for.
        let values = values.filter(|(_, value)| {
            let codes =
                matches!(value.layout, Layout::Words { .. }) && value.role == Role::Activation;
            !(divided && codes)
        });
        let values = values.map(|(id, value)| {
            let is_weight = matches!(
                value.layout,
                Layout::Weight(_)
                    | Layout::Vector { .. }
                    | Layout::SparseWeight(..)
                    | Layout::SparseValues(..)
                    | Layout::Normalisation { .. }
            );
            (&value.name, program.bound_bytes(ValueId(id)), !is_weight)
        });
        let operations = program.operations.iter().zip(workspaces);
        let workspaces = operations.map(|(operation, bytes)| (&operation.layer, *bytes, true));
        for (name, bytes, shrinks) in values
            .chain(workspaces)
            .filter(|(_, bytes, _)| *bytes > limit)
        {
            let batch = Some(u64::from(program.batch) * limit / bytes)
                .filter(|batch| shrinks && *batch > 0);
            if worst.is_none_or(|(least, ..)| batch < least) {
                worst = Some((batch, name, bytes));
            }
        }
    }
    if let Some((batch, value, bytes)) = worst {
        return Err(PlanError::TooLarge {
            value: value.to_owned(),
            bytes,
            limit,
            batch,
        });
    }
    // The slabs of a map stand one behind the other.
    let limit = limits.max_buffer_bytes;
    let maps = programs.iter().flat_map(|program| {
        let ids = (0..program.values.len()).map(ValueId);
        ids.map(|id| (*program, id, program.bytes(id)))
    });
    let largest = maps.max_by_key(|(.., bytes)| *bytes);
    match largest.filter(|(.., bytes)| *bytes > limit) {
        Some((program, id, bytes)) => Err(PlanError::AboveBuffer {
            value: program.value(id).name.clone(),
            bytes,
            limit,
            batch: Some(u64::from(program.batch) * limit / bytes).filter(|batch| *batch > 0),
        }),
        None => Ok(()),
    }
}

fn remedy(batch: Option<u64>) -> String {
    batch.map_or_else(
        || {
            "no batch makes it fit: use a smaller network, smaller pictures or another device"
                .into()
        },
        |batch| format!("use a batch of {batch} or less, or micro-batches of so many"),
    )
}

/// Hands out aligned bytes one after the other, never across the end of a buffer.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    limits: Limits,
    at: u64,
}

impl Cursor {
    fn take(&mut self, bytes: u64) -> Place {
        let padded = bytes.next_multiple_of(self.limits.alignment);
        self.at = beyond_cut(self.at, padded, self.limits);
        let place = Place {
            offset: self.at,
            bytes,
        };
        self.at += padded;
        place
    }
}

/// `offset`, or the start of the next buffer if `bytes` from there would cross into it.
fn beyond_cut(offset: u64, bytes: u64, limits: Limits) -> u64 {
    let buffer = limits.max_buffer_bytes / limits.alignment * limits.alignment;
    if offset / buffer == (offset + bytes.max(1) - 1) / buffer {
        offset
    } else {
        offset.next_multiple_of(buffer)
    }
}

/// Something transient: a value or the workspace of an operation.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Value(usize),
    Workspace(usize),
}

/// What does not persist: the stashes on their stack, and what is packed from the other end.
struct Layers {
    stashes: Vec<(usize, Place)>,
    transients: Vec<(Owner, Item, u64)>,
    /// By operation: how high the stack stands.
    floor: Vec<u64>,
    /// How high it stands with all stashes.
    stash: u64,
}

impl Layers {
    fn new(program: &Program, workspaces: &[u64], start: Cursor) -> Self {
        let item = |lifetime: Lifetime, bytes: u64| Item {
            lifetime,
            bytes: bytes.next_multiple_of(start.limits.alignment),
        };
        let (mut stashes, mut transients) = (Vec::new(), Vec::new());
        for (id, placement) in placements(program).into_iter().enumerate() {
            let bytes = program.bytes(ValueId(id));
            match placement {
                Placement::Stash(lifetime) => stashes.push((id, lifetime)),
                Placement::Transient(lifetime) => {
                    transients.push((Owner::Value(id), item(lifetime, bytes), bytes));
                }
                Placement::Persistent | Placement::Host | Placement::Unused => {}
            }
        }
        let needed = workspaces.iter().enumerate();
        transients.extend(needed.filter(|(_, bytes)| **bytes > 0).map(|(at, bytes)| {
            let lifetime = Lifetime {
                first: at,
                last: at,
            };
            (Owner::Workspace(at), item(lifetime, *bytes), *bytes)
        }));
        // Pushed in the order they are made; what is needed again later stands deeper.
        stashes
            .sort_by_key(|(id, lifetime)| (lifetime.first, std::cmp::Reverse(lifetime.last), *id));
        let mut floor = vec![0u64; program.operations.len().max(1)];
        let mut cursor = start;
        let stashes = stashes.into_iter().map(|(id, lifetime)| {
            let place = cursor.take(program.bytes(ValueId(id)));
            floor[lifetime.first..=lifetime.last].fill(cursor.at - start.at);
            (id, place)
        });
        Self {
            stashes: stashes.collect(),
            transients,
            stash: cursor.at - start.at,
            floor,
        }
    }
}

/// Places what does not persist, from `start` on, and returns the end of the arena it needs.
fn place(
    program: &Program,
    workspaces: &[u64],
    shared: &HashMap<&str, Place>,
    start: Cursor,
) -> (ProgramPlan, u64) {
    let limits = start.limits;
    let mut values: Vec<Option<Place>> = program
        .values
        .iter()
        .map(|value| {
            value
                .role
                .is_persistent()
                .then(|| shared.get(value.name.as_str()).copied())
                .flatten()
        })
        .collect();
    let mut workspace_places = vec![None; program.operations.len()];

    let Layers {
        stashes,
        transients,
        floor,
        stash,
    } = Layers::new(program, workspaces, start);
    for (id, place) in stashes {
        values[id] = Some(place);
    }
    let items: Vec<Item> = transients.iter().map(|(_, item, _)| *item).collect();
    let live = liveness(&items, &floor);
    let bound = live.iter().copied().max().unwrap_or(0);
    let one_buffer = (start.at + bound <= limits.max_buffer_bytes)
        .then(|| pack(&items, &floor, &|offset, _| offset))
        .filter(|(_, height)| start.at + height <= limits.max_buffer_bytes);
    let (offsets, end) = if let Some((mut offsets, height)) = one_buffer {
        let end = start.at + height;
        for (offset, item) in offsets.iter_mut().zip(&items) {
            *offset = end - *offset - item.bytes;
        }
        (offsets, end)
    } else {
        // An arena of several buffers: transients are packed above the stack, in steps that cross no cut.
        let base = start.at + stash;
        let shift = |offset: u64, bytes: u64| beyond_cut(base + offset, bytes, limits) - base;
        let (above, height) = pack(&items, &vec![0; floor.len()], &shift);
        let offsets: Vec<u64> = above.into_iter().map(|offset| base + offset).collect();
        (offsets, base + height)
    };
    for ((owner, _, bytes), offset) in transients.into_iter().zip(offsets) {
        let place = Some(Place { offset, bytes });
        match owner {
            Owner::Value(id) => values[id] = place,
            Owner::Workspace(at) => workspace_places[at] = place,
        }
    }
    let operation = live.iter().position(|bytes| *bytes == bound).unwrap_or(0);
    let peak = Peak {
        operation,
        persistent: start.at,
        stash,
        height: end - start.at,
        bound,
    };
    (
        ProgramPlan {
            values,
            workspaces: workspace_places,
            peak,
        },
        end,
    )
}

/// Bytes of parameters, optimiser state and so on, by role: for reports.
#[must_use]
pub fn persistent_bytes(program: &Program, role: Role) -> u64 {
    program
        .values
        .iter()
        .enumerate()
        .filter(|(_, value)| value.role == role)
        .map(|(id, _)| program.bytes(ValueId(id)))
        .sum()
}
