//! Smidgen on the best device, or that of `SMIDGEN_ADAPTER`.

use smidgen_benches::convolution::launches;
use smidgen_benches::{Work, device, training};
use smidgen_peers::serve::{Subject, serve};
use smidgen_peers::{Case, Convolution, Hello, Pass};
use smidgen_reference::convolution::Case as Table;
use std::time::{Duration, Instant};

struct Steps(training::Run);

impl Subject for Steps {
    fn run(&mut self, times: u64) -> Result<Duration, String> {
        let start = Instant::now();
        self.0.steps(times).map_err(|error| error.to_string())?;
        Ok(start.elapsed())
    }

    fn parameters(&self) -> Option<u64> {
        Some(self.0.parameters())
    }

    fn loss(&self) -> Option<f64> {
        Some(self.0.loss())
    }
}

struct Launches(Work);

impl Subject for Launches {
    fn run(&mut self, times: u64) -> Result<Duration, String> {
        self.0.run(times).map_err(|error| error.to_string())
    }
}

fn build(case: &Case) -> Result<Box<dyn Subject>, String> {
    Ok(match case {
        Case::Training(training) => {
            let run = training::Run::new(&training.network, training.batch, training.side);
            Box::new(Steps(run.map_err(|error| error.to_string())?))
        }
        Case::Convolution(convolution) => Box::new(Launches(work(convolution)?)),
    })
}

fn work(case: &Convolution) -> Result<Work, String> {
    let input = [case.channels, case.side, case.side];
    let table = Table::new("", case.batch, input, case.outputs, [case.kernel; 2])
        .padding(case.kernel / 2, case.kernel / 2)
        .groups(case.groups);
    let pass = match case.pass {
        Pass::Forward => smidgen_conv::Pass::Forward,
        Pass::InputGradient => smidgen_conv::Pass::InputGradient,
        Pass::WeightGradient => smidgen_conv::Pass::WeightGradient,
    };
    let (memory, launches) = launches(&table, pass);
    Work::prepare(&memory, &launches).map_err(|error| error.to_string())
}

pub(super) fn run() -> std::io::Result<()> {
    let facts = device().facts();
    let hello = Hello {
        name: format!("Smidgen {}", env!("CARGO_PKG_VERSION")),
        device: format!("{} ({})", facts.name, facts.driver),
        settings: "WGSL on wgpu, defaults".into(),
    };
    serve(&hello, build)
}
