//! From what was asked for to what runs.

use crate::arguments::{
    DataArgument, DistributionName, FilterArgument, GrowthName, OptimizerName, RecipeName,
    RunArguments,
};
use crate::micro_batch::MicroBatch;
use smidgen::data::{DataSource, Dataset};
use smidgen::gpu::DeviceFacts;
use smidgen::{
    Checkpoints, Closeness, Distribution, Error, FilterChoice, FilterPoint, Graph, Growth,
    Optimizer, PlanFile, SessionOptions, Sparsity, TrainerOptions, Training, checkpoint, zoo,
};
use smidgen_recipes::{Choice, Mest, MestOptions, Removal, RemovalOptions};
use std::path::Path;

/// The network for these pictures, dense, with what is frozen and filtered.
pub(super) fn network(settings: &RunArguments, pictures: &dyn Dataset) -> Result<Graph, Error> {
    let shape = pictures.image_shape();
    let mut graph = zoo::build(
        &settings.model,
        pictures.classes() as u32,
        [shape.channels, shape.height, shape.width].map(|size| size as u32),
    )?;
    if let Some(convolutions) = settings.train_last {
        graph.train_last(convolutions)?;
    }
    if settings.freeze_statistics {
        graph.freeze_statistics();
    }
    if let Some(FilterArgument(choice)) = &settings.filter {
        choice.apply(&mut graph, settings.patch)?;
    }
    Ok(graph)
}

/// Leaves of the filters of `auto` those that time, or the budget, demands, and what each filter gives. From here on they are filters like any
/// others, when the run is resumed too.
pub(super) fn choose_filters(
    settings: &mut RunArguments,
    graph: &mut Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    closeness: &[Closeness],
) -> Result<Vec<FilterPoint>, Error> {
    if let Some(FilterArgument(FilterChoice::Auto)) = settings.filter {
        smidgen::filter_where_demanded(graph, facts, options, closeness)?;
        let layers: Vec<String> = graph.filters().map(|(name, _)| name.to_owned()).collect();
        let chosen = (!layers.is_empty()).then_some(FilterArgument(FilterChoice::Layers(layers)));
        settings.filter = chosen;
    }
    smidgen::explain_filters(graph, facts, options, closeness)
}

/// Makes the network sparse, if it is to be, and gives the recipe that changes its masks.
pub(super) fn sparsify(graph: &mut Graph, settings: &RunArguments) -> Result<Option<Mest>, Error> {
    let Some(sparsity) = settings.sparse else {
        return Ok(None);
    };
    // 1 - 0.99 would be told as 0.010000000000000009.
    let density = ((1.0 - sparsity) * 1e12).round() / 1e12;
    let mest = settings.recipe.map(|recipe| MestOptions {
        soft: recipe == RecipeName::MestSoft,
        seed: settings.seed as u32,
        ..MestOptions::elastic(density, settings.epochs)
    });
    graph.sparsify(&Sparsity {
        most: mest.map_or(density, |mest| mest.most()),
        distribution: match settings.distribution {
            DistributionName::Uniform => Distribution::Uniform,
            DistributionName::Erk => Distribution::ErdosRenyi,
        },
        ..Sparsity::uniform(density)
    })?;
    mest.map(|mest| Mest::new(graph, &mest)).transpose()
}

/// What leaves out examples, if some are to be.
pub(super) fn removal(settings: &RunArguments) -> Result<Option<Removal>, Error> {
    let options = settings.remove_examples.map(|share| RemovalOptions {
        share,
        choice: Choice::LeastForgotten,
        epochs: settings.epochs,
        seed: settings.seed,
    });
    options.map(|options| Removal::new(&options)).transpose()
}

/// The same settings with paths that hold wherever the run is resumed from.
pub(super) fn with_absolute_paths(settings: RunArguments) -> RunArguments {
    let absolute = |path: std::path::PathBuf| std::path::absolute(&path).unwrap_or(path);
    let data = match settings.data.0 {
        DataSource::Cifar10(folder) => DataSource::Cifar10(absolute(folder)),
        DataSource::Cifar100(folder) => DataSource::Cifar100(absolute(folder)),
        DataSource::Idx(folder) => DataSource::Idx(absolute(folder)),
        DataSource::Images { folder, size } => DataSource::Images {
            folder: absolute(folder),
            size,
        },
        other => other,
    };
    RunArguments {
        data: DataArgument(data),
        weights: settings.weights.map(absolute),
        ..settings
    }
}

/// Reads a plan that `smidgen fit --plan` or another run wrote.
pub(super) fn read_plan(file: &Path) -> Result<PlanFile, Error> {
    let refuse = |what: String| Error::Checkpoint {
        path: file.to_owned(),
        what,
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| refuse(format!("the plan cannot be read: {error}")))?;
    PlanFile::from_json(&text).map_err(|error| refuse(error.to_string()))
}

pub(super) fn training(settings: &RunArguments) -> Training {
    let weight_decay = settings.weight_decay as f32;
    let adam = |decoupled| Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay,
        decoupled,
    };
    Training {
        optimizer: match settings.optimizer {
            OptimizerName::Sgd => Optimizer::Sgd {
                momentum: settings.momentum as f32,
                nesterov: settings.nesterov,
                weight_decay,
            },
            OptimizerName::Adam => adam(false),
            OptimizerName::Adamw => adam(true),
        },
        label_smoothing: settings.label_smoothing as f32,
        clip_norm: settings.clip_norm.map(|norm| norm as f32),
        keep_gradients: false,
        filter_state: settings.filter_state.map(Into::into),
        quality: settings.quality,
        half_maps: settings.half_maps,
        host_budget: settings.host_budget,
        growth: match settings.grow {
            GrowthName::Random => Growth::Random,
            GrowthName::Gradient => Growth::Gradient,
        },
        micro_batch: match settings.micro_batch {
            Some(MicroBatch::Images(images)) => Some(images),
            _ => None,
        },
        ..Training::default()
    }
}

pub(super) fn trainer_options(
    settings: &RunArguments,
    source: &DataSource,
) -> Result<TrainerOptions, Error> {
    let checkpoints = settings
        .out
        .as_deref()
        .map(|folder| {
            // The folder may be moved between two parts of a run; everything else must stay as it was.
            let noted = RunArguments {
                out: None,
                ..settings.clone()
            };
            let path = checkpoint::path_in(folder);
            let run = serde_json::to_value(noted).map_err(|error| Error::Checkpoint {
                path: path.clone(),
                what: format!("the settings cannot be noted: {error}"),
            })?;
            Ok::<_, Error>(Checkpoints {
                path,
                every: settings.checkpoint_every,
                run,
            })
        })
        .transpose()?;
    Ok(TrainerOptions {
        epochs: settings.epochs,
        steps: settings.steps,
        learning_rate: settings.lr,
        schedule: settings.schedule,
        seed: settings.seed,
        augment: settings.augment.0,
        normalization: source.normalization(),
        checkpoints,
        patience: settings.patience,
    })
}
