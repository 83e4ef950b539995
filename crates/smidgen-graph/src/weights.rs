//! Tensors by name, and safetensors files of them.

use crate::graph::Graph;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

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

/// Why weights cannot be read, written or used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written; one that was there before is as it was.
    #[error("cannot write `{path}`, what was there before is untouched: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bytes are not those of a safetensors file.
    #[error("not a sound safetensors file, download or export it again: {problem}")]
    Corrupt {
        /// What is wrong.
        problem: String,
    },
    /// A tensor holds something else than floating-point numbers of 32 or 16 bits.
    #[error(
        "tensor `{name}` holds {kind}: only F32, F16 and BF16 can be read; export it as one of these"
    )]
    Kind {
        /// The tensor.
        name: String,
        /// What it holds.
        kind: String,
    },
    /// A tensor has more or fewer numbers than its shape says.
    #[error("tensor `{name}` of shape {shape:?} has {found} numbers")]
    Count {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many numbers there are.
        found: usize,
    },
    /// The network needs tensors that are not there.
    #[error(
        "`{network}` needs {count} tensors that are missing, among them {examples}: these are weights of another network"
    )]
    Missing {
        /// The network.
        network: String,
        /// How many are missing.
        count: usize,
        /// Some of them.
        examples: String,
    },
    /// A tensor has another shape than the network needs.
    #[error(
        "tensor `{name}` is {found:?} and must be {expected:?}: these are weights of another network, or of another number of classes"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// What the network needs.
        expected: Vec<usize>,
        /// What is there.
        found: Vec<usize>,
    },
    /// There are tensors that the network does not know.
    #[error(
        "`{network}` has no place for {count} of the tensors, among them {examples}: these are weights of another network"
    )]
    Unknown {
        /// The network.
        network: String,
        /// How many are unknown.
        count: usize,
        /// Some of them.
        examples: String,
    },
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
        Self::from_bytes(&bytes)
    }

    /// Reads the bytes of a safetensors file; see [`load`](Self::load).
    ///
    /// # Errors
    /// If they are not sound, or hold other kinds of numbers.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WeightsError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(corrupt)?;
        let file = SafeTensors::deserialize(bytes).map_err(corrupt)?;
        let mut weights = Self::default();
        for (name, view) in file.iter() {
            if is_counter(name) {
                continue;
            }
            let tensor = Tensor {
                shape: view.shape().to_vec(),
                values: numbers(name, &view)?,
            };
            weights.tensors.insert(name.to_owned(), tensor);
        }
        if let Some(metadata) = header.metadata() {
            weights.metadata.extend(metadata.clone());
        }
        Ok(weights)
    }

    /// Writes a safetensors file of 32-bit numbers: to a temporary file in the same folder first, which takes the place of the
    /// old one only when all of it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written. What was there before is then untouched, and the temporary file is removed.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), WeightsError> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        replace(path, &bytes).map_err(|source| WeightsError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// The bytes of a safetensors file of 32-bit numbers. The same weights give the same bytes.
    ///
    /// # Errors
    /// If a tensor has more or fewer numbers than its shape says.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let mut data = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &self.tensors {
            tensor.check(name)?;
            let bytes: Vec<u8> = tensor
                .values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            data.push((name, &tensor.shape, bytes));
        }
        let mut views = Vec::with_capacity(data.len());
        for (name, shape, bytes) in &data {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(corrupt)?;
            views.push((name.as_str(), view));
        }
        let metadata: HashMap<String, String> = self.metadata.clone().into_iter().collect();
        let metadata = (!metadata.is_empty()).then_some(metadata);
        safetensors::serialize(views, metadata).map_err(corrupt)
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
        let unknown: Vec<&str> = (self.tensors.keys().map(String::as_str))
            .filter(|name| !expected.contains_key(name) && !is_counter(name))
            .collect();
        if !unknown.is_empty() {
            return Err(WeightsError::Unknown {
                network: graph.name().to_owned(),
                count: unknown.len(),
                examples: list(&unknown),
            });
        }
        for (name, tensor) in &self.tensors {
            if let Some(shape) = expected.get(name.as_str()) {
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

fn corrupt(error: SafeTensorError) -> WeightsError {
    WeightsError::Corrupt {
        problem: error.to_string(),
    }
}

fn list(names: &[&str]) -> String {
    let listed: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{name}`"))
        .collect();
    listed.join(", ")
}

fn numbers(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, WeightsError> {
    let halves = |widen: fn(u16) -> f32| {
        let (pairs, _) = view.data().as_chunks::<2>();
        pairs
            .iter()
            .map(|pair| widen(u16::from_le_bytes(*pair)))
            .collect()
    };
    match view.dtype() {
        Dtype::F32 => {
            let (words, _) = view.data().as_chunks::<4>();
            Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
        }
        Dtype::F16 => Ok(halves(from_half)),
        Dtype::BF16 => Ok(halves(|bits| f32::from_bits(u32::from(bits) << 16))),
        other => Err(WeightsError::Kind {
            name: name.to_owned(),
            kind: format!("{other:?}"),
        }),
    }
}

/// An IEEE half: 1 bit of sign, 5 of exponent, 10 of fraction.
fn from_half(bits: u16) -> f32 {
    let fraction = f32::from(bits & 0x3ff);
    let magnitude = match i32::from(bits >> 10 & 0x1f) {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
    let mut temporary = name.to_os_string();
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = write_through(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; a file that was never made cannot be removed either.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::from_half;

    #[test]
    fn halves() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
            (0x8000, 0.0),
        ];
        for (bits, value) in cases {
            assert_eq!(from_half(bits), value, "{bits:#x}");
        }
        assert!(from_half(0x7e00).is_nan());
    }
}
