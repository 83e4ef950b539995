//! The two gradients of a convolution as one operation, for kernels that compute both from one reading of the output gradient.

use crate::operation::{Operation, OperationKind};
use crate::program::Program;

impl Program {
    /// Where the weight gradient of a convolution stands directly before its input gradient and both could be one operation. The
    /// derivative that the input gradient is multiplied with, if any, has to be that of the weight gradient's input.
    #[must_use]
    pub fn gradient_pairs(&self) -> Vec<usize> {
        (self.operations.windows(2).enumerate())
            .filter(|(_, pair)| together(&pair[0], &pair[1]).is_some())
            .map(|(at, _)| at)
            .collect()
    }

    /// The program in which these pairs of [`gradient_pairs`](Self::gradient_pairs) are one operation each. What is no pair is left as it
    /// is. The input of such a convolution has to hold until its gradient is made.
    #[must_use]
    pub fn fused(&self, pairs: &[usize]) -> Self {
        let mut operations = Vec::with_capacity(self.operations.len());
        let mut at = 0;
        while let Some(operation) = self.operations.get(at) {
            let one = (self.operations.get(at + 1))
                .filter(|_| pairs.contains(&at))
                .and_then(|next| together(operation, next));
            at += 1 + usize::from(one.is_some());
            operations.push(one.unwrap_or_else(|| operation.clone()));
        }
        Self {
            operations,
            ..self.clone()
        }
    }
}

fn together(by_weight: &Operation, by_input: &Operation) -> Option<Operation> {
    let &OperationKind::ConvolutionWeightGradient {
        attributes,
        shape,
        input,
        coded,
        output_gradient,
        weight_gradient,
        bias_gradient,
    } = &by_weight.kind
    else {
        return None;
    };
    let &OperationKind::ConvolutionInputGradient {
        attributes: same_attributes,
        shape: same_shape,
        output_gradient: same_gradient,
        weight,
        input_gradient,
        accumulate,
        derivative,
    } = &by_input.kind
    else {
        return None;
    };
    let alike = by_weight.layer == by_input.layer
        && (attributes, shape, output_gradient) == (same_attributes, same_shape, same_gradient)
        && derivative.is_none_or(|derivative| derivative == input && coded.is_none());
    alike.then(|| Operation {
        kind: OperationKind::ConvolutionBackward {
            attributes,
            shape,
            input,
            coded,
            output_gradient,
            weight,
            weight_gradient,
            bias_gradient,
            input_gradient,
            accumulate,
            derivative: derivative.is_some(),
        },
        ..by_weight.clone()
    })
}

impl Operation {
    /// The weight gradient and the input gradient that one operation computes; `None` of any other.
    #[must_use]
    pub fn apart(&self) -> Option<[Self; 2]> {
        let OperationKind::ConvolutionBackward {
            attributes,
            shape,
            input,
            coded,
            output_gradient,
            weight,
            weight_gradient,
            bias_gradient,
            input_gradient,
            accumulate,
            derivative,
        } = self.kind
        else {
            return None;
        };
        let by_weight = OperationKind::ConvolutionWeightGradient {
            attributes,
            shape,
            input,
            coded,
            output_gradient,
            weight_gradient,
            bias_gradient,
        };
        let by_input = OperationKind::ConvolutionInputGradient {
            attributes,
            shape,
            output_gradient,
            weight,
            input_gradient,
            accumulate,
            derivative: derivative.then_some(input),
        };
        Some([by_weight, by_input].map(|kind| Self {
            kind,
            ..self.clone()
        }))
    }
}
