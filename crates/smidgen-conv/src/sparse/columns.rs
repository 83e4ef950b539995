//! Columns and values on the host: chosen, imported, exported.

use super::{SparseError, SparseShape};

/// The column of a slot that holds no block.
pub const EMPTY: u32 = u32::MAX;

/// The column of input quad `input_quad` at a tap: one word that sorts by input quad, then by row of taps, then by tap.
#[must_use]
pub fn column(input_quad: u32, tap_y: u32, tap_x: u32) -> u32 {
    input_quad << 16 | tap_y << 8 | tap_x
}

/// Input quad, row of taps and tap of a column that is not [`EMPTY`].
#[must_use]
pub fn column_parts(column: u32) -> [u32; 3] {
    [column >> 16, column >> 8 & 0xff, column & 0xff]
}

/// A dense weight or mask as live blocks, and what that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// A word a slot.
    pub columns: Vec<u32>,
    /// Values of the live blocks; zero where the mask was off.
    pub values: Vec<f32>,
    /// Weights that the mask kept, and of them those that stand in no live block any more.
    pub kept: usize,
    /// How many of the kept weights are lost.
    pub lost: usize,
    /// The share of the sum of squares of the kept weights that is lost.
    pub lost_energy: f64,
    /// Weights that the mask held at zero and that are now free to learn.
    pub gained: usize,
}

fn check(what: &'static str, given: usize, expected: usize) -> Result<(), SparseError> {
    if given == expected {
        Ok(())
    } else {
        Err(SparseError::Length {
            what,
            given,
            expected,
        })
    }
}

impl SparseShape {
    fn dense_len(&self) -> usize {
        let shape = &self.convolution;
        (shape.output_channels * shape.group_inputs() * shape.taps()) as usize
    }

    /// Columns of the blocks that an output group would have if it were dense, ascending.
    pub fn candidate_columns(&self, output_group: u32) -> impl Iterator<Item = u32> + use<> {
        let shape = self.convolution;
        let first = shape.first_input_quad(output_group * self.block_quads);
        let [rows, taps] = shape.kernel;
        (first..first + shape.slots()).flat_map(move |quad| {
            (0..rows).flat_map(move |y| (0..taps).map(move |x| column(quad, y, x)))
        })
    }

    /// For every output group, the columns of its highest scores (of equal ones the first), ascending.
    pub fn choose(&self, mut score: impl FnMut(u32, u32) -> f64) -> Vec<u32> {
        (0..self.output_groups())
            .flat_map(|group| {
                let mut scored: Vec<_> = self
                    .candidate_columns(group)
                    .map(|column| (score(group, column), column))
                    .collect();
                // Stable: of equal scores the first come first.
                scored.sort_by(|a, b| b.0.total_cmp(&a.0));
                let mut columns: Vec<_> = scored
                    .into_iter()
                    .take(self.live as usize)
                    .map(|(_, column)| column)
                    .collect();
                columns.sort_unstable();
                columns
            })
            .collect()
    }

    /// Checks that every slot holds a block of its group or none, and no group holds a block twice.
    ///
    /// # Errors
    /// The wrong number of columns, or the first column that is wrong.
    pub fn check_columns(&self, columns: &[u32]) -> Result<(), SparseError> {
        self.validate()?;
        check("columns", columns.len(), self.blocks() as usize)?;
        for (group, own) in (0..).zip(columns.chunks(self.live as usize)) {
            let mut seen: Vec<u32> = self.candidate_columns(group).collect();
            for column in own.iter().copied().filter(|column| *column != EMPTY) {
                let at = seen
                    .iter()
                    .position(|candidate| *candidate == column)
                    .ok_or(SparseError::Column { group, column })?;
                seen.swap_remove(at);
            }
        }
        Ok(())
    }

    /// Calls `visit` with the element of PyTorch's `[output, input / groups, kernel_y, kernel_x]` and the element of the values, for
    /// every weight of a live block.
    fn each_weight(&self, columns: &[u32], mut visit: impl FnMut(usize, usize)) {
        let shape = &self.convolution;
        let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
        let elements = self.block_elements();
        for (block, column) in (0..).zip(columns) {
            if *column == EMPTY {
                continue;
            }
            let [input_quad, tap_y, tap_x] = column_parts(*column);
            for element in 0..elements {
                let quad = block / self.live * self.block_quads + element / 16;
                let output = quad * 4 + element % 4;
                let input = input_quad * 4 + element / 4 % 4;
                let real = output < shape.output_channels
                    && input < shape.input_channels
                    && output / outputs == input / inputs;
                if real {
                    let tap = tap_y * shape.kernel[1] + tap_x;
                    let dense = (output * inputs + input % inputs) * shape.taps() + tap;
                    visit(dense as usize, (block * elements + element) as usize);
                }
            }
        }
    }

