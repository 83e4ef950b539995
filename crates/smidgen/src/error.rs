use crate::{Bytes, ParseBytesError, Remedy};
use smidgen_data::DataError;
use smidgen_gpu::GpuError;
use smidgen_graph::forms::FormError;
use smidgen_graph::{GraphError, WeightsError};
use smidgen_plan::PlanError;
use std::path::PathBuf;

/// What can go wrong while a network is planned, trained or evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A file of weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The forms of stashes.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A text that is no number of bytes.
    #[error(transparent)]
    Bytes(#[from] ParseBytesError),
    /// A recipe that cannot be followed.
    #[error("{name}: {what}")]
    Recipe {
        /// The recipe.
        name: &'static str,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Recipes that leave fewer examples than a batch has.
    #[error(
        "{fewest} examples would be left in an epoch, fewer than a batch of {batch}; remove a smaller share of them, or train with a smaller batch"
    )]
    TooFewExamples {
        /// Examples of the shortest epoch.
        fewest: usize,
        /// Examples of a batch.
        batch: usize,
    },
    /// Orders for another number of sparse layers.
    #[error("{given} orders for {expected} sparse layers; give one for each")]
    Orders {
        /// Orders given.
        given: usize,
        /// Sparse layers.
        expected: usize,
    },
    /// A sparse layer, or a change of its mask, that the kernels refuse.
    #[error(transparent)]
    Sparse(#[from] smidgen_conv::sparse::SparseError),
    /// A stash the codecs refuse.
    #[error(transparent)]
    Stash(#[from] smidgen_stash::StashError),
    /// A shape the convolution kernels refuse.
    #[error(transparent)]
    Convolution(#[from] smidgen_conv::ShapeError),
    /// A shape the kernels of gradient filtering refuse.
    #[error(transparent)]
    Filter(#[from] smidgen_filter::FilterError),
    /// A shape or region an operator refuses.
    #[error(transparent)]
    Operator(#[from] smidgen_ops::OpsError),
    /// The plan does not fit the budget.
    #[error(
        "a budget of {budget} ({} bytes) is too small: batch {batch} needs at least {least} ({} bytes), most of it at `{operation}`; {}",
        budget.0, least.0, in_words(remedies)
    )]
    BudgetTooSmall {
        /// What was named.
        budget: Bytes,
        /// The least that would do.
        least: Bytes,
        /// The batch it was planned for.
        batch: u32,
        /// The layer at which the most is needed.
        operation: String,
        /// What would meet the budget, each by itself, and what costs the least first.
        remedies: Vec<Remedy>,
    },
    /// Stashes cannot leave the device.
    #[error(
        "a host budget is for devices with memory of their own whose kernels also reach the host's; {device} is none: leave it out"
    )]
    NoHostMemory {
        /// Name of the device.
        device: String,
    },
    /// A plan that was written down and cannot be used.
    #[error("the plan cannot be used: {what}")]
    PlanFile {
        /// What is wrong, and what to do.
        what: String,
    },
    /// A plan that was written down needs more than the budget.
    #[error(
        "the plan that was written down needs {needed} ({} bytes), the budget is {budget} ({} bytes): name a larger one, or plan anew", needed.0, budget.0
    )]
    PlanOverBudget {
        /// What it needs.
        needed: Bytes,
        /// What was named.
        budget: Bytes,
    },
    /// A plan that was written down holds more in the host's memory than the host budget.
    #[error(
        "the plan that was written down holds {needed} ({} bytes) in the host's memory, the host budget is {budget} ({} bytes): name a larger one, or plan anew", needed.0, budget.0
    )]
    PlanOverHostBudget {
        /// What it holds there.
        needed: Bytes,
        /// What was named.
        budget: Bytes,
    },
    /// The allocator reserved more than its stated rounding allows for.
    #[error(
        "the allocator reserved {reserved}, above the budget of {budget}: name a larger budget, and please report the device"
    )]
    AllocatorOverBudget {
        /// What it reserved.
        reserved: Bytes,
        /// What was named.
        budget: Bytes,
    },
    /// A kernel wrote where no tensor stands.
    #[error(
        "a kernel wrote beside its tensor, at byte {offset} of the arena: please report the network, the batch and the device"
    )]
    Overrun {
        /// The byte, or one shortly before it.
        offset: u64,
    },
    /// A batch of no images.
    #[error("a batch of 0 images cannot be trained or evaluated; use at least 1")]
    EmptyBatch,
    /// Micro-batches that do not make up the batch.
    #[error(
        "micro-batches of {images} images do not make up a batch of {batch}: {}", division(*images, *batch)
    )]
    MicroBatch {
        /// Images of a micro-batch.
        images: u32,
        /// Images of the batch.
        batch: u32,
    },
    /// A batch of another size than the session was made for.
    #[error("the batch holds {images} numbers, the session was made for {expected}")]
    BatchSize {
        /// Numbers in the batch, padding of channels included.
        images: u64,
        /// Numbers the session wants.
        expected: u64,
    },
    /// A training step in a session made for evaluation.
    #[error("this session was made for evaluation only; give it `training` options")]
    NotTraining,
    /// Too many steps without reading their metrics.
    #[error("read the metrics of an earlier step first")]
    UnreadMetrics,
    /// A value that does not exist or has no memory in this program.
    #[error("the program holds no value `{name}` that can be read or written")]
    UnknownValue {
        /// Its name.
        name: String,
    },
    /// A value set with a wrong number of elements.
    #[error("`{name}` holds {expected} numbers, {found} were given")]
    ValueSize {
        /// Its name.
        name: String,
        /// Elements it holds.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// The data set does not fit the network.
    #[error("the data has {data}, the network was built for {network}")]
    DataMismatch {
        /// Shape and classes of the data.
        data: String,
        /// Shape and classes of the network.
        network: String,
    },
    /// A session that counts the forgetting of another number of examples than the training set has.
    #[error(
        "the session counts the forgetting of {counted} examples, the training set has {examples}: make it for that many"
    )]
    ExampleCount {
        /// Examples counted.
        counted: usize,
        /// Examples of the training set.
        examples: usize,
    },
    /// The loss was not finite.
    #[error(
        "the loss was not finite at step {step}: the first bad number is in {place}; the parameters are as before that step, and what was saved before is intact. A smaller learning rate or gradient clipping may help"
    )]
    NotFinite {
        /// The step, from 0.
        step: u64,
        /// Layer and value in which it appeared first.
        place: String,
    },
    /// A number to be saved was not finite, although no loss showed it.
    #[error(
        "step {step} left a number that is not finite, first in layer `{layer}` (`{name}`), although the loss was finite; it is not saved, and what was saved before is intact. A smaller learning rate or gradient clipping may help"
    )]
    NotFiniteState {
        /// The last step done, from 0.
        step: u64,
        /// The layer.
        layer: String,
        /// The parameter, running statistic or state of the optimiser.
        name: String,
    },
    /// The norm of the gradients was not finite, so that they could not be clipped.
    #[error(
        "the norm of the gradients was not finite at step {step}; the parameters are as before that step, the last checkpoint is intact. A smaller learning rate may help"
    )]
    GradientNotFinite {
        /// The step, from 0.
        step: u64,
    },
    /// A checkpoint that cannot be used.
    #[error("{}: {what}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The environment asks for tuning in a word that means nothing.
    #[error("SMIDGEN_TUNE is `{value}`; set it to `on` or `off`, or leave it unset")]
    TuneVariable {
        /// Its value.
        value: String,
    },
    /// A report of measurements that cannot be used.
    #[error("{}: {what}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file or folder that cannot be written.
    #[error("cannot write {}, what was there before is untouched: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

fn division(images: u32, batch: u32) -> String {
    let divisor = (1..=images.min(batch)).rfind(|images| batch.is_multiple_of(*images));
    match divisor {
        Some(images) => format!("{images} would"),
        None => "use at least 1".into(),
    }
}

fn in_words(remedies: &[Remedy]) -> String {
    let words: Vec<String> = remedies.iter().map(Remedy::to_string).collect();
    match words.split_last() {
        Some((only, [])) => format!("{only} would fit the budget"),
        Some((last, others)) => format!("{} or {last} would fit the budget", others.join(", ")),
        None => "not even one image fits the budget: raise it, or train a smaller network".into(),
    }
}
