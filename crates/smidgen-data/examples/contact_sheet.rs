//! Writes a picture of the built-in data set: a row for each class, twelve pictures each.
//!
//! `cargo run --release -p smidgen-data --example contact_sheet -- sheet.png`

use std::error::Error;

use image::{Rgb, RgbImage};
use smidgen_data::{Dataset, Shapes, Split};

const COLUMNS: usize = 12;
const GAP: usize = 2;
const ZOOM: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("name the PNG file to write")?;
    let shapes = Shapes::new(Shapes::DEFAULT_SEED, Split::Train);
    let shape = shapes.image_shape();
    let (width, height) = (shape.width + GAP, shape.height + GAP);
    let mut sheet = RgbImage::from_pixel(
        (COLUMNS * width + GAP) as u32,
        (shapes.classes() * height + GAP) as u32,
        Rgb([255; 3]),
    );
    let mut picture = vec![0; shape.bytes()];
    for index in 0..shapes.classes() * COLUMNS {
        shapes.decode(index, &mut picture)?;
        let left = (index / shapes.classes()) * width + GAP;
        let top = (index % shapes.classes()) * height + GAP;
        for pixel in 0..shape.pixels() {
            let colour = Rgb([0, 1, 2].map(|channel| picture[channel * shape.pixels() + pixel]));
            let (row, column) = (pixel / shape.width, pixel % shape.width);
            sheet.put_pixel((left + column) as u32, (top + row) as u32, colour);
        }
    }
    let size = (sheet.width() * ZOOM, sheet.height() * ZOOM);
    image::imageops::resize(&sheet, size.0, size.1, image::imageops::FilterType::Nearest)
        .save(path)?;
    Ok(())
}
