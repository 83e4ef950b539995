//! The ten kinds of shape, each as a signed distance: negative inside, positive outside.

use std::f32::consts::{FRAC_PI_2, TAU};

/// A point or a vector in the plane.
pub(super) type Point = [f32; 2];

/// What a picture of [`Shapes`](super::Shapes) can show; the order is that of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeKind {
    /// A filled circle.
    Disc,
    /// The outline of a circle.
    Ring,
    /// A filled square.
    Square,
    /// The outline of a square.
    Frame,
    /// A filled triangle.
    Triangle,
    /// Two beams crossing at right angles.
    Cross,
    /// A star of five points.
    Star,
    /// A disc with a bite taken by another.
    Crescent,
    /// Three parallel beams.
    Bars,
    /// The five dark fields of a 3 x 3 chequerboard.
    Checker,
}

impl ShapeKind {
    /// All kinds, in the order of their labels.
    pub const ALL: [Self; 10] = [
        Self::Disc,
        Self::Ring,
        Self::Square,
        Self::Frame,
        Self::Triangle,
        Self::Cross,
        Self::Star,
        Self::Crescent,
        Self::Bars,
        Self::Checker,
    ];
}

/// A shape of a kind within the unit circle, upright.
pub(super) struct Figure {
    kind: ShapeKind,
    /// A factor for the width of whatever lines the kind has.
    line: f32,
    corners: Vec<Point>,
}

impl Figure {
    pub(super) fn new(kind: ShapeKind, line: f32) -> Self {
        let corners = match kind {
            ShapeKind::Triangle => ring_of_corners(3, |_| 1.0),
            ShapeKind::Star => {
                ring_of_corners(10, |corner| if corner % 2 == 0 { 1.0 } else { 0.42 * line })
            }
            _ => Vec::new(),
        };
        Self {
            kind,
            line,
            corners,
        }
    }

    /// The distance from `point` to the rim, negative inside.
    pub(super) fn distance(&self, point: Point) -> f32 {
        let [x, y] = point;
        match self.kind {
            ShapeKind::Disc => x.hypot(y) - 0.9,
            ShapeKind::Ring => (x.hypot(y) - 0.75).abs() - 0.17 * self.line,
            ShapeKind::Square => beam(point, 0.75, 0.75),
            ShapeKind::Frame => beam(point, 0.65, 0.65).abs() - 0.16 * self.line,
            ShapeKind::Triangle | ShapeKind::Star => polygon(&self.corners, point),
            ShapeKind::Cross => {
                let width = 0.27 * self.line;
                beam(point, 0.95, width).min(beam(point, width, 0.95))
            }
            ShapeKind::Crescent => {
                let bite = (x - 0.45).hypot(y) - 0.72 * (2.0 - self.line);
                (x.hypot(y) - 0.95).max(-bite)
            }
            ShapeKind::Bars => [-0.65f32, 0.0, 0.65]
                .iter()
                .map(|middle| beam([x - middle, y], 0.19 * self.line, 0.8))
                .fold(f32::INFINITY, f32::min),
            ShapeKind::Checker => {
                let field = 0.27;
                let corner = beam([x.abs() - 2.0 * field, y.abs() - 2.0 * field], field, field);
                corner.min(beam(point, field, field))
            }
        }
    }
}

/// `count` corners around the origin, the first at the top, corner `i` at distance `radius(i)`.
fn ring_of_corners(count: usize, radius: impl Fn(usize) -> f32) -> Vec<Point> {
    (0..count)
        .map(|corner| {
            let (sine, cosine) = (TAU * corner as f32 / count as f32 - FRAC_PI_2).sin_cos();
            [radius(corner) * cosine, radius(corner) * sine]
        })
        .collect()
}

/// The distance to a rectangle around the origin, given half its width and height.
fn beam([x, y]: Point, half_width: f32, half_height: f32) -> f32 {
    let [x, y] = [x.abs() - half_width, y.abs() - half_height];
    x.max(0.0).hypot(y.max(0.0)) + x.max(y).min(0.0)
}

/// The distance to a polygon: that to its nearest edge, negative where a ray crosses its rim an odd number of times.
fn polygon(corners: &[Point], point: Point) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    let mut start = corners[corners.len() - 1];
    for &end in corners {
        nearest = nearest.min(segment(start, end, point));
        let [left, right] = [start, end].map(|corner| [corner[0] - point[0], corner[1] - point[1]]);
        // The ray goes towards greater x; an edge counts with its lower end only.
        if (left[1] > 0.0) != (right[1] > 0.0) {
            let crossing = left[0] - left[1] * (right[0] - left[0]) / (right[1] - left[1]);
            inside ^= crossing > 0.0;
        }
        start = end;
    }
    if inside { -nearest } else { nearest }
}

/// The distance to the straight line from `start` to `end`.
pub(super) fn segment(start: Point, end: Point, point: Point) -> f32 {
    let along = [end[0] - start[0], end[1] - start[1]];
    let offset = [point[0] - start[0], point[1] - start[1]];
    let length_squared = along[0] * along[0] + along[1] * along[1];
    let position = (offset[0] * along[0] + offset[1] * along[1]) / length_squared.max(1e-12);
    let position = position.clamp(0.0, 1.0);
    (offset[0] - position * along[0]).hypot(offset[1] - position * along[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        let distance = |kind, point| Figure::new(kind, 1.0).distance(point);
        let close = |value: f32, expected: f32| assert!((value - expected).abs() < 1e-5, "{value}");
        close(distance(ShapeKind::Disc, [0.0, 0.0]), -0.9);
        close(distance(ShapeKind::Square, [0.75 + 3.0, 0.75 + 4.0]), 5.0);
        close(distance(ShapeKind::Ring, [0.75, 0.0]), -0.17);
        // The inscribed circle of an equilateral triangle has half the radius of the circumscribed one.
        close(distance(ShapeKind::Triangle, [0.0, 0.0]), -0.5);
        close(distance(ShapeKind::Triangle, [0.0, -1.5]), 0.5);
        close(distance(ShapeKind::Star, [0.0, -1.0]), 0.0);
    }

    #[test]
    fn all_kinds_have_an_inside_and_stay_in_the_unit_circle() {
        for kind in ShapeKind::ALL {
            for line in [
                super::super::difficulty::LINE_WIDTH.0,
                super::super::difficulty::LINE_WIDTH.1,
            ] {
                let figure = Figure::new(kind, line);
                let mut inside = 0;
                for row in -30..=30 {
                    for column in -30..=30 {
                        let point = [column as f32 / 20.0, row as f32 / 20.0];
                        if figure.distance(point) < 0.0 {
                            inside += 1;
                            assert!(point[0].hypot(point[1]) < 1.2, "{kind:?} at {point:?}");
                        }
                    }
                }
                // Of the 1257 points of the unit circle.
                assert!((150..1200).contains(&inside), "{kind:?}: {inside}");
            }
        }
    }
}
