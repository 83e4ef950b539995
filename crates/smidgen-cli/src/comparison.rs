use smidgen::data::{Augment, DataSource, Dataset, Loader};
use smidgen::gpu::{DeviceFacts, DeviceRequest};
use smidgen::{Bytes, Closeness, Error, GradientError, Graph, Probe, StashPoint, checkpoint};
use std::path::Path;
use std::sync::Arc;

/// Pictures that gradients are compared on, at most.
const PROBED: u32 = 32;

/// What gradients are compared with the exact ones on.
pub(crate) struct Comparison<'a> {
    pub(crate) pictures: &'a Arc<dyn Dataset>,
    pub(crate) source: &'a DataSource,
    /// Pictures of a batch.
    pub(crate) most: u32,
    pub(crate) weights: Option<&'a Path>,
    pub(crate) seed: u64,
    pub(crate) budget: Option<Bytes>,
}

impl Comparison<'_> {
    /// How close the gradients are; with a `threshold`, takes the filters away that are not close enough.
    pub(crate) fn run(
        &self,
        request: &DeviceRequest,
        facts: &DeviceFacts,
        graph: &mut Graph,
        threshold: Option<f64>,
    ) -> Result<Vec<Closeness>, Error> {
        if graph.filters().next().is_none() {
            return Ok(Vec::new());
        }
        let most = self.most.min(PROBED);
        let pictures = smidgen::probe_pictures(graph, facts, self.budget, most)?;
        self.probe(pictures, |probe| match threshold {
            Some(least) => smidgen::filter_close_ones(request, graph, probe, least),
            None => smidgen::closeness(request, graph, probe),
        })
    }

    /// How far the gradients are off the exact ones where stashes are held like this.
    pub(crate) fn errors(
        &self,
        request: &DeviceRequest,
        facts: &DeviceFacts,
        graph: &Graph,
        stashes: &[StashPoint],
    ) -> Result<Vec<GradientError>, Error> {
        let most = self.most.min(PROBED);
        let pictures = smidgen::gradient_error_pictures(graph, facts, stashes, self.budget, most)?;
        self.probe(pictures, |probe| {
            smidgen::gradient_errors(request, graph, stashes, probe)
        })
    }

    /// Calls with the first batch of an epoch; no result where there is none.
    fn probe<T>(
        &self,
        pictures: u32,
        compare: impl FnOnce(&Probe<'_>) -> Result<Vec<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let weights = self.weights.map(checkpoint::read_weights).transpose()?;
        let loader = Loader::training(
            Arc::clone(self.pictures),
            (pictures as usize).min(self.pictures.len()),
            self.source.normalization(),
            Augment::default(),
            self.seed,
        )?;
        let Some(batch) = loader.epoch(0, 0).next().transpose()? else {
            return Ok(Vec::new());
        };
        compare(&Probe {
            images: &batch.images,
            labels: &batch.labels,
            weights: weights.as_ref(),
            seed: self.seed,
            budget: self.budget,
        })
    }
}
