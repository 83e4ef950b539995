//! The built-in data set: deterministic, balanced, and not for linear classifiers.

use smidgen_data::{Dataset, Shapes, Split};

const CLASSES: usize = 10;
const PIXELS: usize = 3 * 32 * 32;

fn picture(shapes: &Shapes, index: usize) -> Vec<u8> {
    let mut bytes = vec![0; PIXELS];
    shapes.decode(index, &mut bytes).unwrap();
    bytes
}

#[test]
fn pictures_depend_on_seed_split_and_number_alone() {
    let train = Shapes::new(1, Split::Train);
    let again = Shapes::new(1, Split::Train);
    // Another order of asking, too.
    let pictures: Vec<_> = (0..50).map(|index| picture(&train, index)).collect();
    for index in (0..50).rev() {
        assert_eq!(picture(&again, index), pictures[index]);
    }
    assert_ne!(picture(&Shapes::new(2, Split::Train), 7), pictures[7]);
    assert_ne!(picture(&Shapes::new(1, Split::Test), 7), pictures[7]);
    assert_ne!(pictures[7], pictures[17]);
}

#[test]
fn sizes_and_labels_are_as_promised() {
    for (split, len) in [(Split::Train, 10_000), (Split::Test, 2_000)] {
        let shapes = Shapes::new(1, split);
        assert_eq!(shapes.len(), len);
        assert_eq!(shapes.classes(), CLASSES);
        let mut counts = [0; CLASSES];
        for index in 0..len {
            counts[shapes.label(index) as usize] += 1;
        }
        assert_eq!(counts, [len / CLASSES; CLASSES]);
    }
}

/// Softmax regression on pixels, by stochastic gradient descent in random order.
struct Linear {
    weights: Vec<[f32; CLASSES]>,
}

impl Linear {
    fn scores(&self, image: &[f32]) -> [f32; CLASSES] {
        let mut scores = self.weights[PIXELS];
        for (pixel, weights) in image.iter().zip(&self.weights) {
            for (score, weight) in scores.iter_mut().zip(weights) {
                *score += pixel * weight;
            }
        }
        scores
    }

    fn learn(&mut self, image: &[f32], label: usize, rate: f32) {
        let mut errors = self.scores(image);
        let largest = errors.iter().copied().fold(f32::MIN, f32::max);
        errors = errors.map(|score| (score - largest).exp());
        let sum: f32 = errors.iter().sum();
        errors = errors.map(|exponential| exponential / sum);
        errors[label] -= 1.0;
        for (pixel, weights) in image.iter().chain([&1.0]).zip(&mut self.weights) {
            for (weight, error) in weights.iter_mut().zip(errors) {
                *weight -= rate * pixel * error;
            }
        }
    }

    fn accuracy(&self, set: &[(Vec<f32>, usize)]) -> f32 {
        let right = set.iter().filter(|(image, label)| {
            let scores = self.scores(image);
            scores.iter().all(|&score| score <= scores[*label])
        });
        right.count() as f32 / set.len() as f32
    }
}

fn load(split: Split, len: usize) -> Vec<(Vec<f32>, usize)> {
    let shapes = Shapes::with_len(1, split, len);
    (0..len)
        .map(|index| {
            let bytes = picture(&shapes, index);
            let image = bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0);
            (image.collect(), shapes.label(index) as usize)
        })
        .collect()
}

#[test]
fn a_linear_classifier_stays_below_half() {
    let (train, test) = (load(Split::Train, 4_000), load(Split::Test, 1_000));
    let mut linear = Linear {
        weights: vec![[0.0; CLASSES]; PIXELS + 1],
    };
    let mut best = 0.0f32;
    for epoch in 0..15 {
        let rate = 1e-3 / (1.0 + epoch as f32);
        for index in smidgen_data::epoch_order(5, epoch, train.len()) {
            let (image, label) = &train[index as usize];
            linear.learn(image, *label, rate);
        }
        best = best.max(linear.accuracy(&test));
    }
    let learnt = linear.accuracy(&train);
    assert!(learnt > 0.25, "it must learn something: {learnt}");
    assert!(best < 0.5, "too easy: {best}");
}
