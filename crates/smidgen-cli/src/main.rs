//! The `smidgen` command: trains and evaluates networks on any GPU, within a byte budget.

mod arguments;
mod bench;
mod comparison;
mod devices;
mod evaluate;
mod fit;
mod hint;
mod micro_batch;
mod output;
mod profile;
mod run_folder;
mod train;

use arguments::{Arguments, Command};
use clap::Parser;
use output::Output;
use run_folder::RunFolder;
use std::process::ExitCode;

/// What a shell reports for a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let run_folder = match &arguments.command {
        Command::Train(settings) => settings.resume.clone().or(settings.run.out.clone()),
        _ => None,
    };
    let result = match arguments.command {
        Command::Devices => devices::run(&output).map(|()| ExitCode::SUCCESS),
        Command::Train(settings) => train::run(*settings, arguments.adapter, &output),
        Command::Eval(settings) => {
            evaluate::run(&settings, arguments.adapter, &output).map(|()| ExitCode::SUCCESS)
        }
        Command::Bench(settings) => {
            bench::run(&settings, arguments.adapter, &output).map(|()| ExitCode::SUCCESS)
        }
        Command::Fit(fit) => fit::run(&fit, arguments.adapter, &output).map(|()| ExitCode::SUCCESS),
        Command::Profile(settings) => {
            profile::run(&settings, arguments.adapter, &output).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        // A folder in which nothing was noted yet is none to go on with.
        let folder = run_folder.filter(|folder| RunFolder::settings(folder).is_ok());
        output.error(&error, hint::after(&error, folder.as_deref()).as_deref());
        ExitCode::FAILURE
    })
}
