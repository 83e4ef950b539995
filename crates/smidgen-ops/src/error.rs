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
    /// A region larger than one binding of the device.
    #[error(
        "{operator}: `{region}` has {given} bytes, the device binds {limit} at once; split the batch"
    )]
    Binding {
        /// The operator.
        operator: &'static str,
        /// The region's name.
        region: &'static str,
        /// Its bytes.
        given: u64,
        /// The device's limit.
        limit: u64,
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

/// Refuses a source that is smaller than a map of this shape.
pub(crate) fn expect_source(
    operator: &'static str,
    name: &'static str,
    source: &smidgen_gpu::Source,
    shape: &crate::MapShape,
) -> Result<(), OpsError> {
    expect_regions(operator, &[(name, source.region, shape.bytes())])?;
    let vectors = smidgen_gpu::normalisation_bytes(shape.channels);
    match source.normalisation {
        Some(region) => expect_regions(operator, &[("normalisation", region, vectors)]),
        None => Ok(()),
    }
}

/// As [`expect_regions`], and refuses regions that the device cannot bind at once.
pub(crate) fn check_regions(
    operator: &'static str,
    facts: &smidgen_gpu::DeviceFacts,
    regions: &[(&'static str, smidgen_gpu::Region, u64)],
) -> Result<(), OpsError> {
    expect_regions(operator, regions)?;
    let limit = facts.max_binding_bytes;
    for &(name, region, _) in regions {
        if region.size > limit {
            return Err(OpsError::Binding {
                operator,
                region: name,
                given: region.size,
                limit,
            });
        }
    }
    Ok(())
}
