//! Batches: their order, their content, resuming, and stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use smidgen_data::{
    Augment, Batch, DataError, DataSource, Dataset, IGNORE_LABEL, ImageShape, Loader,
    Normalization, Split, epoch_order,
};

/// Grey 2 x 3 pictures; each pixel is its picture's number, and so is the label.
struct Numbers {
    len: usize,
    /// This picture cannot be decoded.
    broken: Option<usize>,
    /// Decoding this picture panics.
    panics: Option<usize>,
    delay: Duration,
    decoded: AtomicUsize,
}

impl Numbers {
    fn new(len: usize) -> Self {
        Self {
            len,
            broken: None,
            panics: None,
            delay: Duration::ZERO,
            decoded: AtomicUsize::new(0),
        }
    }
}

impl Dataset for Numbers {
    fn len(&self) -> usize {
        self.len
    }

    fn classes(&self) -> usize {
        self.len
    }

    fn image_shape(&self) -> ImageShape {
        ImageShape {
            channels: 1,
            height: 2,
            width: 3,
        }
    }

    fn label(&self, index: usize) -> u32 {
        index as u32
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        self.decoded.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.delay);
        assert_ne!(Some(index), self.panics, "picture {index} is cursed");
        if Some(index) == self.broken {
            return Err(DataError::Undecodable {
                file: format!("{index}.png").into(),
                reason: "broken".to_owned(),
            });
        }
        image.fill(index as u8);
        Ok(())
    }
}

/// Leaves bytes as they are.
fn identity() -> Normalization {
    Normalization {
        mean: vec![0.0],
        deviation: vec![1.0 / 255.0],
    }
}

fn training(numbers: Numbers, batch: usize) -> Result<Loader, DataError> {
    let nothing = Augment::default();
    Loader::training(Arc::new(numbers), batch, identity(), nothing, 3)
}

fn collect(loader: &Loader, epoch: u64, first: usize) -> Vec<Batch> {
    loader.epoch(epoch, first).map(Result::unwrap).collect()
}

#[test]
fn training_batches_follow_the_order_of_the_epoch_and_drop_the_rest() {
    let loader = training(Numbers::new(103), 10).unwrap();
    assert_eq!(loader.batches(), 10);
    let batches = collect(&loader, 4, 0);
    assert_eq!(batches.len(), 10);
    let labels: Vec<u32> = batches
        .iter()
        .flat_map(|batch| batch.labels.clone())
        .collect();
    assert_eq!(labels, epoch_order(3, 4, 103)[..100]);
    for (index, batch) in batches.iter().enumerate() {
        assert_eq!((batch.index, batch.count), (index, 10));
        for (place, &label) in batch.labels.iter().enumerate() {
            for quad in batch.images[place * 6 * 4..][..6 * 4].chunks(4) {
                assert!((quad[0] - label as f32).abs() < 1e-4, "{quad:?} of {label}");
                assert_eq!(quad[1..], [0.0; 3]);
            }
        }
    }
}

#[test]
fn evaluation_keeps_the_last_batch_and_marks_empty_places() {
    let loader = Loader::evaluation(Arc::new(Numbers::new(7)), 4, identity()).unwrap();
    let mut batches = loader.epoch(0, 0);
    let mut first = batches.next().unwrap().unwrap();
    assert_eq!((first.count, &first.labels[..]), (4, &[0, 1, 2, 3][..]));
    // Memory that comes back dirty must not show in later batches.
    first.images.fill(f32::NAN);
    loader.recycle(first);
    let last = batches.next().unwrap().unwrap();
    assert_eq!(last.count, 3);
    assert_eq!(last.labels, [4, 5, 6, IGNORE_LABEL]);
    assert_eq!(last.images.len(), 4 * 6 * 4);
    assert_eq!(last.images[3 * 6 * 4..], [0.0; 24]);
    assert!(batches.next().is_none());

    let mut batches = loader.epoch(0, 0);
    loader.recycle(batches.next().unwrap().unwrap());
    let again: Vec<Batch> = loader.epoch(9, 1).map(Result::unwrap).collect();
    assert_eq!(again, [last]);
}

