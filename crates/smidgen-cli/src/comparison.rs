use smidgen::data::{Augment, DataSource, Dataset, Loader};
use smidgen::gpu::{DeviceFacts, DeviceRequest};
use smidgen::{Bytes, Closeness, Error, Graph, Probe, checkpoint};
use std::path::Path;
use std::sync::Arc;

/// Pictures that the gradients of filtered layers are compared on, at most.
const PROBED: u32 = 32;

/// What the gradients of filtered layers are compared with the exact ones on.
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
        let weights = self.weights.map(checkpoint::read_weights).transpose()?;
        let most = self.most.min(PROBED);
        let pictures = smidgen::probe_pictures(graph, facts, self.budget, most)? as usize;
        let loader = Loader::training(
            Arc::clone(self.pictures),
            pictures.min(self.pictures.len()),
            self.source.normalization(),
            Augment::default(),
            self.seed,
        )?;
        let Some(batch) = loader.epoch(0, 0).next().transpose()? else {
            return Ok(Vec::new());
        };
        let probe = Probe {
            images: &batch.images,
            labels: &batch.labels,
            weights: weights.as_ref(),
            seed: self.seed,
            budget: self.budget,
        };
        match threshold {
            Some(least) => smidgen::filter_close_ones(request, graph, &probe, least),
            None => smidgen::closeness(request, graph, &probe),
        }
    }
}
