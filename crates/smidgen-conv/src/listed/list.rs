//! Lists of pixels, made on the device.

use super::shape::{blocks, entry_bytes, mark_bytes};
use super::{ListedError, ListedShape};
use crate::passes::sized;
use smidgen_gpu::{Launch, Region, folded_grid, params};

/// Pixels, as marks and as a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelList {
    /// A bit a pixel, 32 a word, and behind them counts.
    pub marks: Region,
    /// How many pixels are listed, how many were marked, and the listed ones in ascending order; all ones from the end of the list on.
    pub entries: Region,
}

/// What [`list_pixels`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPixels {
    /// A map of one channel as large as the output, `shape.gate_bytes()`: pixels above zero are wanted.
    pub gate: Region,
    /// `shape.mark_bytes()` and `shape.entry_bytes()`.
    pub list: PixelList,
}

/// What [`list_reached`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListReached {
    /// The listed output pixels.
    pub list: PixelList,
    /// The input pixels that they read: `shape.reached_mark_bytes()` and `shape.reached_entry_bytes()`.
    pub reached: PixelList,
}

params! {
    /// Uniform of `conv/list_mark.wgsl`.
    pub(crate) struct MarkParams {
        pixels: u32, blocks: u32,
        height: u32, width: u32, listed_height: u32, listed_width: u32,
        taps_y: u32, taps_x: u32, stride_y: u32, stride_x: u32, dilation_y: u32, dilation_x: u32, padding_y: u32, padding_x: u32,
    }
}

params! {
    /// Uniform of `conv/list_pixels.wgsl`.
    pub(crate) struct ListParams { blocks: u32, capacity: u32 }
}

impl PixelList {
    /// Of `pixels`, at most `capacity` listed.
    pub(super) fn sized(self, pixels: u32, capacity: u32) -> Result<Self, ListedError> {
        Ok(Self {
            marks: sized("marks", self.marks, mark_bytes(pixels))?,
            entries: sized("entries", self.entries, entry_bytes(capacity))?,
        })
    }
}

/// The launches that list the output pixels a gate wants.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn list_pixels(shape: &ListedShape, regions: &ListPixels) -> Result<Vec<Launch>, ListedError> {
    shape.validate()?;
    let pixels = shape.convolution.output_plane();
    let gate = sized("gate", regions.gate, shape.gate_bytes())?;
    let list = regions.list.sized(pixels, shape.capacity)?;
    Ok(launches(shape, gate, false, list, pixels, shape.capacity))
}

/// The launches that list the input pixels which listed output pixels read: those of which the input gradient is computed.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn list_reached(
    shape: &ListedShape,
    regions: &ListReached,
) -> Result<Vec<Launch>, ListedError> {
    shape.validate()?;
    let (pixels, most) = (shape.convolution.input_plane(), shape.reached());
    let outputs = shape.convolution.output_plane();
    let marks = regions.list.sized(outputs, shape.capacity)?.marks;
    let reached = regions.reached.sized(pixels, most)?;
    Ok(launches(shape, marks, true, reached, pixels, most))
}

fn launches(
    shape: &ListedShape,
    from: Region,
    reached: bool,
    list: PixelList,
    pixels: u32,
    capacity: u32,
) -> Vec<Launch> {
    let convolution = &shape.convolution;
    let blocks = blocks(pixels);
    let mark = MarkParams {
        pixels,
        blocks,
        height: convolution.input_height,
        width: convolution.input_width,
        listed_height: convolution.output_height(),
        listed_width: convolution.output_width(),
        taps_y: convolution.kernel[0],
        taps_x: convolution.kernel[1],
        stride_y: convolution.stride[0],
        stride_x: convolution.stride[1],
        dilation_y: convolution.dilation[0],
        dilation_x: convolution.dilation[1],
        padding_y: convolution.padding[0],
        padding_x: convolution.padding[1],
    };
    let flags = reached.then(|| ("REACHED", String::new()));
    let grid = folded_grid(u64::from(blocks));
    vec![
        Launch::new(
            "conv/list_mark.wgsl",
            flags.as_slice(),
            &mark,
            vec![from, list.marks],
            grid,
        ),
        Launch::new(
            "conv/list_pixels.wgsl",
            &[],
            &ListParams { blocks, capacity },
            vec![list.marks, list.entries],
            grid,
        ),
    ]
}
