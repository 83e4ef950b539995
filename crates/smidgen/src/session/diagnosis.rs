//! Finding out where a number stopped being finite.

use super::memory::Batch;
use super::{Session, StepOptions};
use crate::{Error, kernels};
use smidgen_graph::{Layout, Phase, Role, ValueId};
use smidgen_ops::control::Control;
use smidgen_plan::Place;

impl Session {
    /// Runs forward and loss of the training program on a batch, one operation at a time, and tells the layer and the value that
    /// first held a number that is not finite; `None` if there is none. Slow: for finding out why a loss was NaN.
    ///
    /// # Errors
    /// The device failed.
    pub fn find_non_finite(
        &mut self,
        images: &[f32],
        labels: &[u32],
        options: &StepOptions,
    ) -> Result<Option<(String, String)>, Error> {
        for (layer, name, place) in self.parameter_places()? {
            if !self.memory.is_finite(place)? {
                return Ok(Some((layer, name)));
            }
        }
        for batch in self.in_parts(images, labels).parts() {
            if let Some(place) = self.find_non_finite_in(batch, options)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn find_non_finite_in(
        &mut self,
        batch: Batch<'_>,
        options: &StepOptions,
    ) -> Result<Option<(String, String)>, Error> {
        let control = batch.control(Control {
            seed: options.seed,
            ..Control::default()
        });
        let compiled = self
            .training
            .as_ref()
            .map_or(&self.evaluation, |(_, compiled)| compiled);
        let mut encoder = self.memory.encoder();
        self.memory
            .upload(&mut encoder, compiled, batch, &control)?;
        self.memory.submit(encoder);
        if !self
            .memory
            .is_finite(compiled.place(compiled.program.images)?)?
        {
            return Ok(Some(("the data".into(), "images".into())));
        }
        for (operation, launches) in compiled.program.operations.iter().zip(&compiled.launches) {
            if matches!(operation.phase, Phase::Backward | Phase::Update) {
                break;
            }
            self.memory
                .device
                .run(|pass| compiled.sequence.record_range(pass, launches.clone()))?;
            for id in operation.writes() {
                let value = compiled.program.value(id);
                let holds_numbers =
                    value.layout.map().is_some() || matches!(value.layout, Layout::Vector { .. });
                if !holds_numbers || value.role == Role::Running {
                    continue;
                }
                let words = self.memory.read(compiled.place(id)?)?;
                let numbers = kernels::unpack(&value.layout, compiled.program.slabs(), &words)?;
                if numbers.iter().any(|number| !number.is_finite()) {
                    return Ok(Some((operation.layer.clone(), value.name.clone())));
                }
            }
        }
        Ok(None)
    }

    /// Layer, name and place of every parameter.
    fn parameter_places(&self) -> Result<Vec<(String, String, Place)>, Error> {
        let compiled = self.program();
        let values = compiled.program.values.iter().enumerate();
        values
            .filter(|(_, value)| value.role == Role::Parameter)
            .map(|(at, value)| {
                let layer = value.name.rsplit_once('.').map_or("", |(layer, _)| layer);
                let place = compiled.place(ValueId(at))?;
                let place = match value.layout {
                    // Columns are no numbers.
                    Layout::SparseWeight(attributes, blocks) => {
                        kernels::sparse::places(place, &attributes, &blocks).values
                    }
                    _ => place,
                };
                Ok((layer.to_owned(), value.name.clone(), place))
            })
            .collect()
    }
}
