use smidgen_shaders::ShaderError;

/// What can go wrong between the host and a device.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No Vulkan, Metal or DX12 adapter at all.
    #[error(
        "no Vulkan, Metal or DX12 adapter was found; install the driver of the GPU, or a software Vulkan driver such as Mesa's"
    )]
    NoAdapter,
    /// The adapter asked for does not exist.
    #[error("no adapter matches `{wanted}`; there is: {available}")]
    UnknownAdapter {
        /// The index or part of a name that was given.
        wanted: String,
        /// All adapters, by index and name.
        available: String,
    },
    /// The adapter would not give a device.
    #[error("adapter `{adapter}` gave no device: {reason}")]
    DeviceRefused {
        /// Its name.
        adapter: String,
        /// The driver's reason.
        reason: String,
    },
    /// A reservation would exceed the budget of the ledger.
    #[error("`{label}` needs {bytes} bytes, but {reserved} of the budget of {limit} bytes are already reserved; raise the budget to at least {}", reserved.saturating_add(*bytes))]
    OverBudget {
        /// What was to be reserved.
        label: String,
        /// Its bytes.
        bytes: u64,
        /// Bytes already reserved.
        reserved: u64,
        /// The budget.
        limit: u64,
    },
    /// Something was to be allocated after the ledger was sealed.
    #[error(
        "`{label}` was to be allocated after the ledger was sealed; this is an error in the program that uses it"
    )]
    Sealed {
        /// What was to be reserved.
        label: String,
    },
    /// A buffer is larger than the device allows.
    #[error(
        "`{label}` needs {bytes} bytes in one buffer, device allows {limit}; use a smaller batch"
    )]
    BufferTooLarge {
        /// What was to be reserved.
        label: String,
        /// Its bytes.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
    /// A tensor is larger than one binding may be.
    #[error("`{label}` binds {bytes} bytes at once, device allows {limit}; use a smaller batch")]
    BindingTooLarge {
        /// The launch.
        label: String,
        /// Bytes of the binding.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
    /// The device has no memory left, although the ledger allowed the allocation.
    #[error(
        "the device is out of memory at `{label}` ({bytes} bytes); other programs may hold its memory: name a smaller budget or close them"
    )]
    OutOfMemory {
        /// What was to be allocated.
        label: String,
        /// Its bytes.
        bytes: u64,
    },
    /// The device was lost: a driver reset, an unplugged device, a kernel that ran too long.
    #[error(
        "the device was lost: {0}; what was read back before is intact: open the device again and go on from state that was saved"
    )]
    Lost(String),
    /// wgpu refused an operation.
    #[error("the device refused an operation: {0}")]
    Refused(String),
    /// A launch does not fit its shader.
    #[error("launch `{label}` does not fit its shader: {what}")]
    Launch {
        /// The launch.
        label: String,
        /// What does not fit.
        what: String,
    },
    /// A shader could not be expanded.
    #[error(transparent)]
    Shader(#[from] ShaderError),
    /// A feature that the caller asked for is missing on the device.
    #[error("the device lacks {feature}, which {purpose} needs")]
    Missing {
        /// The feature.
        feature: &'static str,
        /// What needs it.
        purpose: &'static str,
    },
}
