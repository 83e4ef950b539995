//! Plans that are written down.

use super::Session;
use super::draft::Draft;
use crate::Error;
use serde::{Deserialize, Serialize};
use smidgen_graph::forms::{Form, Forms};
use smidgen_graph::{LOSS_SCALE, Layout, Program, Role};
use smidgen_plan::Limits;
use std::collections::BTreeMap;

/// How the stashes of a network are held at a batch, on a device of these limits: what [`Training::plan`](crate::Training::plan) takes,
/// so that a run repeats another, whatever a planner would choose by now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    batch: u32,
    /// Into how many parts a step divides the batch.
    #[serde(default = "one")]
    micro_batches: u32,
    /// Whether maps are held in f16.
    #[serde(default)]
    half_maps: bool,
    /// Images of a slab; none if maps stand in one piece.
    #[serde(default)]
    slab: Option<u32>,
    limits: Limits,
    /// Names and bytes of the parameters: what a network is known by.
    parameters: BTreeMap<String, u64>,
    /// The form of every stash that is not whole, by the stash's name.
    forms: BTreeMap<String, Form>,
}

impl PlanFile {
    /// The plan of a session.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self::new(
            session.main_program(),
            session.plan().limits,
            session.forms(),
        )
    }

    pub(super) fn new(program: &Program, limits: Limits, forms: &Forms) -> Self {
        let named = forms
            .iter()
            .map(|(id, form)| (program.value(*id).name.clone(), *form));
        Self {
            batch: program.batch * program.micro_batches,
            micro_batches: program.micro_batches,
            half_maps: program.find(LOSS_SCALE).is_some(),
            slab: slab(program),
            limits,
            parameters: parameters(program),
            forms: named.collect(),
        }
    }

    /// Images of a micro-batch, where it divides the batch.
    pub(super) fn micro_batch(&self) -> Option<u32> {
        (self.micro_batches > 1).then(|| self.batch / self.micro_batches)
    }

    /// Reads what was written as JSON.
    ///
    /// # Errors
    /// A text that is no plan.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| refuse(format!("it is no plan: {error}")))
    }

    /// The forms of these stashes in another program of the same network.
    pub(super) fn forms(&self, draft: &Draft) -> Result<Forms, Error> {
        let program = &draft.programs[0];
        let own = parameters(program);
        if self.parameters != own {
            let differs = (own.iter())
                .find(|(name, bytes)| self.parameters.get(*name) != Some(*bytes))
                .or_else(|| (self.parameters.iter()).find(|(name, _)| !own.contains_key(*name)));
            let name = differs.map_or("a parameter", |(name, _)| name.as_str());
            return Err(refuse(format!(
                "it is of another network, in which `{name}` is not the same; plan this one anew"
            )));
        }
        let batch = program.batch * program.micro_batches;
        if self.batch != batch {
            return Err(refuse(format!(
                "it is for a batch of {}, and this one is of {}; plan anew, or train with a batch of {0}",
                self.batch, batch
            )));
        }
        if self.micro_batches != program.micro_batches {
            return Err(refuse(format!(
                "it divides the batch by {}, and this one is divided by {}; plan anew, or leave the micro-batch to the plan",
                self.micro_batches, program.micro_batches
            )));
        }
        if self.half_maps != program.find(LOSS_SCALE).is_some() {
            let [there, here] = if self.half_maps {
                ["f16", "f32"]
            } else {
                ["f32", "f16"]
            };
            return Err(refuse(format!(
                "it holds maps in {there}, and this one in {here}; plan anew, or ask for the same (`half_maps`)"
            )));
        }
        if self.slab != slab(program) {
            let images = |slab: Option<u32>| match slab {
                Some(images) => format!("slabs of {images} pictures"),
                None => "one piece".into(),
            };
            return Err(refuse(format!(
                "its maps stand in {}, and here in {}, because the device binds more or less at once; plan anew on this one",
                images(self.slab),
                images(slab(program)),
            )));
        }
        // Keeping everything whole is the same plan on any device.
        if !self.forms.is_empty() && self.limits != draft.limits {
            return Err(refuse(format!(
                "it is for a device with other limits ({} bytes a binding, {} a buffer, offsets of {}; here {}, {} and {}); plan anew on this one",
                self.limits.max_binding_bytes,
                self.limits.max_buffer_bytes,
                self.limits.alignment,
                draft.limits.max_binding_bytes,
                draft.limits.max_buffer_bytes,
                draft.limits.alignment,
            )));
        }
        let forms = self.forms.iter().map(|(name, form)| {
            let id = program.find(name).ok_or_else(|| {
                refuse(format!(
                    "`{name}` is no value of this network; plan it anew"
                ))
            })?;
            Ok((id, *form))
        });
        forms.collect()
    }
}

fn one() -> u32 {
    1
}

fn slab(program: &Program) -> Option<u32> {
    (program.slab < program.batch).then_some(program.slab)
}

fn parameters(program: &Program) -> BTreeMap<String, u64> {
    let values = program.values.iter();
    let parameters = values.filter(|value| value.role == Role::Parameter);
    parameters
        .map(|value| (value.name.clone(), Layout::bytes(&value.layout)))
        .collect()
}

fn refuse(what: String) -> Error {
    Error::PlanFile { what }
}
