//! The safetensors format: eight bytes of length, a header in JSON, numbers.

use super::{Tensor, Weights, WeightsError, is_counter};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use std::collections::BTreeMap;

/// The place of the metadata among the tensors.
const METADATA: &str = "__metadata__";

/// What the header says under a name.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'weights> {
    Metadata(&'weights BTreeMap<String, String>),
    Tensor {
        dtype: &'static str,
        shape: &'weights [usize],
        data_offsets: [usize; 2],
    },
}

impl Weights {
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

    /// The bytes of a safetensors file of 32-bit numbers. The same weights give the same bytes.
    ///
    /// # Errors
    /// If a tensor has more or fewer numbers than its shape says, or is called as only the metadata may be.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let mut header = BTreeMap::new();
        let mut end = 0;
        for (name, tensor) in &self.tensors {
            tensor.check(name)?;
            let begin = end;
            end += tensor.values.len() * 4;
            let entry = Entry::Tensor {
                dtype: "F32",
                shape: &tensor.shape,
                data_offsets: [begin, end],
            };
            header.insert(name.as_str(), entry);
        }
        if header.contains_key(METADATA) {
            return Err(corrupt(format!("a tensor cannot be called `{METADATA}`")));
        }
        if !self.metadata.is_empty() {
            header.insert(METADATA, Entry::Metadata(&self.metadata));
        }
        let mut header = serde_json::to_vec(&header).map_err(corrupt)?;
        // The numbers start at a multiple of eight.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + header.len() + end);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        for value in self.tensors.values().flat_map(|tensor| &tensor.values) {
            bytes.extend(value.to_le_bytes());
        }
        Ok(bytes)
    }
}

fn corrupt(problem: impl ToString) -> WeightsError {
    WeightsError::Corrupt {
        problem: problem.to_string(),
    }
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
