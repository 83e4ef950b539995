/// Why an operator cannot be launched as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// Sizes that the operator cannot work on.
    #[error("{operator}: {what}")]
    Shape {
        /// The operator.
        operator: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A region smaller than what the kernel reads or writes; kernels run without bounds checks.
    #[error("{operator}: `{region}` has {given} bytes, the shape needs {needed}")]
    Region {
        /// The operator.
        operator: &'static str,
        /// The region's name.
        region: &'static str,
        /// Its bytes.
        given: u64,
        /// The bytes needed.
        needed: u64,
    },
}

impl OpsError {
    pub(crate) fn shape(operator: &'static str, what: impl Into<String>) -> Self {
        Self::Shape {
            operator,
            what: what.into(),
        }
    }
}

/// Refuses regions that are smaller than the bytes named beside them.
pub(crate) fn expect_regions(
    operator: &'static str,
    regions: &[(&'static str, smidgen_gpu::Region, u64)],
) -> Result<(), OpsError> {
    for &(name, region, needed) in regions {
        if region.size < needed {
            return Err(OpsError::Region {
                operator,
                region: name,
                given: region.size,
                needed,
            });
        }
    }
    Ok(())
}
