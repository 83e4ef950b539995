use crate::INTERRUPTED;
use crate::arguments::{
    DataArgument, DistributionName, FilterArgument, GrowthName, OptimizerName, RecipeName,
    RunArguments, TrainArguments,
};
use crate::comparison::Comparison;
use crate::hint;
use crate::micro_batch::{MicroBatch, describe, divide};
use crate::output::{Output, share};
use crate::run_folder::RunFolder;
use serde::Serialize;
use smidgen::cache_folder;
use smidgen::data::{DataSource, Split};
use smidgen::forms::Form;
use smidgen::gpu::{Device, DeviceFacts, DeviceRequest};
use smidgen::{
    Bytes, Checkpoints, Closeness, Distribution, End, Error, Event, ExampleMemory, FilterChoice,
    FilterPoint, Graph, Growth, MaskReport, Optimizer, PlanFile, Session, SessionOptions, Sparsity,
    Trainer, TrainerOptions, Training, Tuning, checkpoint, largest_batch, zoo,
};
use smidgen_recipes::{Choice, Mest, MestOptions, Removal, RemovalOptions};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Serialize)]
#[serde(tag = "event", rename = "start")]
struct Start<'a> {
    model: &'a str,
    parameters: u64,
    device: &'a str,
    driver: &'a str,
    batch: u32,
    micro_batch: u32,
    step: u64,
    steps: u64,
    reserved_bytes: u64,
    budget_bytes: Option<u64>,
    footprint: &'a smidgen::Footprint,
    stashes: Stashes,
    filtered: &'a [FilterPoint],
    stages: &'a [Stage],
    imported: Option<Imported>,
}

/// What became of the given weights of sparse layers: those that their masks kept, and of these those that found no place in live blocks.
#[derive(Clone, Copy, Serialize)]
struct Imported {
    kept: usize,
    lost: usize,
}

impl Imported {
    fn of(reports: &[MaskReport]) -> Option<Self> {
        let sum = |of: fn(&MaskReport) -> usize| reports.iter().map(of).sum();
        (!reports.is_empty()).then(|| Self {
            kept: sum(|report| report.kept),
            lost: sum(|report| report.lost),
        })
    }
}

/// A stage of the schedule of masks.
#[derive(Serialize)]
struct Stage {
    epoch: u32,
    density: f64,
    bytes: u64,
}

impl Stage {
    fn all_of(recipe: &Mest, optimizer: &Optimizer) -> Vec<Self> {
        let stages = recipe.stages(optimizer.states()).into_iter();
        stages
            .map(|stage| Self {
                epoch: stage.epoch,
                density: stage.density,
                bytes: stage.bytes,
            })
            .collect()
    }

    /// The stages in a line, if there are several.
    fn told(stages: &[Self]) -> Option<String> {
        let told: Vec<String> = stages
            .iter()
            .map(|stage| {
                let percent = 100.0 * stage.density;
                format!(
                    "{percent:.3} % ({}) from epoch {}",
                    Bytes(stage.bytes),
                    stage.epoch
                )
            })
            .collect();
        (told.len() > 1).then(|| format!("live: {}; planned for the most", told.join(", ")))
    }
}

/// How many of the stashes are held in which way.
#[derive(Clone, Copy, Serialize)]
struct Stashes {
    whole: usize,
    recomputed: usize,
    coded: usize,
}

impl Stashes {
    fn of(session: &Session) -> Self {
        let forms = session.forms();
        let count = |which: fn(&Form) -> bool| forms.values().filter(|form| which(form)).count();
        let recomputed = count(|form| form.is_made_again());
        let coded = count(|form| matches!(form, Form::Coded(_) | Form::Masked(_)));
        Self {
            whole: session.stashes() - recomputed - coded,
            recomputed,
            coded,
        }
    }
}

