//! `smidgen train`.

mod settings;
mod told;

use crate::INTERRUPTED;
use crate::arguments::{FilterArgument, RunArguments, TrainArguments};
use crate::comparison::Comparison;
use crate::hint;
use crate::micro_batch::divide;
use crate::output::{Output, share};
use crate::run_folder::RunFolder;
use settings::{
    choose_filters, network, read_plan, removal, sparsify, trainer_options, training,
    with_absolute_paths,
};
use smidgen::cache_folder;
use smidgen::data::Split;
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{
    End, Error, Event, ExampleMemory, FilterChoice, PlanFile, Session, SessionOptions, Summary,
    Trainer, Training, Tuning, checkpoint, largest_batch,
};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use told::{Finish, Imported, Stage, Start, Stashes, tell};

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
    let mut graph = network(&settings, &*train)?;
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
    Start {
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
    }
    .tell(output, &graph);

    let memory = share(reserved, settings.budget);
    let summary = follow(trainer, folder, output, &memory)?;
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

/// Trains to the end, or until it is interrupted, tells of every event and notes it in the folder.
fn follow(
    mut trainer: Trainer<'_>,
    folder: Option<RunFolder>,
    output: &Output,
    memory: &str,
) -> Result<Summary, Error> {
    let interrupted = stop_on_ctrl_c();
    // The callback cannot return an error, so the first one waits here.
    let failed = RefCell::new(None);
    let folder = RefCell::new(folder);
    let last = RefCell::new(None);
    let summary = trainer.run(|event| {
        if let Some(words) = tell(output, event, memory) {
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
    failed.into_inner().map_or(Ok(summary), Err)
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
