// Sizes and index arithmetic of pooling windows: output y covers input rows `STRIDE_ROWS * y - padding_rows + tap`,
// 0 <= tap < KERNEL_ROWS, and likewise for columns. Kernel and stride are constants, so that loops over a window unroll.

struct Params {
    input_pixels: u32,
    input_height: u32,
    input_width: u32,
    output_pixels: u32,
    output_height: u32,
    output_width: u32,
    padding_rows: u32,
    padding_columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// Windows that may cover one input row or column.
const COVER_ROWS: u32 = (KERNEL_ROWS + STRIDE_ROWS - 1u) / STRIDE_ROWS;
const COVER_COLUMNS: u32 = (KERNEL_COLUMNS + STRIDE_COLUMNS - 1u) / STRIDE_COLUMNS;

struct Place {
    image: u32,
    y: u32,
    x: u32,
}

// value / divisor, without an integer division, which many devices lack. Exact: the host keeps value and divisor up to 2^24
// (exact as f32) and the quotient below 2^20, where the estimate is off by less than one.
fn quotient(value: u32, divisor: u32) -> u32 {
    let estimate = u32(f32(value) / f32(divisor));
    let remainder = i32(value) - i32(estimate * divisor);
    return select(select(estimate, estimate + 1u, remainder >= i32(divisor)), estimate - 1u, remainder < 0);
}

// Where a pixel of a map of this size stands.
fn place_of(pixel: u32, height: u32, width: u32) -> Place {
    let image = quotient(pixel, height * width);
    let within = pixel - image * height * width;
    let y = quotient(within, width);
    return Place(image, y, within - y * width);
}

// The taps, from x up to before y, of a window that starts at `start` (padding counted) and fall inside an input of `size`.
fn taps_inside(start: u32, kernel: u32, size: u32, padding: u32) -> vec2<u32> {
    return vec2<u32>(max(padding, start) - start, min(kernel, size + padding - start));
}

fn rows_inside(output_y: u32) -> vec2<u32> {
    return taps_inside(output_y * STRIDE_ROWS, KERNEL_ROWS, params.input_height, params.padding_rows);
}

fn columns_inside(output_x: u32) -> vec2<u32> {
    return taps_inside(output_x * STRIDE_COLUMNS, KERNEL_COLUMNS, params.input_width, params.padding_columns);
}

// What a window's average is divided by.
fn divisor_of(rows: vec2<u32>, columns: vec2<u32>) -> f32 {
#ifdef EXCLUDE_PADDING
    return f32((rows.y - rows.x) * (columns.y - columns.x));
#else
    return f32(KERNEL_ROWS * KERNEL_COLUMNS);
#endif
}
