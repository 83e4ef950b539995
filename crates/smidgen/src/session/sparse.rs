//! Sparse weights of a session: read and written as PyTorch has them, and their masks changed between two steps.

use super::Session;
use crate::Error;
use crate::kernels::sparse::{self, Parts};
use smidgen_conv::sparse::{EMPTY, Imported, Order, SparseError, SparseShape};
use smidgen_gpu::bytemuck;
pub use smidgen_graph::MASK_SUFFIX;
use smidgen_graph::{Layout, Weights};
use smidgen_plan::Place;

/// State: which block each slot of a sparse weight holds.
pub(super) const COLUMNS_PREFIX: &str = "columns of ";

/// What became of the mask of a weight that was loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskReport {
    /// The weight.
    pub name: String,
    /// Weights that the mask kept.
    pub kept: usize,
    /// Of them, those that stand in no live block.
    pub lost: usize,
    /// Their share of the sum of squares of the kept ones.
    pub lost_energy: f64,
}

/// A sparse weight in its place.
struct Sparse {
    shape: SparseShape,
    place: Place,
    parts: Parts<Place>,
    masks_gradient: bool,
}

impl Session {
    fn sparse(&self, name: &str) -> Result<Option<Sparse>, Error> {
        let Ok((id, place)) = self.program().find(name) else {
            return Ok(None);
        };
        let Layout::SparseWeight(attributes, blocks) = self.program().program.value(id).layout
        else {
            return Ok(None);
        };
        Ok(Some(Sparse {
            shape: sparse::shape_of(&attributes, &blocks),
            place,
            parts: sparse::places(place, &attributes, &blocks),
            masks_gradient: blocks.masks_gradient,
        }))
    }

    fn columns(&mut self, weight: &Sparse) -> Result<Vec<u32>, Error> {
        self.memory.read(weight.parts.columns)
    }

    /// The numbers of a sparse weight, its columns, or a value of the shape of its values; `None` if `name` is none of these.
    pub(super) fn read_sparse(&mut self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        if let Some(weight) = name.strip_prefix(COLUMNS_PREFIX) {
            let Some(weight) = self.sparse(weight)? else {
                return Ok(None);
            };
            let columns = self.columns(&weight)?;
            return Ok(Some(places_of(&weight.shape, &columns)));
        }
        if let Some(weight) = name.strip_suffix(MASK_SUFFIX)
            && let Some(weight) = self.sparse(weight)?
        {
            let mask = weight.shape.mask(&self.columns(&weight)?)?;
            return Ok(Some(mask.into_iter().map(f32::from).collect()));
        }
        let Some((weight, place)) = self.values(name)? else {
            return Ok(None);
        };
        let columns = self.columns(&weight)?;
        let values: Vec<f32> = self
            .memory
            .read(place)?
            .into_iter()
            .map(f32::from_bits)
            .collect();
        Ok(Some(weight.shape.unpack(&columns, &values)?))
    }

    /// Sets what [`read_sparse`](Self::read_sparse) reads. A weight keeps its columns; new columns keep what stays in place.
    pub(super) fn write_sparse(&mut self, name: &str, numbers: &[f32]) -> Result<bool, Error> {
        if let Some(weight) = name.strip_prefix(COLUMNS_PREFIX) {
            let Some(weight) = self.sparse(weight)? else {
                return Ok(false);
            };
            let before = self.columns(&weight)?;
            let values: Vec<f32> = floats(&self.memory.read(weight.parts.values)?);
            let dense = weight.shape.unpack(&before, &values)?;
            let columns = columns_of(&weight.shape, numbers)?;
            let values = weight.shape.pack(&columns, &dense)?;
            self.set(&weight, &columns, &values)?;
            return Ok(true);
        }
        let Some((weight, place)) = self.values(name)? else {
            return Ok(false);
        };
        let columns = self.columns(&weight)?;
        let values = weight.shape.pack(&columns, numbers)?;
        self.memory.write(place, bytemuck::cast_slice(&values))?;
        Ok(true)
    }

