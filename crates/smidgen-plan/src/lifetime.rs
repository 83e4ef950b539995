//! From when to when each value must hold its memory.

use smidgen_graph::{Phase, Program, Role};

/// The operations (by index, both included) between which a value must keep its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The operation that writes it first; 0 for what is uploaded before the step.
    pub first: usize,
    /// The last operation that reads or writes it.
    pub last: usize,
}

impl Lifetime {
    /// Whether two lifetimes have an operation in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// How a value is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Holds from step to step; memory of its own.
    Persistent,
    /// Made (or uploaded) in the forward pass and needed again after it: on the stash stack.
    Stash(Lifetime),
    /// Comes and goes within a pass: packed from the other end.
    Transient(Lifetime),
    /// In the host's memory, where each value has a place of its own.
    Host,
    /// No operation touches it: no memory.
    Unused,
}

/// The placement of every value of `program`, by value id.
#[must_use]
pub fn placements(program: &Program) -> Vec<Placement> {
    let mut lifetimes: Vec<Option<Lifetime>> = vec![None; program.values.len()];
    for (at, operation) in program.operations.iter().enumerate() {
        for id in operation.reads().into_iter().chain(operation.writes()) {
            lifetimes[id.0]
                .get_or_insert(Lifetime {
                    first: at,
                    last: at,
                })
                .last = at;
        }
    }
    for id in [program.images, program.labels] {
        if let Some(lifetime) = &mut lifetimes[id.0] {
            lifetime.first = 0;
        }
    }
    let end = program.operations.len().saturating_sub(1);
    for id in &program.kept {
        if let Some(lifetime) = &mut lifetimes[id.0] {
            lifetime.last = end;
        }
    }
    let forward_end = program
        .operations
        .iter()
        .rposition(|operation| operation.phase == Phase::Forward)
        .unwrap_or(0);
    program
        .values
        .iter()
        .zip(lifetimes)
        .map(|(value, lifetime)| match lifetime {
            _ if value.role.is_persistent() => Placement::Persistent,
            None => Placement::Unused,
            Some(_) if value.role == Role::Offloaded => Placement::Host,
            Some(lifetime) if is_stash(value.role, lifetime, forward_end) => {
                Placement::Stash(lifetime)
            }
            Some(lifetime) => Placement::Transient(lifetime),
        })
        .collect()
}

fn is_stash(role: Role, lifetime: Lifetime, forward_end: usize) -> bool {
    let made_forward = lifetime.first <= forward_end;
    // The logits end with the loss: they are as transient as what is made there.
    made_forward && lifetime.last > forward_end + 1 && role != Role::Labels
}
