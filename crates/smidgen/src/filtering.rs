//! Which convolutions are filtered, and how well their gradients point where the exact ones do.

mod demand;
mod least_bias;

pub use demand::{FilterPoint, explain_filters, filter_where_demanded};

use crate::Error;
use crate::probe::{Probe, dot, weight_gradients};
use smidgen_gpu::DeviceRequest;
use smidgen_graph::{Graph, GraphError};
use std::fmt;
use std::str::FromStr;

/// Which convolutions have a filtered backward pass: `last:4`, `auto`, or names of layers between commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterChoice {
    /// The last so many.
    Last(usize),
    /// These.
    Layers(Vec<String>),
    /// Every trained one whose gradient stays close to the exact one: see [`filter_close_ones`].
    Auto,
}

impl FromStr for FilterChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(count) = text.strip_prefix("last:") {
            let count = count.parse().ok().filter(|count| *count > 0);
            return count
                .map(Self::Last)
                .ok_or_else(|| format!("`{text}`: write last:N with N above 0"));
        }
        let layers: Vec<String> = text.split(',').map(str::to_owned).collect();
        if layers.iter().any(String::is_empty) {
            return Err(format!(
                "`{text}`: write last:N, auto, or names of layers between commas"
            ));
        }
        Ok(Self::Layers(layers))
    }
}

impl fmt::Display for FilterChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last(count) => write!(formatter, "last:{count}"),
            Self::Layers(layers) => formatter.write_str(&layers.join(",")),
            Self::Auto => formatter.write_str("auto"),
        }
    }
}

impl FilterChoice {
    /// Sets the filters of a network; with [`Auto`](Self::Auto) those of all trained convolutions that can have one, from which
    /// [`filter_close_ones`] takes away.
    ///
    /// # Errors
    /// A layer that there is not, or that cannot be filtered, or a patch out of range.
    pub fn apply(&self, graph: &mut Graph, patch: u32) -> Result<(), GraphError> {
        match self {
            Self::Last(count) => graph.filter_last(*count, patch),
            Self::Layers(layers) => layers
                .iter()
                .try_for_each(|layer| graph.filter(layer, patch)),
            Self::Auto => {
                let trained: Vec<String> = (graph.trained_convolutions().into_iter())
                    .map(str::to_owned)
                    .collect();
                for layer in trained {
                    match graph.filter(&layer, patch) {
                        // Grouped ones stay exact.
                        Ok(()) | Err(GraphError::DoesNotFit { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }
}

/// How a filtered layer's gradient compares with the exact one.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Closeness {
    /// The layer.
    pub layer: String,
    /// Its patch.
    pub patch: u32,
    /// Cosine of the angle between the filtered and the exact gradient of its weight, with all filters of the network in place: 1 where they
    /// point the same way.
    pub cosine: f64,
}

/// Compares the gradients of the filtered layers with the exact ones on a probe batch, in the order of the layers. Two sessions are built one
/// after the other; nothing is trained.
///
/// # Errors
/// As [`Session::new`](crate::Session::new) and [`Session::train_step`](crate::Session::train_step).
pub fn closeness(
    request: &DeviceRequest,
    graph: &Graph,
    probe: &Probe<'_>,
) -> Result<Vec<Closeness>, Error> {
    graph.check_filters()?;
    let filters: Vec<(String, u32)> = (graph.filters())
        .map(|(layer, patch)| (layer.to_owned(), patch))
        .collect();
    let mut exact = graph.clone();
    exact.clear_filters();
    let expected = weight_gradients(probe.session(request, &exact)?, probe)?;
    let found = weight_gradients(probe.session(request, graph)?, probe)?;
    Ok(filters
        .into_iter()
        .map(|(layer, patch)| Closeness {
            cosine: cosine(&found[&layer], &expected[&layer]),
            layer,
            patch,
        })
        .collect())
}

/// Takes filters away until all that are left have a cosine of at least `least`, and returns those.
///
/// # Errors
/// As [`closeness`].
pub fn filter_close_ones(
    request: &DeviceRequest,
    graph: &mut Graph,
    probe: &Probe<'_>,
    least: f64,
) -> Result<Vec<Closeness>, Error> {
    loop {
        let found = closeness(request, graph, probe)?;
        // A filter also bends the gradients of the layers before it, so what is measured first may be the fault of one further on: halves of
        // what fails are taken away, the last of them first.
        let mut failing: Vec<&Closeness> = found
            .iter()
            .filter(|layer| layer.cosine.is_nan() || layer.cosine < least)
            .collect();
        if failing.is_empty() {
            return Ok(found);
        }
        let dropped = failing.split_off(failing.len() / 2);
        let kept: Vec<(&str, u32)> = (found.iter())
            .filter(|layer| !dropped.contains(layer))
            .map(|layer| (layer.layer.as_str(), layer.patch))
            .collect();
        graph.clear_filters();
        for (layer, patch) in kept {
            graph.filter(layer, patch)?;
        }
    }
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written() {
        for text in ["last:4", "auto", "layer4.1.conv1,layer4.1.conv2", "conv1"] {
            assert_eq!(text.parse::<FilterChoice>().unwrap().to_string(), text);
        }
        for wrong in ["", "last:0", "last:", "last:x", "a,,b"] {
            assert!(wrong.parse::<FilterChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cosines() {
        assert!((cosine(&[1.0, 2.0], &[2.0, 4.0]) - 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 3.0]).abs() < 1e-12);
    }
}
