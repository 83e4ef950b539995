use smidgen_gpu::{DeviceFacts, Region};

/// Why an operator refuses its shape or its regions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// A size or an option that the operator cannot work with.
    #[error("{operator}: {what}")]
    Shape {
        /// The operator.
        operator: &'static str,
        /// What is wrong and what would be right.
        what: String,
    },
    /// A region smaller than what the kernel reads or writes.
    #[error("{operator}: region `{region}` has {bytes} bytes and needs {needed}")]
    RegionTooSmall {
        /// The operator.
        operator: &'static str,
        /// Which of its regions.
        region: &'static str,
        /// Its size.
        bytes: u64,
        /// The least that would do.
        needed: u64,
    },
    /// A region larger than one binding of the device.
    #[error(
        "{operator}: region `{region}` has {bytes} bytes, the device binds {limit} at once; split the batch"
    )]
    RegionTooLarge {
        /// The operator.
        operator: &'static str,
        /// Which of its regions.
        region: &'static str,
        /// Its size.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
}

/// A refusal of a shape.
pub(crate) fn shape_error(operator: &'static str, what: impl Into<String>) -> OpError {
    OpError::Shape {
        operator,
        what: what.into(),
    }
}

/// Checks that `region` holds at least `needed` bytes and can be bound at once. Kernels run without bounds checks, so every
/// region of every launch goes through here.
pub(crate) fn check_region(
    operator: &'static str,
    name: &'static str,
    region: Region,
    needed: u64,
    facts: &DeviceFacts,
) -> Result<(), OpError> {
    if region.size < needed {
        return Err(OpError::RegionTooSmall {
            operator,
            region: name,
            bytes: region.size,
            needed,
        });
    }
    if region.size > facts.max_binding_bytes {
        return Err(OpError::RegionTooLarge {
            operator,
            region: name,
            bytes: region.size,
            limit: facts.max_binding_bytes,
        });
    }
    Ok(())
}
