//! The `smidgen` command: trains and evaluates networks on any GPU, within a byte budget.

mod arguments;
mod bench;
mod devices;
mod evaluate;
mod output;
mod run_folder;
mod train;

use arguments::{Arguments, Command};
use clap::Parser;
use output::Output;
use std::process::ExitCode;

/// What a shell reports for a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let result = match arguments.command {
        Command::Devices => devices::run(&output).map(|()| ExitCode::SUCCESS),
        Command::Train(settings) => train::run(*settings, arguments.adapter, &output),
        Command::Eval(settings) => {
            evaluate::run(&settings, arguments.adapter, &output).map(|()| ExitCode::SUCCESS)
        }
        Command::Bench(settings) => {
            bench::run(&settings, arguments.adapter, &output).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        output.error(&error);
        ExitCode::FAILURE
    })
}
