//! One picture: what is in it, and painting it.

use std::f32::consts::TAU;

use super::difficulty::{
    CLUTTER, CONTRAST, GRADIENT, LINE_WIDTH, LINES, NOISE, OVERHANG, RADIUS, SQUASH, STRIPES,
};
use super::figure::{Figure, Point, ShapeKind, segment};
use super::{SHAPE, SIZE};
use crate::random::Draws;

type Colour = [f32; 3];

/// Everything that a picture shows.
pub(super) struct Scene {
    background: Background,
    clutter: Vec<Stroke>,
    figure: Placed,
    lines: Vec<Stroke>,
    noise: f32,
}

impl Scene {
    pub(super) fn draw(kind: ShapeKind, draws: &mut Draws) -> Self {
        let background = Background::draw(draws);
        let colour = contrasting(&background.extremes(), draws);
        let clutter = (0..draws.below(CLUTTER + 1))
            .map(|_| Stroke::draw(draws, 5.0, (0.7, 1.8)))
            .collect();
        let figure = Placed::draw(kind, colour, draws);
        let lines = (0..draws.below(LINES + 1))
            .map(|_| Stroke::draw(draws, 30.0, (0.3, 0.6)))
            .collect();
        Self {
            background,
            clutter,
            figure,
            lines,
            noise: draws.between(0.0, NOISE),
        }
    }

    /// The picture's bytes, plane after plane; noise is drawn on the way.
    pub(super) fn paint(&self, draws: &mut Draws) -> Box<[u8]> {
        let mut bytes = vec![0; SHAPE.bytes()].into_boxed_slice();
        for pixel in 0..SHAPE.pixels() {
            let point = [(pixel % SIZE) as f32 + 0.5, (pixel / SIZE) as f32 + 0.5];
            let colour = self.colour_at(point);
            for (channel, value) in colour.into_iter().enumerate() {
                let noisy = value + self.noise * draws.bell();
                bytes[channel * SHAPE.pixels() + pixel] = (noisy * 255.0).round() as u8;
            }
        }
        bytes
    }

    fn colour_at(&self, point: Point) -> Colour {
        let mut colour = self.background.colour_at(point);
        for stroke in &self.clutter {
            stroke.cover(&mut colour, point);
        }
        cover(&mut colour, self.figure.colour, self.figure.distance(point));
        for stroke in &self.lines {
            stroke.cover(&mut colour, point);
        }
        colour
    }
}

/// A gradient with stripes.
struct Background {
    middle: Colour,
    /// Added at the end of the gradient, taken away at its start.
    change: Colour,
    direction: Point,
    stripe_amplitude: f32,
    /// Phase per pixel, across and down.
    stripe_waves: Point,
    stripe_phase: f32,
}

impl Background {
    fn draw(draws: &mut Draws) -> Self {
        let middle = random_colour(draws);
        let change = std::array::from_fn(|_| draws.between(-GRADIENT, GRADIENT));
        let [direction, stripe_direction] = [0, 1].map(|_| {
            let (sine, cosine) = (TAU * draws.unit()).sin_cos();
            [cosine, sine]
        });
        let wave = TAU / draws.between(3.0, 12.0);
        Self {
            middle,
            change,
            direction,
            stripe_amplitude: draws.between(0.0, STRIPES),
            stripe_waves: stripe_direction.map(|part| part * wave),
            stripe_phase: TAU * draws.unit(),
        }
    }

    /// The colours at both ends of the gradient.
    fn extremes(&self) -> [Colour; 2] {
        [-1.0, 1.0].map(|position: f32| self.along_gradient(position))
    }

    fn along_gradient(&self, position: f32) -> Colour {
        std::array::from_fn(|channel| {
            (self.middle[channel] + position * self.change[channel]).clamp(0.0, 1.0)
        })
    }

