use serde::{Deserialize, Serialize};
use smidgen_conv::{ConvolutionShape, Pass, Variant};
use std::collections::BTreeMap;
use std::fmt;

/// A pass of an operator with its sizes: what a variant is chosen for. Its text is the same from version to version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ShapeClass {
    pub(crate) pass: Pass,
    pub(crate) shape: ConvolutionShape,
}

impl fmt::Display for ShapeClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.pass, Sizes(&self.shape))
    }
}

/// The two gradients of a shape, where one kernel computes both: what such variants are measured for. Its text is as that of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BothGradients(pub(crate) ConvolutionShape);

impl fmt::Display for BothGradients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "both gradients {}", Sizes(&self.0))
    }
}

struct Sizes<'s>(&'s ConvolutionShape);

impl fmt::Display for Sizes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = self.0;
        write!(
            formatter,
            "{}x{}x{}x{} to {}, {}x{}",
            shape.batch,
            shape.input_channels,
            shape.input_height,
            shape.input_width,
            shape.output_channels,
            shape.kernel[0],
            shape.kernel[1],
        )?;
        for (name, pair, usual) in [
            ("stride", shape.stride, 1),
            ("padding", shape.padding, 0),
            ("dilation", shape.dilation, 1),
        ] {
            if pair != [usual; 2] {
                write!(formatter, ", {name} {}x{}", pair[0], pair[1])?;
            }
        }
        if shape.groups > 1 {
            write!(formatter, ", {} groups", shape.groups)?;
        }
        Ok(())
    }
}

/// Which variant computes each pass of each shape: `forward 32x16x32x32 to 16, 3x3, padding 1x1` by `subgroup-8 4x4`. Can be written
/// down and given to another session, which then computes the same bits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Choices(BTreeMap<String, Variant>);

impl Choices {
    /// The variant of a class; `None` leaves it to the rule of the device's class.
    pub(crate) fn get(&self, class: &ShapeClass) -> Option<Variant> {
        self.0.get(&class.to_string()).copied()
    }

    pub(crate) fn set(&mut self, class: &ShapeClass, variant: Variant) {
        self.0.insert(class.to_string(), variant);
    }

    /// Each pass with its sizes, and the variant that computes it, both as text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, String)> {
        self.0
            .iter()
            .map(|(class, variant)| (class.as_str(), variant.to_string()))
    }
}

/// Seconds of variants, as they were measured on one device with one set of shaders.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Measurements(BTreeMap<String, BTreeMap<String, f64>>);

/// A variant must beat the default by this factor to be taken in its place: less may be noise, and the default is the same everywhere.
pub(super) const WORTH_CHANGING: f64 = 0.97;

impl Measurements {
    /// `class` is a [`ShapeClass`] or [`BothGradients`], here and below.
    pub(crate) fn note(&mut self, class: &impl fmt::Display, variant: Variant, seconds: f64) {
        let times = self.0.entry(class.to_string()).or_default();
        times.insert(variant.to_string(), seconds);
    }

    /// What a variant took, if it was measured.
    pub(crate) fn seconds(&self, class: &impl fmt::Display, variant: &Variant) -> Option<f64> {
        let times = self.0.get(&class.to_string())?;
        times.get(&variant.to_string()).copied()
    }

    /// Takes over what the other has measured.
    pub(crate) fn merge(&mut self, other: Self) {
        for (class, times) in other.0 {
            self.0.entry(class).or_default().extend(times);
        }
    }

    /// Notes the time of an operation that is computed so.
    pub(super) fn note_operation(&mut self, (operation, variant): &(String, String), seconds: f64) {
        let times = self.0.entry(operation.clone()).or_default();
        times.insert(variant.clone(), seconds);
    }

