use crate::Bytes;
use serde::{Deserialize, Serialize};
use smidgen_gpu::DeviceFacts;

/// What a device offers, to be printed and written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDescription {
    /// Name of the adapter.
    pub name: String,
    /// Discrete, integrated, virtual or software.
    pub kind: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Largest storage binding, in bytes.
    pub max_binding_bytes: u64,
    /// Workgroup memory, in bytes.
    pub workgroup_memory_bytes: u32,
    /// Invocations of a workgroup.
    pub max_invocations: u32,
    /// Smallest and largest subgroup; `None` where subgroup operations are missing.
    pub subgroup_sizes: Option<(u32, u32)>,
    /// Whether timestamps can be written inside a compute pass.
    pub timestamps: bool,
    /// Whether shaders may compute in f16.
    pub half_precision: bool,
}

impl From<&DeviceFacts> for DeviceDescription {
    fn from(facts: &DeviceFacts) -> Self {
        Self {
            name: facts.name.clone(),
            kind: facts.kind.to_string(),
            backend: facts.backend.clone(),
            driver: facts.driver.clone(),
            max_buffer_bytes: facts.max_buffer_bytes,
            max_binding_bytes: facts.max_binding_bytes,
            workgroup_memory_bytes: facts.workgroup_memory_bytes,
            max_invocations: facts.max_invocations,
            subgroup_sizes: facts.subgroup_sizes,
            timestamps: facts.timestamps,
            half_precision: facts.half_precision,
        }
    }
}

impl DeviceDescription {
    /// Name, kind and backend: `Some GPU (discrete, vulkan)`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} ({}, {})", self.name, self.kind, self.backend)
    }

    /// Driver, memory and features, each with its heading.
    #[must_use]
    pub fn details(&self) -> [(&'static str, String); 3] {
        let subgroups = match self.subgroup_sizes {
            Some((least, most)) if least == most => format!("subgroups of {least}"),
            Some((least, most)) => format!("subgroups of {least} to {most}"),
            None => "no subgroups".into(),
        };
        let or_no = |has: bool, what: &str| {
            if has {
                what.to_owned()
            } else {
                format!("no {what}")
            }
        };
        let memory = format!(
            "buffers up to {}, bindings up to {}, workgroup memory {}",
            Bytes(self.max_buffer_bytes),
            Bytes(self.max_binding_bytes),
            Bytes(u64::from(self.workgroup_memory_bytes))
        );
        let features = format!(
            "{} invocations a workgroup, {subgroups}, {}, {}",
            self.max_invocations,
            or_no(self.half_precision, "f16"),
            or_no(self.timestamps, "timestamps")
        );
        [
            ("driver", self.driver.clone()),
            ("memory", memory),
            ("features", features),
        ]
    }
}