#[test]
fn resuming_gives_the_same_bytes() {
    let source: DataSource = "shapes".parse().unwrap();
    let augment = "crop,flip".parse().unwrap();
    let loader = || {
        let set = Arc::new(smidgen_data::Shapes::with_len(1, Split::Train, 500));
        Loader::training(set, 32, source.normalization(), augment, 11).unwrap()
    };
    let whole = collect(&loader(), 2, 0);
    assert_eq!(whole.len(), 15);
    assert_eq!(collect(&loader(), 2, 9), whole[9..]);
    assert!(collect(&loader(), 2, 15).is_empty());
    assert!(collect(&loader(), 2, 99).is_empty());
    assert_ne!(collect(&loader(), 3, 0), whole);
}

#[test]
fn a_colour_batch_is_normalised_and_padded_to_a_quad() {
    let source: DataSource = "shapes".parse().unwrap();
    let set = source.open(Split::Test).unwrap();
    let mut bytes = vec![0; set.image_shape().bytes()];
    set.decode(5, &mut bytes).unwrap();
    let loader = Loader::evaluation(set, 8, source.normalization()).unwrap();
    let batch = loader.epoch(0, 0).next().unwrap().unwrap();
    assert_eq!(batch.labels, [0, 1, 2, 3, 4, 5, 6, 7]);
    let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    for pixel in 0..1024 {
        let quad = &batch.images[(5 * 1024 + pixel) * 4..][..4];
        for channel in 0..3 {
            let byte = f32::from(bytes[channel * 1024 + pixel]);
            assert_eq!(
                quad[channel],
                (byte / 255.0 - mean[channel]) / deviation[channel]
            );
        }
        assert_eq!(quad[3], 0.0);
    }
}

#[test]
fn no_more_is_made_than_a_few_batches_ahead() {
    let set = Arc::new(Numbers::new(1000));
    let loader = Loader::evaluation(set.clone(), 10, identity()).unwrap();
    let mut batches = loader.epoch(0, 0);
    batches.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    // At most eight workers: nine batches asked for at the start, and one for the one taken.
    let decoded = set.decoded.load(Ordering::Relaxed);
    assert!((10..=100).contains(&decoded), "{decoded}");
}

#[test]
fn dropping_early_stops_the_threads_at_once() {
    let mut numbers = Numbers::new(10_000);
    numbers.delay = Duration::from_millis(1);
    let set = Arc::new(numbers);
    let loader = Loader::evaluation(set.clone(), 5_000, identity()).unwrap();
    let started = Instant::now();
    drop(loader.epoch(0, 0));
    assert!(started.elapsed() < Duration::from_secs(1));
    // No thread holds the loader any more.
    drop(loader);
    assert_eq!(Arc::strong_count(&set), 1);
}

#[test]
fn a_picture_that_cannot_be_decoded_is_an_error_in_its_turn() {
    let mut numbers = Numbers::new(100);
    numbers.broken = Some(57);
    let loader = Loader::evaluation(Arc::new(numbers), 10, identity()).unwrap();
    let mut batches = loader.epoch(0, 0);
    for _ in 0..5 {
        batches.next().unwrap().unwrap();
    }
    let error = batches.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("57.png"), "{error}");
    assert!(batches.next().is_none());
}

#[test]
fn a_panic_in_a_data_set_is_an_error() {
    let mut numbers = Numbers::new(100);
    numbers.panics = Some(3);
    let loader = Loader::evaluation(Arc::new(numbers), 10, identity()).unwrap();
    let error = loader.epoch(0, 0).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("picture 3 is cursed"), "{error}");
}

#[test]
fn wrong_requests_are_refused() {
    let error = training(Numbers::new(10), 0).err().unwrap();
    assert!(matches!(error, DataError::EmptyBatch), "{error:?}");
    let error = Loader::evaluation(Arc::new(Numbers::new(10)), 0, identity());
    assert!(matches!(error.err().unwrap(), DataError::EmptyBatch));

    let error = training(Numbers::new(10), 11).err().unwrap();
    assert!(error.to_string().contains("10 pictures"), "{error}");
    assert!(training(Numbers::new(10), 10).is_ok());
    assert!(Loader::evaluation(Arc::new(Numbers::new(10)), 11, identity()).is_ok());

    let colour = Normalization::colour();
    let error = Loader::evaluation(Arc::new(Numbers::new(10)), 2, colour);
    let error = error.err().unwrap();
    assert!(error.to_string().contains("3 channels"), "{error}");
}
