//! What a session keeps of single training examples.

use super::Session;
use crate::Error;
use smidgen_gpu::bytemuck;
use smidgen_graph::{ExampleMemory, FORGETTING, Role};
use smidgen_ops::loss::ExampleRecord;

impl Session {
    /// What is kept of single training examples.
    #[must_use]
    pub fn examples(&self) -> ExampleMemory {
        self.training
            .as_ref()
            .map(|(training, _)| training.examples)
            .unwrap_or_default()
    }

    /// What is known of every example whose forgetting is counted, by its number.
    ///
    /// # Errors
    /// The session counts none, or the device failed.
    pub fn example_records(&mut self) -> Result<Vec<ExampleRecord>, Error> {
        let (_, place) = self.program().find(FORGETTING)?;
        let words = self.memory.read(place)?;
        Ok(words.into_iter().map(ExampleRecord).collect())
    }

    /// Sets what [`example_records`](Self::example_records) reads, between two steps: to remove examples, or to begin counting anew.
    ///
    /// # Errors
    /// The session counts none, another number of records, or the device failed.
    pub fn set_example_records(&mut self, records: &[ExampleRecord]) -> Result<(), Error> {
        let (_, place) = self.program().find(FORGETTING)?;
        let words: Vec<u32> = records.iter().map(|record| record.0).collect();
        if words.len() as u64 * 4 != place.bytes {
            return Err(Error::ValueSize {
                name: FORGETTING.into(),
                expected: (place.bytes / 4) as usize,
                found: words.len(),
            });
        }
        self.memory.write(place, bytemuck::cast_slice(&words))
    }

    /// Words of examples as numbers that a file of f32 holds exactly, the low half of each word first; `None` if `name` holds none.
    pub(super) fn read_examples(&mut self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        let Some(place) = self.examples_place(name) else {
            return Ok(None);
        };
        let words = self.memory.read(place)?;
        let halves = words
            .into_iter()
            .flat_map(|word| [word & 0xffff, word >> 16]);
        Ok(Some(halves.map(|half| half as f32).collect()))
    }

    /// Sets what [`read_examples`](Self::read_examples) reads.
    pub(super) fn write_examples(&mut self, name: &str, numbers: &[f32]) -> Result<bool, Error> {
        let Some(place) = self.examples_place(name) else {
            return Ok(false);
        };
        if numbers.len() as u64 * 2 != place.bytes {
            return Err(Error::ValueSize {
                name: name.into(),
                expected: (place.bytes / 2) as usize,
                found: numbers.len(),
            });
        }
        let words: Vec<u32> = (numbers.chunks_exact(2))
            .map(|halves| halves[0] as u32 & 0xffff | (halves[1] as u32) << 16)
            .collect();
        self.memory.write(place, bytemuck::cast_slice(&words))?;
        Ok(true)
    }

    fn examples_place(&self, name: &str) -> Option<smidgen_plan::Place> {
        let (id, place) = self.program().find(name).ok()?;
        (self.program().program.value(id).role == Role::Examples).then_some(place)
    }
}
