//! Between NCHW and planes of quads: channel `c`, pixel `p = (n*H + y)*W + x` stands at `((c/4)*P + p)*4 + c%4`, `P = N*H*W`.

/// Planes of quads from NCHW; the channels that pad the last quad are zero.
#[must_use]
pub fn to_quads(nchw: &[f32], batch: usize, channels: usize, pixels: usize) -> Vec<f32> {
    assert_eq!(nchw.len(), batch * channels * pixels);
    let all = batch * pixels;
    let mut quads = vec![0.0; channels.div_ceil(4) * all * 4];
    for image in 0..batch {
        for channel in 0..channels {
            for pixel in 0..pixels {
                quads[(channel / 4 * all + image * pixels + pixel) * 4 + channel % 4] =
                    nchw[(image * channels + channel) * pixels + pixel];
            }
        }
    }
    quads
}

/// NCHW from planes of quads.
///
/// # Panics
/// If a padding channel is not zero: kernels keep them zero.
#[must_use]
pub fn from_quads(quads: &[f32], batch: usize, channels: usize, pixels: usize) -> Vec<f32> {
    let all = batch * pixels;
    assert_eq!(quads.len(), channels.div_ceil(4) * all * 4);
    let mut nchw = vec![0.0; batch * channels * pixels];
    for padded in 0..channels.div_ceil(4) * 4 {
        for image in 0..batch {
            for pixel in 0..pixels {
                let value = quads[(padded / 4 * all + image * pixels + pixel) * 4 + padded % 4];
                if padded < channels {
                    nchw[(image * channels + padded) * pixels + pixel] = value;
                } else {
                    assert!(value == 0.0, "padding channel {padded} holds {value}");
                }
            }
        }
    }
    nchw
}

/// A vector of one value a channel, padded with zeros to a multiple of four.
#[must_use]
pub fn pad_channels(values: &[f32]) -> Vec<f32> {
    let mut padded = values.to_vec();
    padded.resize(values.len().next_multiple_of(4), 0.0);
    padded
}

/// The same values in double precision.
#[must_use]
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quads_and_back_is_the_identity() {
        let nchw: Vec<f32> = (0..2 * 5 * 6).map(|value| value as f32).collect();
        let quads = to_quads(&nchw, 2, 5, 6);
        assert_eq!(quads.len(), 2 * 12 * 4);
        assert_eq!(quads[4], 1.0);
        assert_eq!(from_quads(&quads, 2, 5, 6), nchw);
    }
}
