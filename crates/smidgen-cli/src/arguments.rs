use crate::micro_batch::MicroBatch;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use smidgen::data::{Augment, DataSource};
use smidgen::{Bytes, FilterChoice, FilterState, Schedule};
use std::path::PathBuf;

/// Train, fine-tune and evaluate neural networks on any GPU, in the bytes you name.
#[derive(Debug, Parser)]
#[command(name = "smidgen", version)]
pub(crate) struct Arguments {
    /// JSON, one object a line, even on a terminal (elsewhere it is the default)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The device, by its index or part of its name in `smidgen devices` [default: the best; also SMIDGEN_ADAPTER]
    #[arg(long, global = true, value_name = "INDEX|NAME")]
    pub(crate) adapter: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the devices, their drivers and limits
    Devices,
    /// Train or fine-tune a network
    Train(Box<TrainArguments>),
    /// Measure the accuracy of a network on a test set
    Eval(EvalArguments),
    /// Measure how fast the device is, and how much of that the kernels reach
    Bench(BenchArguments),
    /// Say in which budgets a network can be trained, how fast, and what the next bytes would buy; nothing is run
    Fit(FitArguments),
    /// Show where the time and the memory of a training step go, layer by layer
    Profile(ProfileArguments),
}

const SETTINGS: &str = "settings";

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    /// Go on with the run in this folder, with the settings it was started with
    #[arg(long, value_name = "RUN_DIR", conflicts_with = SETTINGS)]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// Everything that determines a run.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[group(id = SETTINGS, multiple = true)]
