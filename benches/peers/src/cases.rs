//! What is measured.

use crate::{Case, Convolution, Pass, Training};
use std::collections::BTreeSet;

/// Every case, in the order of the table; with a batch, all of this one.
#[must_use]
pub fn all(batch: Option<usize>) -> Vec<Case> {
    let mut cases = usual();
    if let Some(batch) = batch {
        for case in &mut cases {
            match case {
                Case::Training(training) => training.batch = batch,
                Case::Convolution(convolution) => convolution.batch = batch,
            }
        }
        // ResNet-20 would be there once for each of its batches.
        let mut names = BTreeSet::new();
        cases.retain(|case| names.insert(case.name()));
    }
    cases
}

fn usual() -> Vec<Case> {
    let trainings = [
        ("resnet20", 32, 32),
        ("resnet20", 128, 32),
        ("resnet18", 8, 64),
    ];
    // Layers of ResNet-20 (batch 32), ResNet-18 and MobileNetV2 (batch 8).
    let convolutions = [
        dense(32, 16, 32),
        dense(32, 32, 16),
        dense(32, 64, 8),
        dense(8, 64, 56),
        dense(8, 128, 28),
        dense(8, 256, 14),
        Convolution {
            groups: 96,
            ..dense(8, 96, 28)
        },
        Convolution {
            outputs: 384,
            kernel: 1,
            ..dense(8, 64, 28)
        },
    ];
    let passes = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];
    let trainings = trainings.map(|(network, batch, side)| {
        Case::Training(Training {
            network: network.into(),
            batch,
            side,
        })
    });
    let convolutions = convolutions.into_iter().flat_map(|convolution| {
        passes.map(|pass| {
            Case::Convolution(Convolution {
                pass,
                ..convolution.clone()
            })
        })
    });
    trainings.into_iter().chain(convolutions).collect()
}

fn dense(batch: usize, channels: usize, side: usize) -> Convolution {
    Convolution {
        batch,
        channels,
        side,
        outputs: channels,
        kernel: 3,
        groups: 1,
        pass: Pass::Forward,
    }
}

impl Case {
    /// In words; no two cases have the same.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Training(Training {
                network,
                batch,
                side,
            }) => format!("train {network}, batch {batch}, {side}x{side}"),
            Self::Convolution(convolution) => {
                let Convolution {
                    batch,
                    channels,
                    side,
                    outputs,
                    kernel,
                    groups,
                    pass,
                } = convolution;
                let maps = format!("conv {batch}x{channels}x{side}x{side}");
                let outputs = if *groups == 1 {
                    format!(" to {outputs},")
                } else {
                    ", depthwise".into()
                };
                let pass = match pass {
                    Pass::Forward => "forward",
                    Pass::InputGradient => "input gradient",
                    Pass::WeightGradient => "weight gradient",
                };
                format!("{maps}{outputs} {kernel}x{kernel}, {pass}")
            }
        }
    }

    /// Images of a training step, or multiplications and additions of a pass (taps on the padding count).
    #[must_use]
    pub fn work(&self) -> u64 {
        let work = match self {
            Self::Training(training) => training.batch,
            Self::Convolution(convolution) => {
                let pixels = convolution.batch * convolution.side * convolution.side;
                let taps = convolution.kernel * convolution.kernel;
                let inputs = convolution.channels / convolution.groups;
                2 * pixels * convolution.outputs * inputs * taps
            }
        };
        work as u64
    }

    /// The rate of one run in so many seconds: images a second, or GFLOP/s.
    #[must_use]
    pub fn rate(&self, seconds: f64) -> f64 {
        let scale = match self {
            Self::Training(_) => 1.0,
            Self::Convolution(_) => 1e9,
        };
        self.work() as f64 / scale / seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_cases_apart() {
        let names = |batch| all(batch).iter().map(Case::name).collect::<BTreeSet<_>>();
        assert_eq!(names(Some(128)).len(), 2 + 8 * 3);
        let names = names(None);
        assert_eq!(names.len(), 3 + 8 * 3);
        assert!(names.contains("conv 8x96x28x28, depthwise 3x3, forward"));
        assert!(names.contains("train resnet18, batch 8, 64x64"));
    }

    #[test]
    fn a_case_survives_the_wire() {
        for case in all(None) {
            let line = serde_json::to_string(&case).expect("JSON");
            assert_eq!(case, serde_json::from_str(&line).expect("a case"));
        }
    }

    #[test]
    fn rates_count_what_a_textbook_counts() {
        let convolution = Case::Convolution(Convolution {
            outputs: 384,
            kernel: 1,
            ..dense(8, 64, 28)
        });
        assert_eq!(convolution.work(), 2 * 8 * 28 * 28 * 64 * 384);
        assert_eq!(convolution.rate(1e-9), convolution.work() as f64);
    }
}
