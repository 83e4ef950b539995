//! Tensors by name, and safetensors files of them.

mod error;
mod format;
mod replace;

use crate::graph::Graph;
pub use error::WeightsError;
pub use replace::replace_file;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The mask of a weight stands under its name with this behind it, as PyTorch's pruning calls it: 0 where a weight is held at zero.
pub const MASK_SUFFIX: &str = "_mask";

/// How many names an error lists.
const LISTED: usize = 5;

/// Numbers and their shape, as PyTorch has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
    /// As many as the product of the sizes.
    pub values: Vec<f32>,
}

/// Parameters and running statistics under their PyTorch names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// The tensors.
    pub tensors: BTreeMap<String, Tensor>,
    /// What the file says of itself.
    pub metadata: BTreeMap<String, String>,
}

impl Weights {
    /// Reads a safetensors file. Half-precision numbers are widened; PyTorch's `num_batches_tracked` is left out.
    ///
    /// # Errors
    /// If the file cannot be read, is not sound, or holds other kinds of numbers.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| WeightsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(|error| WeightsError::File {
            path: path.to_owned(),
            source: Box::new(error),
        })
    }

    /// Writes a safetensors file of 32-bit numbers: to a temporary file in the same folder first, which takes the place of the
    /// old one only when all of it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written. What was there before is then untouched, and the temporary file is removed.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), WeightsError> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        replace_file(path, &bytes).map_err(|source| WeightsError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// The numbers of a weight under its mask, if there is one.
    #[must_use]
    pub fn masked(&self, name: &str, tensor: &Tensor) -> Vec<f32> {
        let mut values = tensor.values.clone();
        if let Some(mask) = self.tensors.get(&format!("{name}{MASK_SUFFIX}")) {
            for (value, on) in values.iter_mut().zip(&mask.values) {
                *value = if *on == 0.0 { 0.0 } else { *value };
            }
        }
        values
    }

    /// Checks that these are the weights of a network: every parameter and running statistic is there with its shape, and
    /// nothing else.
    ///
    /// # Errors
    /// If not; the error names what is missing, has another shape or is unknown.
    pub fn check(&self, graph: &Graph) -> Result<(), WeightsError> {
        let parameters = graph
            .parameters()
            .iter()
            .map(|parameter| (parameter.name.as_str(), parameter.shape.clone()));
        let buffers = graph
            .buffers()
            .iter()
            .map(|buffer| (buffer.name.as_str(), vec![buffer.channels as usize]));
        let expected: BTreeMap<&str, Vec<usize>> = parameters.chain(buffers).collect();
        let missing: Vec<&str> = expected
            .keys()
            .copied()
            .filter(|name| !self.tensors.contains_key(*name))
            .collect();
        if !missing.is_empty() {
            return Err(WeightsError::Missing {
                network: graph.name().to_owned(),
                count: missing.len(),
                examples: list(&missing),
            });
        }
        let weight_of = |name: &str| {
            let weight = name.strip_suffix(MASK_SUFFIX)?;
            expected.get(weight)
        };
        let unknown: Vec<&str> = (self.tensors.keys().map(String::as_str))
            .filter(|name| {
                !expected.contains_key(name) && !is_counter(name) && weight_of(name).is_none()
            })
            .collect();
        if !unknown.is_empty() {
            return Err(WeightsError::Unknown {
                network: graph.name().to_owned(),
                count: unknown.len(),
                examples: list(&unknown),
            });
        }
        for (name, tensor) in &self.tensors {
            if let Some(shape) = expected.get(name.as_str()).or_else(|| weight_of(name)) {
                if *shape != tensor.shape {
                    return Err(WeightsError::Shape {
                        name: name.clone(),
                        expected: shape.clone(),
                        found: tensor.shape.clone(),
                    });
                }
                tensor.check(name)?;
            }
        }
        Ok(())
    }
}

impl Tensor {
    fn check(&self, name: &str) -> Result<(), WeightsError> {
        let count = self
            .shape
            .iter()
            .try_fold(1_usize, |count, size| count.checked_mul(*size));
        if count == Some(self.values.len()) {
            return Ok(());
        }
        Err(WeightsError::Count {
            name: name.to_owned(),
            shape: self.shape.clone(),
            found: self.values.len(),
        })
    }
}

/// PyTorch counts the batches a norm has seen; nobody needs the number.
fn is_counter(name: &str) -> bool {
    name == "num_batches_tracked" || name.ends_with(".num_batches_tracked")
}

fn list(names: &[&str]) -> String {
    let listed: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{name}`"))
        .collect();
    listed.join(", ")
}
