//! One axis of a gather: which source positions and taps make a target position.

/// Target position `t` (of `targets`) is the sum over `tap < taps` of weight tap `tap_first + tap * tap_step` times source position
/// `t * stride + tap * dilation + origin`, where that is inside; it is stored at `t * scale + offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) source: u32,
    pub(crate) target: u32,
    pub(crate) targets: u32,
    pub(crate) scale: u32,
    pub(crate) offset: u32,
    pub(crate) stride: u32,
    pub(crate) dilation: u32,
    pub(crate) origin: i32,
    pub(crate) taps: u32,
    pub(crate) tap_first: i32,
    pub(crate) tap_step: i32,
}

/// One axis of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) input: u32,
    pub(crate) output: u32,
    pub(crate) kernel: u32,
    pub(crate) stride: u32,
    pub(crate) padding: u32,
    pub(crate) dilation: u32,
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

impl Axis {
    pub(crate) fn forward(extent: Extent) -> Self {
        Self {
            source: extent.input,
            target: extent.output,
            targets: extent.output,
            scale: 1,
            offset: 0,
            stride: extent.stride,
            dilation: extent.dilation,
            origin: -(extent.padding as i32),
            taps: extent.kernel,
            tap_first: 0,
            tap_step: 1,
        }
    }

    /// The input gradient: one gather of stride 1 for every residue of the input position modulo the stride, with just the taps that reach
    /// that residue. Residues beyond the input are left out; a residue that no tap reaches has no taps.
    pub(crate) fn input_gradient(extent: Extent) -> Vec<Self> {
        let (stride, dilation) = (extent.stride, extent.dilation);
        let common = greatest_common_divisor(stride, dilation);
        (0..stride.min(extent.input))
            .map(|residue| {
                // Input position x meets output position (x + padding - tap * dilation) / stride.
                let ahead = |tap: u32| {
                    i64::from(residue) + i64::from(extent.padding)
                        - i64::from(tap) * i64::from(dilation)
                };
                let first =
                    (0..extent.kernel.min(stride)).find(|tap| ahead(*tap) % i64::from(stride) == 0);
                let step = stride / common;
                let taps = first.map_or(0, |first| (extent.kernel - first).div_ceil(step));
                // The last tap comes first, so that source positions ascend.
                let last = first.unwrap_or(0) + step * taps.saturating_sub(1);
                Self {
                    source: extent.output,
                    target: extent.input,
                    targets: (extent.input - residue).div_ceil(stride),
                    scale: stride,
                    offset: residue,
                    stride: 1,
                    dilation: dilation / common,
                    origin: (ahead(last).div_euclid(i64::from(stride))) as i32,
                    taps,
                    tap_first: last as i32,
                    tap_step: -(step as i32),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_residues_hold_every_pair_of_input_and_output_once() {
        for (input, kernel, stride, padding, dilation) in [
            (9, 3, 1, 1, 1),
            (9, 3, 2, 1, 1),
            (8, 1, 2, 0, 1),
            (11, 3, 2, 2, 2),
            (13, 5, 3, 0, 2),
            (5, 7, 2, 3, 1),
            (7, 2, 4, 9, 1),
        ] {
            let output = (input + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
            let extent = Extent {
                input,
                output,
                kernel,
                stride,
                padding,
                dilation,
            };
            let mut expected = Vec::new();
            for to in 0..output {
                for tap in 0..kernel {
                    let at = i64::from(to * stride + tap * dilation) - i64::from(padding);
                    if (0..i64::from(input)).contains(&at) {
                        expected.push((at, i64::from(to), i64::from(tap)));
                    }
                }
            }
            let mut found = Vec::new();
            for axis in Axis::input_gradient(extent) {
                for target in 0..axis.targets {
                    for tap in 0..axis.taps {
                        let source = i64::from(target * axis.stride + tap * axis.dilation)
                            + i64::from(axis.origin);
                        if (0..i64::from(axis.source)).contains(&source) {
                            let weight_tap = i64::from(axis.tap_first)
                                + i64::from(tap) * i64::from(axis.tap_step);
                            found.push((
                                i64::from(target * axis.scale + axis.offset),
                                source,
                                weight_tap,
                            ));
                        }
                    }
                }
            }
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}
