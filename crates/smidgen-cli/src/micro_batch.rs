//! How a batch is divided.

use serde::{Deserialize, Serialize};
use smidgen::gpu::DeviceFacts;
use smidgen::{Error, Graph, SessionOptions, micro_batch_within};
use std::fmt;
use std::str::FromStr;

/// Images that a step computes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum MicroBatch {
    /// As many as the budget and the device allow.
    Auto,
    Images(u32),
}

impl FromStr for MicroBatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(images) => Ok(Self::Images(images)),
            Err(_) => Err("write a number of images that divides the batch, or auto".into()),
        }
    }
}

impl TryFrom<String> for MicroBatch {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MicroBatch> for String {
    fn from(micro_batch: MicroBatch) -> Self {
        micro_batch.to_string()
    }
}

impl fmt::Display for MicroBatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Images(images) => images.fmt(formatter),
        }
    }
}

/// Divides the batch of `options` as was asked, or where it would not fit otherwise: on its own only where that changes no more than
/// rounding. Returns what is to be asked for when the same is wanted again.
pub(crate) fn divide(
    asked: Option<MicroBatch>,
    graph: &Graph,
    facts: &DeviceFacts,
    options: &mut SessionOptions,
) -> Result<Option<MicroBatch>, Error> {
    let allowed = asked.is_some() || !graph.uses_statistics_of_batches();
    let planned = (options.training.as_ref()).is_some_and(|training| training.plan.is_some());
    let images = match asked {
        Some(MicroBatch::Images(images)) => Some(images),
        _ if allowed && !planned => micro_batch_within(graph, facts, options)?,
        _ => None,
    };
    if let Some(training) = &mut options.training {
        training.micro_batch = images;
    }
    Ok(images.map(MicroBatch::Images))
}

/// `64`, or `64 in micro-batches of 16`.
pub(crate) fn describe(batch: u32, micro_batches: u32) -> String {
    if micro_batches > 1 {
        format!("{batch} in micro-batches of {}", batch / micro_batches)
    } else {
        batch.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_are_read_as_they_are_written() {
        for asked in [MicroBatch::Auto, MicroBatch::Images(16)] {
            assert_eq!(asked.to_string().parse(), Ok(asked));
        }
        for wrong in ["", "-1", "1.5", "automatic"] {
            assert!(wrong.parse::<MicroBatch>().is_err(), "{wrong}");
        }
    }
}