    /// The values of live blocks from PyTorch's `[output, input / groups, kernel_y, kernel_x]`. Element of a block:
    /// `(quad * 4 + input_lane) * 4 + output_lane`.
    ///
    /// # Errors
    /// The wrong number of weights, or columns that are not this layer's.
    pub fn pack(&self, columns: &[u32], oihw: &[f32]) -> Result<Vec<f32>, SparseError> {
        self.check_columns(columns)?;
        check("weights", oihw.len(), self.dense_len())?;
        let mut values = vec![0.0; (self.blocks() * self.block_elements()) as usize];
        self.each_weight(columns, |dense, at| values[at] = oihw[dense]);
        Ok(values)
    }

    /// PyTorch's `[output, input / groups, kernel_y, kernel_x]` from live blocks, zero elsewhere; for weights, gradients and state.
    ///
    /// # Errors
    /// The wrong number of values, or columns that are not this layer's.
    pub fn unpack(&self, columns: &[u32], values: &[f32]) -> Result<Vec<f32>, SparseError> {
        self.check_columns(columns)?;
        let expected = (self.blocks() * self.block_elements()) as usize;
        check("values", values.len(), expected)?;
        let mut oihw = vec![0.0; self.dense_len()];
        self.each_weight(columns, |dense, at| oihw[dense] = values[at]);
        Ok(oihw)
    }

    /// Which of PyTorch's `[output, input / groups, kernel_y, kernel_x]` stand in live blocks.
    ///
    /// # Errors
    /// Columns that are not this layer's.
    pub fn mask(&self, columns: &[u32]) -> Result<Vec<bool>, SparseError> {
        self.check_columns(columns)?;
        let mut mask = vec![false; self.dense_len()];
        self.each_weight(columns, |dense, _| mask[dense] = true);
        Ok(mask)
    }

    /// Live blocks from a dense weight and a mask of the same shape, which need know nothing of blocks: every output group keeps the
    /// blocks in which the mask keeps the largest sum of squares. What does not fit is counted, not hidden.
    ///
    /// # Errors
    /// Weights or a mask of the wrong length.
    pub fn import(&self, oihw: &[f32], mask: &[bool]) -> Result<Imported, SparseError> {
        self.validate()?;
        check("weights", oihw.len(), self.dense_len())?;
        check("a mask", mask.len(), self.dense_len())?;
        let masked: Vec<f32> = oihw
            .iter()
            .zip(mask)
            .map(|(weight, on)| if *on { *weight } else { 0.0 })
            .collect();
        let energy = self.block_energies(&masked);
        // A block of zeros that the mask keeps comes before one that it does not.
        let on: Vec<f32> = mask.iter().map(|on| f32::from(u8::from(*on))).collect();
        let count = self.block_energies(&on);
        let largest = energy
            .iter()
            .flatten()
            .fold(0.0_f64, |most, one| most.max(*one));
        let least = (largest * 1e-30).max(f64::MIN_POSITIVE);
        let columns = self.choose(|group, column| {
            let at = self.candidate_index(group, column);
            energy[group as usize][at] + least * count[group as usize][at]
        });
        // Slots beyond what the mask keeps stay empty only if it keeps nothing there.
        let columns: Vec<u32> = (0..)
            .zip(columns)
            .map(|(block, column)| {
                let group = block / self.live;
                let at = self.candidate_index(group, column);
                if count[group as usize][at] > 0.0 {
                    column
                } else {
                    EMPTY
                }
            })
            .collect();
        let values = self.pack(&columns, &masked)?;
        let live = self.mask(&columns)?;
        let square = |weight: &f32| f64::from(*weight).powi(2);
        let total: f64 = masked.iter().map(square).sum();
        let held: f64 = values.iter().map(square).sum();
        let of = |test: fn(bool, bool) -> bool| {
            let pairs = mask.iter().zip(&live);
            pairs.filter(|(mask, live)| test(**mask, **live)).count()
        };
        Ok(Imported {
            kept: of(|mask, _| mask),
            lost: of(|mask, live| mask && !live),
            gained: of(|mask, live| !mask && live),
            lost_energy: if total > 0.0 {
                ((total - held) / total).max(0.0)
            } else {
                0.0
            },
            columns,
            values,
        })
    }

    /// Where a column stands among the candidates of its group.
    fn candidate_index(&self, output_group: u32, column: u32) -> usize {
        let [quad, y, x] = column_parts(column);
        let first = self
            .convolution
            .first_input_quad(output_group * self.block_quads);
        ((quad - first) * self.convolution.taps() + y * self.convolution.kernel[1] + x) as usize
    }

    /// The sum of squares in every block of every output group, in the order of the candidates.
    #[must_use]
    pub fn block_energies(&self, oihw: &[f32]) -> Vec<Vec<f64>> {
        let dense = Self {
            live: self.candidates(),
            ..*self
        };
        let columns: Vec<u32> = (0..dense.output_groups())
            .flat_map(|group| dense.candidate_columns(group))
            .collect();
        let mut energies = vec![0.0; columns.len()];
        dense.each_weight(&columns, |weight, at| {
            energies[at / dense.block_elements() as usize] += f64::from(oihw[weight]).powi(2);
        });
        energies
            .chunks(dense.live as usize)
            .map(<[f64]>::to_vec)
            .collect()
    }
}
