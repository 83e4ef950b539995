//! What can be wrong with a network.

use thiserror::Error;

/// Why a network cannot be built or lowered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GraphError {
    /// Two layers, or a layer and a parameter, have one name.
    #[error("two layers are called `{name}`: give one of them another name")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A layer does not fit its input, or its settings make no sense.
    #[error("layer `{layer}`: {problem}")]
    DoesNotFit {
        /// The layer.
        layer: String,
        /// What does not fit, with the sizes.
        problem: String,
    },
    /// A layer does not contribute to the output.
    #[error(
        "layer `{layer}` does not reach the output: use what it returns in a later layer, or remove it"
    )]
    Unused {
        /// The layer.
        layer: String,
    },
    /// The batch is empty.
    #[error("a batch of 0 images: use at least 1")]
    EmptyBatch,
    /// Every parameter is frozen, so there is nothing to train.
    #[error("every parameter of `{network}` is frozen: leave at least one layer trainable")]
    NothingTrainable {
        /// The network.
        network: String,
    },
    /// A pattern of names matches no parameter.
    #[error("no parameter of `{network}` matches `{pattern}`; the first ones are {examples}")]
    NothingMatches {
        /// The network.
        network: String,
        /// The pattern.
        pattern: String,
        /// Some names that there are.
        examples: String,
    },
    /// More convolutions were asked for than there are.
    #[error("`{network}` has {convolutions} convolutions, not {asked}")]
    TooFewConvolutions {
        /// The network.
        network: String,
        /// How many it has.
        convolutions: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// No layer has this name.
    #[error("`{network}` has no layer `{layer}`; its last convolutions are {convolutions}")]
    UnknownLayer {
        /// The network.
        network: String,
        /// The name.
        layer: String,
        /// Some names that there are.
        convolutions: String,
    },
    /// No such patch.
    #[error("a patch of {patch} to filter gradients by; it must be from 1 to 8")]
    Patch {
        /// Asked for.
        patch: u32,
    },
    /// A filter shapes the gradient of a weight that has none.
    #[error(
        "layer `{layer}` is frozen, so its gradient cannot be filtered: train it, or filter fewer layers"
    )]
    FilteredButFrozen {
        /// The layer.
        layer: String,
    },
    /// A gradient that is needed for every tap was to be held once for all of them.
    #[error(
        "filtered weights cannot hold gradient and state once a pair of channels: {why}; hold them for every tap"
    )]
    PairState {
        /// What stands against it.
        why: &'static str,
    },
    /// A share of live weights that is none.
    #[error(
        "a density of {given} is outside (0, 1]: give the share of weights that stay, such as 0.1"
    )]
    Density {
        /// The number given.
        given: String,
    },
    /// A largest density below that of the end.
    #[error(
        "a largest density of {most} is below the density of {density}: give what the masks grow to at most, or the same"
    )]
    LargestDensity {
        /// The largest density given.
        most: String,
        /// The density given.
        density: String,
    },
    /// No layer of the network can be sparse.
    #[error(
        "`{network}` has no layer that can be sparse: a first convolution, shortcuts, depthwise convolutions and the classifier stay dense"
    )]
    NothingSparse {
        /// The network.
        network: String,
    },
    /// The zoo has no such network.
    #[error("no network is called `{name}`; there are {known}")]
    UnknownNetwork {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A memory to rehearse from, and a batch in parts.
    #[error(
        "a step that rehearses from a memory takes its batch in one piece: leave out micro-batches"
    )]
    RehearsalInParts,
    /// A value is too large for any device.
    #[error(
        "layer `{layer}` makes a value of {bytes} bytes: use a smaller batch or smaller pictures"
    )]
    TooLarge {
        /// The layer.
        layer: String,
        /// The bytes, at least.
        bytes: u64,
    },
}
