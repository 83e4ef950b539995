//! What can be measured. Each framework runs in a process of its own: this program, told to serve it, or Python.

#[cfg(feature = "burn")]
mod burn;
mod smidgen;

use clap::ValueEnum;

/// The script of PyTorch, so that this program is all that a machine needs.
const PYTORCH: &str = include_str!("../../../../pytorch.py");

/// A framework and where it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Framework {
    /// This project.
    Smidgen,
    /// Burn through wgpu.
    #[cfg(feature = "burn")]
    BurnWgpu,
    /// Burn on the CPU.
    #[cfg(feature = "burn")]
    BurnFlex,
    /// PyTorch on the CPU.
    PytorchCpu,
    /// PyTorch on a GPU.
    PytorchCuda,
}

impl std::fmt::Display for Framework {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        formatter.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Framework {
    /// What starts its runner.
    pub(crate) fn command(self, python: &str) -> Result<Vec<String>, String> {
        let script = |device: &str| vec![python.into(), "-c".into(), PYTORCH.into(), device.into()];
        match self {
            Self::PytorchCpu => Ok(script("cpu")),
            Self::PytorchCuda => Ok(script("cuda")),
            _ => {
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let program = program.display().to_string();
                Ok(vec![program, "--serve".into(), self.to_string()])
            }
        }
    }

    /// Answers requests until standard input ends.
    pub(crate) fn serve(self) -> Result<(), String> {
        let served = match self {
            Self::Smidgen => smidgen::run(),
            #[cfg(feature = "burn")]
            Self::BurnWgpu => burn::wgpu(),
            #[cfg(feature = "burn")]
            Self::BurnFlex => burn::flex(),
            Self::PytorchCpu | Self::PytorchCuda => return Err("served by pytorch.py".into()),
        };
        served.map_err(|error| error.to_string())
    }
}