pub(crate) struct RunArguments {
    /// The network: resnet8, resnet20, resnet32, resnet32x2, resnet44, resnet56, resnet110, resnet18, resnet34, resnet50, vgg11_bn, vgg16_bn, mobilenet_v2
    #[arg(long, default_value = "resnet20")]
    pub(crate) model: String,
    /// The data: cifar10:DIR, cifar100:DIR, idx:DIR, images:DIR or shapes (built in)
    #[arg(long, default_value = "shapes")]
    pub(crate) data: DataArgument,
    /// Start from these weights instead of random ones
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) weights: Option<PathBuf>,
    /// Passes over the training set
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) epochs: u32,
    /// Stop after so many steps, if that comes before the end of the epochs
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: Option<u64>,
    /// Images in a step
    #[arg(long, default_value_t = 64)]
    pub(crate) batch: u32,
    /// Instead of --batch: as many images in a step as the budget allows
    #[arg(long, requires = "budget", conflicts_with = "batch")]
    #[serde(default)]
    pub(crate) max_batch: bool,
    /// Images of --batch that are computed at once, a divisor of it, or auto: as many as the budget allows. Gradients are summed, and one step
    /// taken; batch norms take their statistics over a micro-batch [default: auto for networks where that changes nothing, else all]
    #[arg(long, value_name = "IMAGES|auto", conflicts_with = "max_batch")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) micro_batch: Option<MicroBatch>,
    /// How parameters are updated
    #[arg(long, value_enum, default_value_t = OptimizerName::Sgd)]
    pub(crate) optimizer: OptimizerName,
    /// Learning rate
    #[arg(long, default_value_t = 0.1, value_parser = not_negative)]
    pub(crate) lr: f64,
    /// Momentum of sgd
    #[arg(long, default_value_t = 0.9, value_parser = below_one)]
    pub(crate) momentum: f64,
    /// Nesterov momentum for sgd
    #[arg(long)]
    pub(crate) nesterov: bool,
    /// Weight decay (decoupled for adamw)
    #[arg(long, default_value_t = 1e-4, value_parser = not_negative)]
    pub(crate) weight_decay: f64,
    /// Learning rate over the run: constant, step:EPOCHS:FACTOR, cosine or cosine:WARM_UP_EPOCHS
    #[arg(long, default_value = "cosine", value_parser = schedule)]
    pub(crate) schedule: Schedule,
    /// Share of the target spread over all classes
    #[arg(long, default_value_t = 0.0, value_parser = below_one)]
    pub(crate) label_smoothing: f64,
    /// Clip gradients to this global norm
    #[arg(long, value_parser = above_zero)]
    pub(crate) clip_norm: Option<f64>,
    /// Train only the last N convolutions and what follows them
    #[arg(long, value_name = "N")]
    pub(crate) train_last: Option<usize>,
    /// Filter the gradients of convolutions by patches: last:N, names of layers between commas, or auto (those where it stays close and saves
    /// time; under a budget, only as many as that demands)
    #[arg(long, value_name = "last:N|NAME,NAME|auto")]
    pub(crate) filter: Option<FilterArgument>,
    /// Rows and columns of the patches of --filter, 1 to 8
    #[arg(long, default_value_t = 2, requires = "filter")]
    pub(crate) patch: u32,
    /// Hold gradient and optimiser state of a filtered weight once for all taps (pair; SGD's weight decay then stays out of the momentum) or for
    /// every tap [default: pair under a budget, else tap]
    #[arg(long, value_enum, requires = "filter")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter_state: Option<FilterStateName>,
    /// With --filter auto, the least cosine between filtered and exact gradient
    #[arg(long, default_value_t = 0.9, requires = "filter", value_parser = cosine, allow_negative_numbers = true)]
    pub(crate) filter_threshold: f64,
    /// Batch norms of frozen layers use their running statistics and leave them alone
    #[arg(long)]
    pub(crate) freeze_statistics: bool,
    /// Hold only live blocks of the weights: this share of them is left out, from 0 to below 1, such as 0.9
    #[arg(long, value_name = "SPARSITY", conflicts_with = "filter", value_parser = below_one)]
    #[serde(default)]
    pub(crate) sparse: Option<f64>,
    /// How the live blocks are shared out among layers
    #[arg(long, value_enum, default_value_t, requires = "sparse")]
    #[serde(default)]
    pub(crate) distribution: DistributionName,
    /// How the masks of sparse layers change: mest (elastic mutation), mest-soft (with the soft memory bound) [default: they do not]
    #[arg(long, value_enum, requires = "sparse")]
    #[serde(default)]
    pub(crate) recipe: Option<RecipeName>,
    /// Which blocks grow where masks change: any, or those of the largest gradient, in a step of its own
    #[arg(long, value_enum, default_value_t, requires = "recipe")]
    #[serde(default)]
    pub(crate) grow: GrowthName,
    /// Leave out this share of the training images from 7/16 of the epochs on, such as 0.2: those least often forgotten
    #[arg(long, value_name = "SHARE", value_parser = below_one)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remove_examples: Option<f64>,
    /// What is done to the images at random: crop, flip, crop,flip or none
    #[arg(long, default_value = "none")]
    pub(crate) augment: AugmentArgument,
    /// Device memory that may be reserved, everything counted, such as 64MiB
    #[arg(long)]
    pub(crate) budget: Option<Bytes>,
    /// Memory of the host that may hold what the device has no room for, beside the budget; for devices with memory of their own
    #[arg(long, requires = "budget")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_budget: Option<Bytes>,
    /// How lossy the backward pass may be to meet the budget: mean squared error by squared value of what it reads again, such as 0.01
    #[arg(long, default_value_t = 0.0, value_parser = not_negative, requires = "budget")]
    #[serde(default)]
    pub(crate) quality: f64,
    /// Hold maps and their gradients in f16: half the bytes, every number rounded; the loss is scaled, and a step of which gradients overflow skipped
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) half_maps: bool,
    /// Hold the stashes as this plan says, which `smidgen fit --plan` or another run (plan.json) wrote
    #[arg(long, value_name = "FILE.json", conflicts_with = "max_batch")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<PathBuf>,
    /// Of the initial weights, the order of the images, augmentation and dropout
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Stop after so many epochs without a better test accuracy
    #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) patience: Option<u32>,
    /// Folder for checkpoints, metrics and the final weights
    #[arg(long, value_name = "RUN_DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Steps between two checkpoints
    #[arg(long, value_name = "STEPS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) checkpoint_every: u64,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    /// The network the weights are of
    #[arg(long)]
    pub(crate) model: String,
    /// Its weights, under PyTorch names
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) weights: PathBuf,
    /// The data, of which only the test files are read: cifar10:DIR, cifar100:DIR, idx:DIR, images:DIR or shapes
    #[arg(long)]
    pub(crate) data: DataArgument,
    /// Images at a time
    #[arg(long, default_value_t = 100)]
    pub(crate) batch: u32,
    /// Device memory that may be reserved, everything counted, such as 64MiB
    #[arg(long)]
    pub(crate) budget: Option<Bytes>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Leave out the training steps and the largest kernels
    #[arg(long)]
    pub(crate) quick: bool,
    /// A report in Markdown, to paste into an issue
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    /// Also show the ratios to an earlier report, written by `smidgen bench --json`
    #[arg(long, value_name = "OLD.json")]
    pub(crate) compare: Option<PathBuf>,
}

