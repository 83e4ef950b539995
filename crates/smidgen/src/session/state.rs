//! Reading and setting what a session holds.

use super::sparse::COLUMNS_PREFIX;
use super::{MASK_SUFFIX, MaskReport, Session};
use crate::{Error, kernels};
use smidgen_gpu::bytemuck;
use smidgen_graph::{Role, Tensor, Value, Weights};
use smidgen_ops::control::Control;

impl Session {
    /// The numbers of a value, by name, in PyTorch's order (weights as `[out, in / groups, height, width]`, maps as NCHW).
    ///
    /// What a value that is not persistent holds after a step is only defined while its memory is not reused: the logits, and
    /// parameter gradients that were kept.
    ///
    /// # Errors
    /// An unknown name, or the device failed.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        if let Some(numbers) = self.read_sparse(name)? {
            return Ok(numbers);
        }
        if let Some(numbers) = self.read_examples(name)? {
            return Ok(numbers);
        }
        let compiled = self.program();
        let (id, place) = compiled.find(name)?;
        let Value { layout, role, .. } = *compiled.program.value(id);
        let slabs = compiled.program.slabs();
        let mut numbers = kernels::unpack(&layout, slabs, &self.memory.read(place)?)?;
        if matches!(role, Role::ParameterGradient | Role::GradientSum)
            && let Some(loss_scale) = self.loss_scale()?
        {
            numbers
                .iter_mut()
                .for_each(|number| *number /= loss_scale.last);
        }
        Ok(numbers)
    }

    /// Sets a value that holds from step to step, in PyTorch's order.
    ///
    /// # Errors
    /// An unknown name, a wrong number of elements, or the device failed.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<(), Error> {
        if self.write_sparse(name, values)? || self.write_examples(name, values)? {
            return Ok(());
        }
        let compiled = self.program();
        let (id, place) = compiled.find(name)?;
        let value = compiled.program.value(id);
        if !value.role.is_persistent() {
            return Err(Error::UnknownValue { name: name.into() });
        }
        let words = kernels::pack(name, &value.layout, values)?;
        self.memory.write(place, bytemuck::cast_slice(&words))
    }

    /// Sets parameters and running statistics, after checking that they are those of the network, and tells what became of the masks
    /// of sparse layers: each takes the blocks that hold most of the weight (under its mask, where there is one in the file).
    ///
    /// # Errors
    /// A missing, unknown or misshapen tensor: then nothing is changed. Or the device failed.
    pub fn load(&mut self, weights: &Weights) -> Result<Vec<MaskReport>, Error> {
        weights.check(&self.graph)?;
        let mut reports = Vec::new();
        for name in self.tensor_names() {
            let Some(tensor) = weights.tensors.get(&name) else {
                continue;
            };
            match self.import_sparse(&name, weights)? {
                Some(report) => reports.push(report),
                None => self.write(&name, &weights.masked(&name, tensor))?,
            }
        }
        Ok(reports)
    }

    /// Parameters and running statistics under PyTorch's names.
    ///
    /// # Errors
    /// The device failed.
    pub fn weights(&mut self) -> Result<Weights, Error> {
        let mut weights = Weights::default();
        for name in self.tensor_names() {
            let values = self.read(&name)?;
            let parameter = self
                .graph
                .parameters()
                .iter()
                .find(|parameter| parameter.name == name);
            let shape =
                parameter.map_or_else(|| vec![values.len()], |parameter| parameter.shape.clone());
            weights.tensors.insert(name, Tensor { shape, values });
        }
        for layer in self.graph.sparse_layers() {
            let name = format!("{}{MASK_SUFFIX}", layer.name);
            let values = self.read(&name)?;
            let shape = self.graph.parameters()[layer.weight.0].shape.clone();
            weights.tensors.insert(name, Tensor { shape, values });
        }
        Ok(weights)
    }

    /// Whether a loss or a gradient norm that was not finite has stopped all updates: the parameters are as before that step.
    ///
    /// # Errors
    /// The device failed.
    pub fn is_halted(&mut self) -> Result<bool, Error> {
        let compiled = self.program();
        let control = compiled.place(compiled.program.control)?;
        let halted = std::mem::offset_of!(Control, halted) / 4;
        Ok(!self.evaluated && self.memory.read(control)?[halted] != 0)
    }

    /// Names of what a run needs beside its weights to go on: which blocks sparse layers hold, the optimiser's state, and what is kept
    /// of examples.
    #[must_use]
    pub fn state_names(&self) -> Vec<String> {
        let values = &self.main_program().values;
        let states = values
            .iter()
            .filter(|value| matches!(value.role, Role::OptimizerState | Role::Examples));
        let columns = self.graph.sparse_layers();
        let columns = columns
            .iter()
            .map(|layer| format!("{COLUMNS_PREFIX}{}", layer.name));
        columns
            .chain(states.map(|value| value.name.clone()))
            .collect()
    }

    /// A state as this session holds it, which was held once for all taps of a filtered weight or for every tap; `None` if it is to be held once
    /// and is not the same at every tap.
    pub(crate) fn as_held(&self, name: &str, values: Vec<f32>) -> Option<Vec<f32>> {
        let program = self.main_program();
        let parameter = self.graph.parameters().iter().find(|parameter| {
            (name.strip_suffix(&parameter.name)).is_some_and(|kind| kind.ends_with(" of "))
        });
        let (Some(parameter), Some(id)) = (parameter, program.find(name)) else {
            return Some(values);
        };
        let taps: usize = parameter.shape.iter().skip(2).product();
        let all = parameter.elements() as usize;
        let once = program.value(id).layout != parameter.layout.of_gradient();
        if once && values.len() == all {
            let taps = || values.chunks(taps);
            let same = taps().all(|taps| taps.iter().all(|value| *value == taps[0]));
            same.then(|| taps().map(|taps| taps[0]).collect())
        } else if !once && values.len() * taps == all {
            let each = values
                .iter()
                .flat_map(|value| std::iter::repeat_n(*value, taps));
            Some(each.collect())
        } else {
            Some(values)
        }
    }

    fn tensor_names(&self) -> Vec<String> {
        let parameters = self
            .graph
            .parameters()
            .iter()
            .map(|parameter| parameter.name.clone());
        parameters
            .chain(
                self.graph
                    .buffers()
                    .iter()
                    .map(|buffer| buffer.name.clone()),
            )
            .collect()
    }
}