    /// The sparse weight that a value belongs to, and where that value's numbers stand.
    fn values(&self, name: &str) -> Result<Option<(Sparse, Place)>, Error> {
        if let Some(weight) = self.sparse(name)? {
            let values = weight.parts.values;
            return Ok(Some((weight, values)));
        }
        let Ok((id, place)) = self.program().find(name) else {
            return Ok(None);
        };
        let Layout::SparseValues(..) = self.program().program.value(id).layout else {
            return Ok(None);
        };
        let weight = name.split_once(" of ").map_or(name, |(_, weight)| weight);
        Ok(self.sparse(weight)?.map(|weight| (weight, place)))
    }

    fn set(&mut self, weight: &Sparse, columns: &[u32], values: &[f32]) -> Result<(), Error> {
        let words = sparse::pack(&weight.shape, columns, values, weight.masks_gradient);
        self.memory
            .write(weight.place, bytemuck::cast_slice(&words))
    }

    /// Sets a sparse weight and its mask from a dense weight and, where there is one, a mask of single weights: of all blocks, those
    /// with the largest sum of squares become live. `None` if `name` is no sparse weight.
    pub(super) fn import_sparse(
        &mut self,
        name: &str,
        weights: &Weights,
    ) -> Result<Option<MaskReport>, Error> {
        let (Some(weight), Some(tensor)) = (self.sparse(name)?, weights.tensors.get(name)) else {
            return Ok(None);
        };
        let mask = weights.tensors.get(&format!("{name}{MASK_SUFFIX}"));
        let mask = mask.map_or_else(
            || vec![true; tensor.values.len()],
            |mask| mask.values.iter().map(|value| *value != 0.0).collect(),
        );
        let Imported {
            columns,
            values,
            kept,
            lost,
            lost_energy,
            ..
        } = weight.shape.import(&tensor.values, &mask)?;
        self.set(&weight, &columns, &values)?;
        Ok(Some(MaskReport {
            name: name.to_owned(),
            kept,
            lost,
            lost_energy,
        }))
    }

    /// Changes the masks of all sparse layers, between two steps, each as its order says (in the order of
    /// [`Graph::sparse_layers`](smidgen_graph::Graph::sparse_layers)): weights and optimiser state of what is pruned are gone, what grows
    /// starts from zero. Where a session grows by gradients ([`Growth::Gradient`](crate::Growth)) they change with the next training step,
    /// whose batch says where gradients are large; there must be one before the session's state is saved.
    ///
    /// # Errors
    /// Not as many orders as sparse layers, an order that cannot be done exactly (then nothing is changed), or the device failed.
    pub fn mutate(&mut self, orders: &[Order]) -> Result<(), Error> {
        let weights = self.sparse_weights();
        if weights.len() != orders.len() {
            return Err(Error::Orders {
                given: orders.len(),
                expected: weights.len(),
            });
        }
        let mut places = Vec::with_capacity(weights.len());
        for (name, order) in weights.iter().zip(orders) {
            let Some(weight) = self.sparse(name)? else {
                continue;
            };
            let columns = self.columns(&weight)?;
            for own in columns.chunks(weight.shape.live as usize) {
                let live = own.iter().filter(|column| **column != EMPTY).count();
                order.check(&weight.shape, live as u32)?;
            }
            places.push(weight.parts.order);
        }
        for (place, order) in places.into_iter().zip(orders) {
            self.memory.write(place, bytemuck::bytes_of(order))?;
        }
        if let Some(growth) = &mut self.growth {
            growth.is_due = true;
            return Ok(());
        }
        let Some(mutation) = &self.mutation else {
            return Ok(());
        };
        self.memory.device.run(|pass| mutation.record(pass))?;
        self.memory.device.check()?;
        self.compute_all_gradients()
    }

    /// Computes the gradients of all live blocks, as after every change of masks.
    pub(super) fn compute_all_gradients(&mut self) -> Result<(), Error> {
        for name in self.sparse_weights() {
            self.choose_gradients(&name, |_| true)?;
        }
        Ok(())
    }

