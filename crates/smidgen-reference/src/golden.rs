//! Reference vectors made with PyTorch, read from `SMIDGEN_GOLDEN` or from `../shared/golden` beside the workspace.

use safetensors::SafeTensors;
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

/// One file of golden vectors.
#[derive(Debug)]
pub struct Golden {
    bytes: Vec<u8>,
    /// The metadata of the file.
    pub metadata: HashMap<String, String>,
}

/// The folder of golden vectors; it need not exist.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os("SMIDGEN_GOLDEN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"),
        PathBuf::from,
    )
}

/// The folder of test data (`SMIDGEN_DATA`, or `../shared/data` beside the workspace); it need not exist.
#[must_use]
pub fn data_folder() -> PathBuf {
    std::env::var_os("SMIDGEN_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    )
}

/// Says on standard error that a test skips, and why. Written past the test harness, which would keep it from being seen.
pub fn say_skipped(why: &str) {
    // In one piece, so that nothing of other threads comes between.
    let _ = std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

impl Golden {
    /// Opens a file of the folder; `None`, after saying so on standard error, where it is absent.
    ///
    /// # Panics
    /// If the file is there but is no safetensors file.
    #[must_use]
    pub fn open(file: &str) -> Option<Self> {
        let path = folder().join(file);
        let Ok(bytes) = std::fs::read(&path) else {
            say_skipped(&format!("no golden vectors at {}", path.display()));
            return None;
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let metadata = header.metadata().clone().unwrap_or_default();
        Some(Self { bytes, metadata })
    }

    /// The JSON list of cases in the metadata.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn cases(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.metadata["cases"]).expect("a list of cases")
    }

    /// Shape and values of a tensor stored as f32; `None` if there is no such tensor.
    ///
    /// # Panics
    /// If the file is damaged.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let view = tensors.tensor(name).ok()?;
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        Some((view.shape().to_vec(), values))
    }

    /// Integer values of a tensor stored as i64 or i32.
    ///
    /// # Panics
    /// If the file is damaged or the tensor is of another type.
    #[must_use]
    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let view = tensors.tensor(name).ok()?;
        Some(match view.dtype() {
            safetensors::Dtype::I64 => view
                .data()
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")))
                .collect(),
            safetensors::Dtype::I32 => view
                .data()
                .chunks_exact(4)
                .map(|b| i64::from(i32::from_le_bytes(b.try_into().expect("four bytes"))))
                .collect(),
            other => panic!("{name} holds {other:?}, not integers"),
        })
    }

    /// Names of all tensors, sorted.
    ///
    /// # Panics
    /// If the file is damaged.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let mut names: Vec<_> = tensors.names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    }
}