    /// The time of an operation that is computed so.
    pub(super) fn of_operation(&self, (operation, variant): &(String, String)) -> Option<f64> {
        self.0.get(operation)?.get(variant).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every candidate was measured.
    pub(crate) fn knows(&self, class: &impl fmt::Display, candidates: &[Variant]) -> bool {
        let times = self.0.get(&class.to_string());
        times.is_some_and(|times| {
            candidates
                .iter()
                .all(|variant| times.contains_key(&variant.to_string()))
        })
    }

    /// The fastest of the candidates, or the first (the default) where not all were measured or nothing beats it by enough.
    pub(crate) fn fastest(&self, class: &ShapeClass, candidates: &[Variant]) -> Option<Variant> {
        let default = *candidates.first()?;
        let Some(times) = self.0.get(&class.to_string()) else {
            return Some(default);
        };
        let time = |variant: &Variant| times.get(&variant.to_string()).copied();
        let (Some(default_time), true) = (time(&default), self.knows(class, candidates)) else {
            return Some(default);
        };
        let best = candidates
            .iter()
            .filter_map(|variant| Some((*variant, time(variant)?)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        Some(match best {
            Some((variant, seconds)) if seconds < default_time * WORTH_CHANGING => variant,
            _ => default,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> ShapeClass {
        ShapeClass {
            pass: Pass::InputGradient,
            shape: ConvolutionShape::new(32, [16, 32, 31], 24, [3, 1]).with_padding(1),
        }
    }

    fn variants() -> [Variant; 3] {
        ["direct 4x1", "direct 4x2", "direct 8x1"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn a_class_is_named_by_all_that_tells_it_apart() {
        let text = "input gradient 32x16x32x31 to 24, 3x1, padding 1x1";
        assert_eq!(class().to_string(), text);
        let mut names = std::collections::HashSet::from([text.to_owned()]);
        let plain = class().shape;
        for shape in [
            ConvolutionShape {
                stride: [1, 2],
                ..plain
            },
            ConvolutionShape {
                dilation: [2, 1],
                ..plain
            },
            ConvolutionShape {
                padding: [0, 0],
                ..plain
            },
            ConvolutionShape { groups: 8, ..plain },
            ConvolutionShape { batch: 1, ..plain },
        ] {
            assert!(names.insert(ShapeClass { shape, ..class() }.to_string()));
        }
        assert!(
            names.insert(
                ShapeClass {
                    pass: Pass::Forward,
                    ..class()
                }
                .to_string()
            )
        );
    }

    #[test]
    fn the_fastest_is_taken_where_it_is_worth_it() {
        let [default, slower, faster] = variants();
        let mut measured = Measurements::default();
        let choose = |measured: &Measurements| measured.fastest(&class(), &variants()).unwrap();
        assert_eq!(choose(&measured), default);
        measured.note(&class(), default, 1.0);
        measured.note(&class(), slower, 2.0);
        // Not all were measured.
        assert!(!measured.knows(&class(), &variants()));
        assert_eq!(choose(&measured), default);
        measured.note(&class(), faster, 0.99);
        assert_eq!(choose(&measured), default);
        measured.note(&class(), faster, 0.5);
        assert_eq!(choose(&measured), faster);
        // Where less memory leaves fewer candidates, the best of these.
        assert_eq!(
            measured.fastest(&class(), &[default, slower]),
            Some(default)
        );
        assert_eq!(measured.fastest(&class(), &[]), None);
    }

    #[test]
    fn choices_are_written_down_and_read_again() {
        let mut choices = Choices::default();
        assert_eq!(choices.get(&class()), None);
        choices.set(&class(), variants()[1]);
        let text = serde_json::to_string(&choices).unwrap();
        assert_eq!(
            text,
            r#"{"input gradient 32x16x32x31 to 24, 3x1, padding 1x1":"direct 4x2"}"#
        );
        assert_eq!(serde_json::from_str::<Choices>(&text).unwrap(), choices);
        assert!(serde_json::from_str::<Choices>(r#"{"forward":"magic 4"}"#).is_err());
    }
}