/// A network to be trained, without data.
#[derive(Debug, Args)]
pub(crate) struct NetworkArguments {
    /// The network, as for `smidgen train`
    #[arg(long, default_value = "resnet20")]
    pub(crate) model: String,
    /// Channels, rows and columns of a picture
    #[arg(long, value_name = "CxHxW", default_value = "3x32x32", value_parser = picture)]
    pub(crate) image: [u32; 3],
    /// Classes that are told apart
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) classes: u32,
    /// Images in a step
    #[arg(long, default_value_t = 64)]
    pub(crate) batch: u32,
    /// Images of --batch that are computed at once, a divisor of it, or auto: as many as the budget allows. Gradients are summed, and one step
    /// taken; batch norms take their statistics over a micro-batch [default: auto for networks where that changes nothing, else all]
    #[arg(long, value_name = "IMAGES|auto")]
    pub(crate) micro_batch: Option<MicroBatch>,
    /// How parameters are updated
    #[arg(long, value_enum, default_value_t = OptimizerName::Sgd)]
    pub(crate) optimizer: OptimizerName,
    /// Train only the last N convolutions and what follows them
    #[arg(long, value_name = "N")]
    pub(crate) train_last: Option<usize>,
    /// Filter the gradients of convolutions by patches: last:N, or names of layers between commas
    #[arg(long, value_name = "last:N|NAME,NAME", value_parser = named_filter)]
    pub(crate) filter: Option<FilterArgument>,
    /// Rows and columns of the patches of --filter, 1 to 8
    #[arg(long, default_value_t = 2, requires = "filter")]
    pub(crate) patch: u32,
    /// How gradient and state of filtered weights are held, as for `smidgen train`
    #[arg(long, value_enum, requires = "filter")]
    pub(crate) filter_state: Option<FilterStateName>,
    /// Batch norms of frozen layers use their running statistics and leave them alone
    #[arg(long)]
    pub(crate) freeze_statistics: bool,
    /// Device memory that may be reserved, everything counted, such as 64MiB
    #[arg(long)]
    pub(crate) budget: Option<Bytes>,
    /// Memory of the host that may hold what the device has no room for, as for `smidgen train`
    #[arg(long)]
    pub(crate) host_budget: Option<Bytes>,
    /// How lossy the backward pass may be to meet a budget, as for `smidgen train`
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub(crate) quality: f64,
    /// Hold maps and their gradients in f16, as for `smidgen train`
    #[arg(long)]
    pub(crate) half_maps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FitArguments {
    #[command(flatten)]
    pub(crate) network: NetworkArguments,
    /// Also write the plan for the budget, for `smidgen train --plan`
    #[arg(long, value_name = "FILE.json", requires = "budget")]
    pub(crate) plan: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileArguments {
    #[command(flatten)]
    pub(crate) network: NetworkArguments,
    /// Pictures on which the weight gradients of the plan and of --filter are compared with the exact ones, as for `smidgen train`
    #[arg(long, conflicts_with_all = ["plan_only", "image", "classes"])]
    pub(crate) data: Option<DataArgument>,
    /// The weights with which they are compared; random ones if not given
    #[arg(long, value_name = "FILE.safetensors", requires = "data")]
    pub(crate) weights: Option<PathBuf>,
    /// Run nothing: sizes and places from the plan, without times
    #[arg(long)]
    pub(crate) plan_only: bool,
    /// Steps that are timed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) steps: u32,
    /// Also write a page for a browser, with the memory over the step and the map of the arena
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
    /// Also write a trace for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE.json")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FilterStateName {
    Pair,
    Tap,
}

impl From<FilterStateName> for FilterState {
    fn from(name: FilterStateName) -> Self {
        match name {
            FilterStateName::Pair => Self::Pair,
            FilterStateName::Tap => Self::Tap,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DistributionName {
    /// The same density in every layer
    #[default]
    Uniform,
    /// Erdos-Renyi: small layers stay denser
    Erk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecipeName {
    Mest,
    MestSoft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GrowthName {
    #[default]
    Random,
    Gradient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OptimizerName {
    Sgd,
    Adam,
    Adamw,
}

/// Types of other crates that are written to `run.json` as the words they are read from.
macro_rules! spelled {
    ($name:ident, $inner:ty) => {
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub(crate) struct $name(pub(crate) $inner);

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                text.parse()
                    .map(Self)
                    .map_err(|error: <$inner as std::str::FromStr>::Err| error.to_string())
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(argument: $name) -> Self {
                argument.0.to_string()
            }
        }
    };
}
spelled!(DataArgument, DataSource);
spelled!(AugmentArgument, Augment);
spelled!(FilterArgument, FilterChoice);

/// A filter of layers that are known without running anything.
fn named_filter(text: &str) -> Result<FilterArgument, String> {
    match text.parse()? {
        FilterArgument(FilterChoice::Auto) => Err(
            "`auto` compares gradients first, which `smidgen train` does: write last:N or names of layers".into(),
        ),
        filter => Ok(filter),
    }
}

fn picture(text: &str) -> Result<[u32; 3], String> {
    let sizes: Result<Vec<u32>, _> = text.split('x').map(str::parse).collect();
    let sizes = sizes
        .ok()
        .and_then(|sizes| <[u32; 3]>::try_from(sizes).ok());
    sizes
        .filter(|sizes| !sizes.contains(&0))
        .ok_or_else(|| "write channels, rows and columns as 3x32x32".into())
}

fn number(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| format!("`{text}` is no number"))
}

fn cosine(text: &str) -> Result<f64, String> {
    number(text).and_then(|number| {
        if (-1.0..=1.0).contains(&number) {
            Ok(number)
        } else {
            Err("a cosine is from -1 to 1".into())
        }
    })
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text).and_then(|number| {
        if number >= 0.0 {
            Ok(number)
        } else {
            Err("it must not be negative".into())
        }
    })
}

fn above_zero(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|number| {
        if number > 0.0 {
            Ok(number)
        } else {
            Err("it must be above 0".into())
        }
    })
}

fn below_one(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|number| {
        if number < 1.0 {
            Ok(number)
        } else {
            Err("it must be below 1".into())
        }
    })
}

fn schedule(text: &str) -> Result<Schedule, String> {
    let words: Vec<&str> = text.split(':').collect();
    match words[..] {
        ["constant"] => Ok(Schedule::Constant),
        ["cosine"] => Ok(Schedule::Cosine { warm_up: 0.0 }),
        ["cosine", warm_up] => Ok(Schedule::Cosine {
            warm_up: not_negative(warm_up)?,
        }),
        ["step", every, factor] => {
            let every = every
                .parse()
                .ok()
                .filter(|every| *every > 0)
                .ok_or("EPOCHS must be a whole number above 0")?;
            Ok(Schedule::Step {
                every,
                factor: not_negative(factor)?,
            })
        }
        _ => Err("write constant, step:EPOCHS:FACTOR, cosine or cosine:WARM_UP_EPOCHS".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn resume_takes_no_settings() {
        assert!(Arguments::try_parse_from(["smidgen", "train", "--resume", "run"]).is_ok());
        assert!(
            Arguments::try_parse_from(["smidgen", "train", "--resume", "run", "--json"]).is_ok()
        );
        assert!(
            Arguments::try_parse_from(["smidgen", "train", "--resume", "run", "--lr", "1"])
                .is_err()
        );
    }

    #[test]
    fn schedules_are_read() {
        assert_eq!(
            schedule("step:30:0.1"),
            Ok(Schedule::Step {
                every: 30,
                factor: 0.1
            })
        );
        assert_eq!(schedule("cosine:5"), Ok(Schedule::Cosine { warm_up: 5.0 }));
        for wrong in ["", "step", "step:0:1", "cosine:-1", "cosine:nan", "linear"] {
            assert!(schedule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_threshold_of_filters_is_a_cosine() {
        for (threshold, fits) in [("0.9", true), ("-1", true), ("1.5", false), ("nan", false)] {
            let line =
                format!("smidgen train --data shapes --filter auto --filter-threshold={threshold}");
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), fits, "{threshold}");
        }
    }

    #[test]
    fn settings_survive_being_written_down() {
        let line = "smidgen train --data cifar10:somewhere --augment crop,flip --budget 64MiB --schedule step:3:0.5";
        let Command::Train(train) = Arguments::try_parse_from(line.split(' ')).unwrap().command
        else {
            panic!()
        };
        let written = serde_json::to_string(&train.run).unwrap();
        let read: RunArguments = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
        assert!(
            written.contains("cifar10:somewhere") && written.contains("crop,flip"),
            "{written}"
        );
    }
}
