use crate::LARGEST_PATCH;
use smidgen_gpu::Region;

/// What can be wrong with a shape or its regions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A size that must be at least one is zero.
    #[error("{name} is 0; it must be at least 1")]
    Zero {
        /// Which size.
        name: &'static str,
    },
    /// No such patch.
    #[error("a patch of {patch}; it must be from 1 to {LARGEST_PATCH}")]
    Patch {
        /// Asked for.
        patch: u32,
    },
    /// A depthwise convolution has as many input as output channels.
    #[error("a depthwise convolution from {input} to {output} channels; both must be the same")]
    Depthwise {
        /// Input channels.
        input: u32,
        /// Output channels.
        output: u32,
    },
    /// The kernel, spread by its dilation, is larger than the padded input.
    #[error("the kernel is larger than the padded input; pad more or use a smaller kernel")]
    KernelTooLarge,
    /// More elements than a kernel can index.
    #[error(
        "the {what} has {bytes} bytes, beyond the {limit} that a kernel can index; use a smaller batch"
    )]
    TooLarge {
        /// `input`, `output`, `weight` and the like.
        what: &'static str,
        /// Its bytes.
        bytes: u64,
        /// The most there can be.
        limit: u64,
    },
    /// Slopes are counted in bytes, over windows that cover the map.
    #[error("slopes are counted in windows that cover the input and have no more than 255 pixels")]
    SlopeCounts,
    /// The patches of two layers are not the same.
    #[error(
        "the gradient stays at the resolution of patches only behind stride 1 and on a map of one size"
    )]
    OtherPatches,
    /// Both gradients follow from the same patch averages.
    #[error("weight and input gradient read different patch averages; give both the same region")]
    OtherAverages,
    /// A region is smaller than what a kernel would read or write there.
    #[error("the region of the {region} has {given} bytes, this shape needs {needed}")]
    RegionTooSmall {
        /// Which region, such as `patch sums`.
        region: &'static str,
        /// Its bytes.
        given: u64,
        /// Bytes that the shape needs.
        needed: u64,
    },
}

/// The first `needed` bytes of a region. Kernels run without bounds checks, so this is where a region that is too small must be found.
pub(crate) fn sized(
    name: &'static str,
    region: Region,
    needed: u64,
) -> Result<Region, FilterError> {
    if region.size < needed {
        return Err(FilterError::RegionTooSmall {
            region: name,
            given: region.size,
            needed,
        });
    }
    Ok(Region {
        size: needed,
        ..region
    })
}
