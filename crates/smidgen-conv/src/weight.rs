use crate::{ConvolutionShape, ShapeError};

/// Where each element of PyTorch's `[output, input / groups, kernel_y, kernel_x]` stands in the packed weight.
fn positions(shape: &ConvolutionShape) -> impl Iterator<Item = usize> + '_ {
    let shape = *shape;
    let (taps, slots) = (shape.taps(), shape.slots());
    (0..shape.output_channels).flat_map(move |output| {
        let first = shape.first_input_quad(output / 4);
        let group = output / shape.group_outputs();
        (0..shape.group_inputs()).flat_map(move |input| {
            let input = group * shape.group_inputs() + input;
            (0..taps).map(move |tap| {
                if shape.is_depthwise() {
                    (((output / 4) * taps + tap) * 4 + output % 4) as usize
                } else {
                    let block = ((output / 4) * taps + tap) * slots + input / 4 - first;
                    (block * 16 + input % 4 * 4 + output % 4) as usize
                }
            })
        })
    })
}

fn check(given: usize, expected: u64) -> Result<(), ShapeError> {
    let expected = usize::try_from(expected).unwrap_or(usize::MAX);
    if given == expected {
        Ok(())
    } else {
        Err(ShapeError::WeightLength { given, expected })
    }
}

fn plain_length(shape: &ConvolutionShape) -> u64 {
    u64::from(shape.output_channels) * u64::from(shape.group_inputs()) * u64::from(shape.taps())
}

/// Stacks of blocks from PyTorch's `[output, input / groups, kernel_y, kernel_x]`.
///
/// Element of a block: `((output_quad * taps + tap) * slots + slot) * 16 + input_lane * 4 + output_lane`, where slot `s` of an output
/// quad is input quad `shape.first_input_quad(output_quad) + s`. Depthwise: `(quad * taps + tap) * 4 + lane`. All other elements
/// are zero.
///
/// # Errors
/// A shape that is not valid, or the wrong number of weights.
pub fn pack_weight(shape: &ConvolutionShape, oihw: &[f32]) -> Result<Vec<f32>, ShapeError> {
    shape.validate()?;
    check(oihw.len(), plain_length(shape))?;
    let mut blocks = vec![0.0; shape.weight_vectors() as usize * 4];
    for (value, position) in oihw.iter().zip(positions(shape)) {
        blocks[position] = *value;
    }
    Ok(blocks)
}

/// PyTorch's `[output, input / groups, kernel_y, kernel_x]` from stacks of blocks, for weights and their gradients.
///
/// # Errors
/// A shape that is not valid, or the wrong number of elements.
pub fn unpack_weight(shape: &ConvolutionShape, blocks: &[f32]) -> Result<Vec<f32>, ShapeError> {
    shape.validate()?;
    check(blocks.len(), u64::from(shape.weight_vectors()) * 4)?;
    Ok(positions(shape).map(|position| blocks[position]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_back_is_the_identity_and_fills_the_rest_with_zeros() {
        for (input, output, groups) in [(5, 7, 1), (12, 12, 4), (12, 12, 12), (6, 12, 6), (9, 6, 3)]
        {
            let shape = ConvolutionShape::new(1, [input, 4, 4], output, [2, 3]).with_groups(groups);
            let plain: Vec<f32> = (1..=plain_length(&shape))
                .map(|value| value as f32)
                .collect();
            let blocks = pack_weight(&shape, &plain).unwrap();
            assert_eq!(blocks.len() as u64 * 4, shape.weight_bytes());
            assert_eq!(
                blocks.iter().filter(|value| **value != 0.0).count(),
                plain.len()
            );
            assert_eq!(unpack_weight(&shape, &blocks).unwrap(), plain);
        }
    }

    #[test]
    fn a_dense_element_stands_where_the_layout_says() {
        let shape = ConvolutionShape::new(1, [8, 4, 4], 8, [3, 3]);
        let plain: Vec<f32> = (0..8 * 8 * 9).map(|value| value as f32).collect();
        let blocks = pack_weight(&shape, &plain).unwrap();
        let (output, input, tap) = (6, 3, 5);
        assert_eq!(
            blocks[((9 + tap) * 2) * 16 + 3 * 4 + 2],
            plain[(output * 8 + input) * 9 + tap]
        );
    }

    #[test]
    fn the_wrong_number_of_weights_is_refused() {
        let shape = ConvolutionShape::new(1, [8, 4, 4], 8, [3, 3]);
        assert_eq!(
            pack_weight(&shape, &[0.0; 7]),
            Err(ShapeError::WeightLength {
                given: 7,
                expected: 576
            })
        );
        assert!(unpack_weight(&shape, &[0.0; 7]).is_err());
    }
}
