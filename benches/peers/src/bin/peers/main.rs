//! Measures Smidgen and its peers in turn, and writes the table of `docs/src/peers.md`.

mod frameworks;
mod page;
mod results;
mod runner;

use clap::{Parser, ValueEnum};
use frameworks::Framework;
use results::{Entry, Measured, Outcome, Results, Row};
use runner::{Answer, Runner};
use smidgen_peers::{Case, Reply, Request, cases};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measures Smidgen and its peers in turn, and writes the table of docs/src/peers.md.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Rounds that count; one more comes before them.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(5..))]
    rounds: u32,
    /// Seconds that a runner measures for in a round; at least one training step.
    #[arg(long, default_value_t = 0.5)]
    sample: f64,
    /// Seconds that the first run of a case may take, tuning included.
    #[arg(long, default_value_t = 1200)]
    limit: u64,
    /// Who is measured; by default all that can be started.
    #[arg(long, value_delimiter = ',', default_values_t = Framework::value_variants().to_vec())]
    frameworks: Vec<Framework>,
    /// This batch in every case, such as 128 to fill a GPU.
    #[arg(long)]
    batch: Option<usize>,
    /// Only the cases with this in their names; what was measured of others before stays.
    #[arg(long, default_value = "")]
    only: String,
    /// Python with PyTorch.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Wait for a line on standard input before the rounds of every case, so that the machine can be made quiet.
    #[arg(long)]
    pause: bool,
    /// Where measurements are kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results.json"))]
    results: PathBuf,
    /// The page whose table is written.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/peers.md"))]
    page: PathBuf,
    /// Be the runner of this framework: how this program starts itself.
    #[arg(long, hide = true)]
    serve: Option<Framework>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.serve {
        Some(framework) => framework.serve(),
        None => measure(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let all = cases::all(options.batch);
    let mut wanted = all.clone();
    wanted.retain(|case| case.name().contains(&options.only));
    if wanted.is_empty() {
        let names: Vec<_> = all.iter().map(Case::name).collect();
        return Err(format!(
            "no case has `{}` in its name; there are:\n  {}",
            options.only,
            names.join("\n  ")
        ));
    }
    page::check(&options.page)?;
    let mut runners = start(options)?;
    let hellos = runners.iter().map(|runner| runner.hello.clone()).collect();
    let mut results = Results::open(&options.results, hellos)?;
    for case in &wanted {
        let row = row(case, &mut runners, options)?;
        results.add(row, &all);
        results.save(&options.results)?;
        page::write(&options.page, &results)?;
    }
    eprintln!("peers: the table is in {}", options.page.display());
    Ok(())
}

/// Those that can be started.
fn start(options: &Options) -> Result<Vec<Runner>, String> {
    let mut runners = Vec::new();
    for framework in &options.frameworks {
        match Runner::start(framework.command(&options.python)?) {
            Ok(runner) => runners.push(runner),
            Err(problem) => eprintln!("peers: left out: {framework}: {problem}"),
        }
    }
    if runners.is_empty() {
        return Err("nothing can be measured".into());
    }
    Ok(runners)
}

/// Prepares a case everywhere, then lets one after the other run it, round by round.
fn row(case: &Case, runners: &mut [Runner], options: &Options) -> Result<Row, String> {
    let name = case.name();
    let limit = Duration::from_secs(options.limit);
    let mut outcomes = Vec::new();
    for runner in &mut *runners {
        eprintln!("peers: {name}: {} prepares", runner.hello.name);
        outcomes.push(prepare(case, runner, limit)?);
    }
    if options.pause {
        eprintln!("peers: {name}: ready, waiting for a line on standard input");
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.map_err(|error| error.to_string())?;
    }
    for round in 0..=options.rounds {
        eprintln!("peers: {name}: round {round} of {}", options.rounds);
        for (runner, outcome) in runners.iter_mut().zip(&mut outcomes) {
            let Outcome::Measured(measured) = outcome else {
                continue;
            };
            match runner.ask(&Request::Run(options.sample), limit)? {
                // The round before the first only warms.
                Answer::Reply(Reply::Sample(_)) if round == 0 => {}
                Answer::Reply(Reply::Sample(sample)) => measured.seconds.push(sample.seconds),
                answer => *outcome = Outcome::Failed(answer.problem(limit)),
            }
        }
    }
    let entries = runners.iter().zip(outcomes);
    let entries = entries.map(|(runner, outcome)| Entry {
        runner: runner.hello.name.clone(),
        outcome,
    });
    let row = Row {
        case: case.clone(),
        entries: entries.collect(),
    };
    row.check()?;
    Ok(row)
}

fn prepare(case: &Case, runner: &mut Runner, limit: Duration) -> Result<Outcome, String> {
    let answer = runner.ask(&Request::Prepare(case.clone()), limit)?;
    Ok(match answer {
        Answer::Reply(Reply::Ready(ready)) => Outcome::Measured(Measured {
            first_seconds: ready.first_seconds,
            parameters: ready.parameters,
            seconds: Vec::new(),
        }),
        answer => {
            let problem = answer.problem(limit);
            eprintln!("peers: {}: {}: {problem}", case.name(), runner.hello.name);
            Outcome::Failed(problem)
        }
    })
}