    /// The names of the sparse weights, in the order of the layers.
    fn sparse_weights(&self) -> Vec<String> {
        let program = &self.program().program;
        let weights = sparse::weights(program);
        weights
            .map(|(id, ..)| program.value(id).name.clone())
            .collect()
    }

    /// Computes the gradients of only those live blocks of a sparse weight that are `chosen` by the number of their slot (of all output
    /// groups, one after another), until it is chosen again or the mask changes; the others get zero. Changes nothing where a network was not
    /// made for it ([`Sparsity::masks_gradient`](smidgen_graph::Sparsity)).
    ///
    /// # Errors
    /// The device failed.
    pub fn choose_gradients(
        &mut self,
        name: &str,
        chosen: impl Fn(usize) -> bool,
    ) -> Result<(), Error> {
        let Some(weight) = self.sparse(name)?.filter(|weight| weight.masks_gradient) else {
            return Ok(());
        };
        let mut columns = self.columns(&weight)?;
        for (slot, column) in columns.iter_mut().enumerate() {
            if !chosen(slot) {
                *column = EMPTY;
            }
        }
        self.memory
            .write(weight.parts.chosen, bytemuck::cast_slice(&columns))
    }

    /// Which block of its output group each slot of a sparse weight holds, group after group: input quad times taps plus tap; `None` for
    /// an empty slot.
    ///
    /// # Errors
    /// No such sparse weight, or the device failed.
    pub fn live_blocks(&mut self, name: &str) -> Result<Vec<Option<u32>>, Error> {
        let places = self.read(&format!("{COLUMNS_PREFIX}{name}"))?;
        let block = |place: f32| (place >= 0.0).then_some(place as u32);
        Ok(places.into_iter().map(block).collect())
    }

    /// Sets what [`live_blocks`](Self::live_blocks) reads: blocks that stay keep their weights, new ones start from zero. Between two steps,
    /// for a choice that no kernel makes; optimiser state stays in its slots, so there should be none.
    ///
    /// # Errors
    /// As [`live_blocks`](Self::live_blocks).
    pub fn set_live_blocks(&mut self, name: &str, blocks: &[Option<u32>]) -> Result<(), Error> {
        let places = blocks
            .iter()
            .map(|block| block.map_or(-1.0, |block| block as f32));
        let places: Vec<f32> = places.collect();
        self.write(&format!("{COLUMNS_PREFIX}{name}"), &places)
    }
}

fn floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|word| f32::from_bits(*word)).collect()
}

/// Columns as numbers that a file of f32 holds exactly: which of its group's blocks each slot holds, -1 for none.
fn places_of(shape: &SparseShape, columns: &[u32]) -> Vec<f32> {
    let groups = (0..).zip(columns.chunks(shape.live as usize));
    groups
        .flat_map(|(group, own)| {
            let candidates: Vec<u32> = shape.candidate_columns(group).collect();
            own.iter().map(move |column| {
                let place = candidates.binary_search(column);
                place.map_or(-1.0, |place| place as f32)
            })
        })
        .collect()
}

fn columns_of(shape: &SparseShape, places: &[f32]) -> Result<Vec<u32>, SparseError> {
    if places.len() != shape.blocks() as usize {
        return Err(SparseError::Length {
            what: "columns",
            given: places.len(),
            expected: shape.blocks() as usize,
        });
    }
    let mut columns = Vec::with_capacity(places.len());
    for (group, own) in (0..).zip(places.chunks(shape.live as usize)) {
        let candidates: Vec<u32> = shape.candidate_columns(group).collect();
        for place in own {
            columns.push(match *place {
                -1.0 => EMPTY,
                // A number below zero, or none, would be cast to 0.
                place if place >= 0.0 => {
                    *candidates.get(place as usize).ok_or(SparseError::Column {
                        group,
                        column: place as u32,
                    })?
                }
                _ => {
                    return Err(SparseError::Column {
                        group,
                        column: EMPTY,
                    });
                }
            });
        }
    }
    Ok(columns)
}