    fn colour_at(&self, point: Point) -> Colour {
        let half = SIZE as f32 / 2.0;
        let centred = point.map(|part| part / half - 1.0);
        let position = dot(centred, self.direction);
        let stripe =
            self.stripe_amplitude * (dot(point, self.stripe_waves) + self.stripe_phase).sin();
        self.along_gradient(position).map(|value| value + stripe)
    }
}

/// A short thick line with round ends, or a long thin one.
struct Stroke {
    colour: Colour,
    start: Point,
    end: Point,
    half_width: f32,
}

impl Stroke {
    fn draw(draws: &mut Draws, longest: f32, half_width: (f32, f32)) -> Self {
        let start = [0, 1].map(|_| draws.between(0.0, SIZE as f32));
        let (sine, cosine) = (TAU * draws.unit()).sin_cos();
        let length = draws.between(0.0, longest);
        Self {
            colour: random_colour(draws),
            start,
            end: [start[0] + length * cosine, start[1] + length * sine],
            half_width: draws.between(half_width.0, half_width.1),
        }
    }

    fn cover(&self, colour: &mut Colour, point: Point) {
        let distance = segment(self.start, self.end, point) - self.half_width;
        cover(colour, self.colour, distance);
    }
}

/// The shape at its place in the picture.
struct Placed {
    figure: Figure,
    colour: Colour,
    centre: Point,
    radius: f32,
    squash: f32,
    /// Cosine and sine.
    rotation: Point,
}

impl Placed {
    fn draw(kind: ShapeKind, colour: Colour, draws: &mut Draws) -> Self {
        let radius = draws.between(RADIUS.0, RADIUS.1);
        let margin = radius - OVERHANG;
        let centre = [0, 1].map(|_| draws.between(margin, SIZE as f32 - margin));
        let (sine, cosine) = (TAU * draws.unit()).sin_cos();
        Self {
            figure: Figure::new(kind, draws.between(LINE_WIDTH.0, LINE_WIDTH.1)),
            colour,
            centre,
            radius,
            squash: draws.between(SQUASH.0, SQUASH.1),
            rotation: [cosine, sine],
        }
    }

    /// The distance in pixels from `point` to the shape, negative inside.
    fn distance(&self, point: Point) -> f32 {
        let offset = [point[0] - self.centre[0], point[1] - self.centre[1]];
        let [cosine, sine] = self.rotation;
        let upright = [dot(offset, [cosine, sine]), dot(offset, [-sine, cosine])];
        let unit = [
            upright[0] / (self.radius * self.squash),
            upright[1] / self.radius,
        ];
        self.figure.distance(unit) * self.radius
    }
}

/// Lays `paint` over `colour` as far as a rim at `distance` covers the pixel.
fn cover(colour: &mut Colour, paint: Colour, distance: f32) {
    let covered = (0.5 - distance).clamp(0.0, 1.0);
    for (value, paint) in colour.iter_mut().zip(paint) {
        *value += covered * (paint - *value);
    }
}

/// A random colour that is far from all of `others`.
fn contrasting(others: &[Colour], draws: &mut Draws) -> Colour {
    // Most draws are good; should all fail, black or white is far enough from any two similar colours.
    for _ in 0..50 {
        let colour = random_colour(draws);
        if others
            .iter()
            .all(|&other| colour_distance(colour, other) >= CONTRAST)
        {
            return colour;
        }
    }
    let brightness: f32 = others.iter().flatten().sum::<f32>() / (others.len() * 3) as f32;
    [if brightness > 0.5 { 0.0 } else { 1.0 }; 3]
}

fn random_colour(draws: &mut Draws) -> Colour {
    std::array::from_fn(|_| draws.unit())
}

fn colour_distance(left: Colour, right: Colour) -> f32 {
    let squares = left
        .iter()
        .zip(right)
        .map(|(left, right)| (left - right).powi(2));
    squares.sum::<f32>().sqrt()
}

fn dot(left: Point, right: Point) -> f32 {
    left[0] * right[0] + left[1] * right[1]
}