impl std::fmt::Display for Stashes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            whole,
            recomputed,
            coded,
        } = self;
        write!(
            formatter,
            "stashes: {whole} whole, {recomputed} computed again, {coded} in fewer bits"
        )
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "end")]
struct Finish<'a> {
    end: End,
    steps: u64,
    accuracy: Option<f64>,
    loss: Option<f64>,
    weights: Option<&'a Path>,
}

pub(crate) fn run(
    arguments: TrainArguments,
    adapter: Option<String>,
    output: &Output,
) -> Result<ExitCode, Error> {
    let resumed = arguments.resume.is_some();
    if let Some(path) = arguments.run.out.as_deref().filter(|_| !resumed) {
        RunFolder::check_free(path)?;
    }
    let mut settings = match &arguments.resume {
        Some(folder) => RunArguments {
            out: Some(folder.clone()),
            ..RunFolder::settings(folder)?
        },
        None => with_absolute_paths(arguments.run),
    };
    let source = settings.data.0.clone();
    let (train, test) = (source.open(Split::Train)?, source.open(Split::Test)?);
    let shape = train.image_shape();
    let mut graph = zoo::build(
        &settings.model,
        train.classes() as u32,
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
    let recipe = sparsify(&mut graph, &settings)?;
    let removal = removal(&settings)?;
    // A run that was killed before its first checkpoint starts again, from the same weights.
    let out = settings.out.clone();
    let path = out.as_deref();
    let has_checkpoint = resumed && path.is_some_and(RunFolder::has_checkpoint);
    let weights = match &settings.weights {
        Some(file) if !has_checkpoint => {
            let weights = checkpoint::read_weights(file)?;
            weights.check(&graph)?;
            Some(weights)
        }
        _ => None,
    };
    let request = DeviceRequest {
        adapter,
        cache: cache_folder(),
        ..Default::default()
    };
    let device = Device::open(&request)?;
    // A run that goes on has told it at its start, and needs its first weights no more.
    let closeness = if has_checkpoint {
        Vec::new()
    } else {
        let comparison = Comparison {
            pictures: &train,
            source: &source,
            most: settings.batch,
            weights: settings.weights.as_deref(),
            seed: settings.seed,
            budget: settings.budget,
        };
        let threshold = match settings.filter {
            Some(FilterArgument(FilterChoice::Auto)) => Some(settings.filter_threshold),
            _ => None,
        };
        comparison.run(&request, device.facts(), &mut graph, threshold)?
    };
    let mut options = SessionOptions {
        batch: settings.batch,
        training: Some(Training {
            examples: ExampleMemory {
                counted: removal.as_ref().map_or(0, |_| train.len() as u32),
                ..ExampleMemory::default()
            },
            ..training(&settings)
        }),
        budget: settings.budget,
    };
    if let (true, Some(budget)) = (settings.max_batch, settings.budget) {
        let most = train.len().try_into().unwrap_or(u32::MAX);
        // Where not even one image fits, the session says what the least would be.
        let batch = largest_batch(&graph, device.facts(), &options, budget, most)?.unwrap_or(1);
        options.batch = batch;
        // From here on it is a batch like any other, when the run is resumed too.
        (settings.batch, settings.max_batch) = (batch, false);
    }
    let filtered = choose_filters(
        &mut settings,
        &mut graph,
        device.facts(),
        &options,
        &closeness,
    )?;
    if let Some(training) = &mut options.training {
        // A run goes on with the plan it was started with, too.
        training.plan = match (&settings.plan, path) {
            (_, Some(path)) if resumed => RunFolder::plan(path)?,
            (Some(file), _) => Some(read_plan(file)?),
            (None, _) => None,
        };
    }
    // From here on it is divided as it is, when the run is resumed too.
    settings.micro_batch = divide(settings.micro_batch, &graph, device.facts(), &mut options)?;
    let tuning = match Tuning::from_environment(device.facts())? {
        // A run goes on with the kernels it was started with, whatever would be chosen now.
        _ if resumed => path
            .map_or(Ok(None), RunFolder::variants)?
            .map_or(Tuning::Off, Tuning::Recorded),
        tuning => tuning,
    };
    let mut session = Session::tuned(
        device,
        &graph,
        &options,
        settings.seed,
        &tuning,
        |at, of| {
            output.tuning(at, of);
        },
    )?;
    output.finish();
    for note in &session.tuning().notes {
        output.hint(note);
    }
    let imported = match weights {
        Some(weights) => Imported::of(&session.load(&weights)?),
        None => None,
    };
    if let Some(Imported { kept, lost }) = imported.filter(|imported| imported.lost > 0) {
        output.text(&format!(
            "{lost} of {kept} weights of sparse layers found no place in their live blocks"
        ));
    }
    let facts = session.device().facts().clone();
    let micro_batches = session.micro_batches();
    let (footprint, variants) = (session.footprint().clone(), session.choices().clone());
    let (stashes, plan) = (Stashes::of(&session), PlanFile::of(&session));
    let stages = recipe.as_ref().map_or_else(Vec::new, |recipe| {
        Stage::all_of(recipe, &training(&settings).optimizer)
    });
    let options = trainer_options(&settings, &source)?;
    let mut trainer = Trainer::new(&mut session, train, Some(test), options)?;
    if let Some(recipe) = recipe {
        trainer = trainer.with_recipe(recipe)?;
    }
    if let Some(removal) = removal {
        trainer = trainer.with_recipe(removal)?;
    }
    let step = if has_checkpoint { trainer.resume()? } else { 0 };
    // Only now, when all else was found good, is anything written.
    let folder = match path {
        Some(path) if resumed => Some(RunFolder::open(path, trainer.progress())?),
        Some(path) => Some(RunFolder::create(path, &settings, &variants, &plan)?),
        None => None,
    };
    let weights_file = path.map(RunFolder::weights);

    let reserved = footprint.total();
    output.json(&Start {
        model: &settings.model,
        parameters: graph.parameter_count(),
        device: &facts.name,
        driver: &facts.driver,
        batch: settings.batch,
        micro_batch: settings.batch / micro_batches,
        step,
        steps: trainer.steps(),
        reserved_bytes: reserved.0,
        budget_bytes: settings.budget.map(|budget| budget.0),
        footprint: &footprint,
        stashes,
        filtered: &filtered,
        stages: &stages,
        imported,
    });
    output.text(&format!(
        "{} ({} parameters) on {}, {}",
        settings.model,
        graph.parameter_count(),
        facts.name,
        facts.driver
    ));
    output.text(&format!(
        "batch {}, steps {step} to {}, device memory {}",
        describe(settings.batch, micro_batches),
        trainer.steps(),
        share(reserved, settings.budget)
    ));
    if micro_batches > 1 && graph.uses_statistics_of_batches() {
        output.text("batch norms take their statistics over a micro-batch");
    }
    if stashes.recomputed + stashes.coded > 0 {
        output.text(&stashes.to_string());
    }
    for layer in &filtered {
        output.text(&layer.to_string());
    }
    if let Some(words) = Stage::told(&stages) {
        output.text(&words);
    }

    let interrupted = stop_on_ctrl_c();
    let memory = share(reserved, settings.budget);
    // The callback cannot return an error, so the first one waits here.
    let failed = RefCell::new(None);
    let folder = RefCell::new(folder);
    let last = RefCell::new(None);
    let summary = trainer.run(|event| {
        if let Some(words) = tell(output, event, &memory) {
            last.replace(Some(words));
        }
        if let Some(folder) = folder.borrow_mut().as_mut()
            && !matches!(event, Event::Evaluating { .. })
            && let Err(error) = folder.note(event)
        {
            failed.borrow_mut().get_or_insert(error);
            return ControlFlow::Break(());
        }
        if interrupted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    output.finish();
    // The bar is gone; what it said last stays.
    if let Some(words) = last.into_inner() {
        output.text(&words);
    }
    let summary = summary?;
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    if summary.end == End::Interrupted {
        output.json(&Finish {
            end: summary.end,
            steps: summary.steps,
            accuracy: None,
            loss: None,
            weights: None,
        });
        output.hint(&match &settings.out {
            Some(folder) => format!(
                "stopped after {} steps; {}",
                summary.steps,
                hint::go_on(folder)
            ),
            None => format!(
                "stopped after {} steps; nothing was saved, for want of --out",
                summary.steps
            ),
        });
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if let Some(file) = &weights_file {
        checkpoint::save_weights(&mut session, file)?;
    }
    let evaluation = summary.evaluation;
    output.json(&Finish {
        end: summary.end,
        steps: summary.steps,
        accuracy: evaluation.map(|metrics| metrics.accuracy()),
        loss: evaluation.map(|metrics| metrics.loss()),
        weights: weights_file.as_deref(),
    });
    output.text(&match &weights_file {
        Some(file) => format!("weights in {}", file.display()),
        None => "nothing was saved, for want of --out".into(),
    });
    Ok(ExitCode::SUCCESS)
}

/// Leaves of the filters of `auto` those that time, or the budget, demands, and what each filter gives. From here on they are filters like any
/// others, when the run is resumed too.
fn choose_filters(
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
fn sparsify(graph: &mut Graph, settings: &RunArguments) -> Result<Option<Mest>, Error> {
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
fn removal(settings: &RunArguments) -> Result<Option<Removal>, Error> {
    let options = settings.remove_examples.map(|share| RemovalOptions {
        share,
        choice: Choice::LeastForgotten,
        epochs: settings.epochs,
        seed: settings.seed,
    });
    options.map(|options| Removal::new(&options)).transpose()
}

/// Tells of an event; of a step, returns what was told.
fn tell(output: &Output, event: &Event, memory: &str) -> Option<String> {
    // For a person who waits; a program reads the result.
    if !matches!(event, Event::Evaluating { .. }) {
        output.json(event);
    }
    match event {
        Event::Step {
            step,
            steps,
            loss,
            accuracy,
            images_per_second,
            ..
        } => {
            let words = format!(
                "loss {}, accuracy {:.0} %, {images_per_second:.0} images/s, {memory}",
                readable(*loss),
                100.0 * accuracy
            );
            let last = format!("step {} of {steps}: {words}", step + 1);
            output.progress(step + 1, *steps, words);
            return Some(last);
        }
        Event::Evaluation {
            step,
            loss,
            accuracy,
            images,
            ..
        } => output.text(&format!(
            "step {step}: test accuracy {:.2} %, loss {} on {images} images",
            100.0 * accuracy,
            readable(*loss)
        )),
        Event::Evaluating { images, of } => {
            output.message(format!("evaluating, {images} of {of} images, {memory}"));
        }
        Event::Checkpoint { .. } => {}
    }
    None
}

/// A loss in a few digits, even one that has run away.
fn readable(loss: f64) -> String {
    if loss.abs() < 1e4 {
        format!("{loss:.4}")
    } else {
        format!("{loss:.2e}")
    }
}

/// A flag that the first Ctrl-C (or SIGTERM) sets; the second one ends the program at once.
fn stop_on_ctrl_c() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    // Without a handler Ctrl-C ends the program as usual, and the last checkpoint stands.
    let _ = ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    flag
}

/// The same settings with paths that hold wherever the run is resumed from.
fn with_absolute_paths(settings: RunArguments) -> RunArguments {
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
fn read_plan(file: &Path) -> Result<PlanFile, Error> {
    let refuse = |what: String| Error::Checkpoint {
        path: file.to_owned(),
        what,
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| refuse(format!("the plan cannot be read: {error}")))?;
    PlanFile::from_json(&text).map_err(|error| refuse(error.to_string()))
}

fn training(settings: &RunArguments) -> Training {
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

fn trainer_options(settings: &RunArguments, source: &DataSource) -> Result<TrainerOptions, Error> {
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
