//! Loaders of real formats: what they read, and what they say about files that are wrong.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smidgen_data::{DataError, DataSource, Dataset, ImageFolder, ImageShape, Split};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(spelling: &str, folder: &Path, split: Split) -> Result<Arc<dyn Dataset>, DataError> {
    let source: DataSource = format!("{spelling}:{}", folder.display()).parse().unwrap();
    source.open(split)
}

/// The error, after checking that its message names `file`.
fn failure(result: Result<Arc<dyn Dataset>, DataError>, file: &str) -> DataError {
    let error = result.err().expect("it must be refused");
    let message = error.to_string();
    assert!(message.contains(file), "{message}");
    assert!(!message.contains('\n'), "{message}");
    error
}

fn decoded(dataset: &dyn Dataset, index: usize) -> Vec<u8> {
    let mut image = vec![0; dataset.image_shape().bytes()];
    dataset.decode(index, &mut image).unwrap();
    image
}

/// Records with these labels; byte `i` of record `r` is `i + 7 r`.
fn cifar(labels: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (record, labels) in labels.iter().enumerate() {
        bytes.extend_from_slice(labels);
        bytes.extend((0..3072).map(|byte| (byte + 7 * record) as u8));
    }
    bytes
}

#[test]
fn cifar_10_reads_all_training_batches_in_order() {
    let folder = folder();
    fs::write(folder.path().join("data_batch_2.bin"), cifar(&[&[4]])).unwrap();
    fs::write(folder.path().join("data_batch_1.bin"), cifar(&[&[9], &[0]])).unwrap();
    let train = open("cifar10", folder.path(), Split::Train).unwrap();
    let labels: Vec<u32> = (0..train.len()).map(|index| train.label(index)).collect();
    assert_eq!(labels, [9, 0, 4]);
    assert_eq!(train.classes(), 10);
    assert_eq!(decoded(&*train, 1)[..3], [7, 8, 9]);
    assert_eq!(decoded(&*train, 2)[..3], [0, 1, 2]);

    let error = failure(
        open("cifar10", folder.path(), Split::Test),
        "test_batch.bin",
    );
    assert!(matches!(error, DataError::Missing { .. }), "{error:?}");
}

#[test]
fn cifar_10_may_lie_in_the_folder_of_its_archive_and_lack_the_other_split() {
    let folder = folder();
    let inner = folder.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("test_batch.bin"), cifar(&[&[3]])).unwrap();
    let test = open("cifar10", folder.path(), Split::Test).unwrap();
    assert_eq!((test.len(), test.label(0)), (1, 3));

    let error = failure(
        open("cifar10", folder.path(), Split::Train),
        "data_batch_1.bin",
    );
    assert!(matches!(error, DataError::Missing { .. }), "{error:?}");
}

#[test]
fn cifar_100_has_fine_labels() {
    let folder = folder();
    fs::write(
        folder.path().join("test.bin"),
        cifar(&[&[19, 99], &[200, 0]]),
    )
    .unwrap();
    let test = open("cifar100", folder.path(), Split::Test).unwrap();
    assert_eq!((test.len(), test.classes()), (2, 100));
    assert_eq!([test.label(0), test.label(1)], [99, 0]);
    assert_eq!(decoded(&*test, 0)[..2], [0, 1]);
    failure(open("cifar100", folder.path(), Split::Train), "train.bin");
}

#[test]
fn cifar_files_are_checked_when_opened() {
    let folder = folder();
    let file = folder.path().join("test_batch.bin");
    let open = || open("cifar10", folder.path(), Split::Test);

    let whole = cifar(&[&[1], &[2]]);
    fs::write(&file, &whole[..5000]).unwrap();
    match failure(open(), "test_batch.bin") {
        DataError::Truncated {
            expected, actual, ..
        } => assert_eq!((expected, actual), (6146, 5000)),
        error => panic!("{error:?}"),
    }

    fs::write(&file, cifar(&[&[1], &[9], &[10]])).unwrap();
    match failure(open(), "record 2: label 10 is out of range") {
        DataError::LabelOutOfRange {
            record,
            label,
            classes,
            ..
        } => assert_eq!((record, label, classes), (2, 10, 10)),
        error => panic!("{error:?}"),
    }

    fs::write(&file, []).unwrap();
    let error = failure(open(), "test_batch.bin");
    assert!(matches!(error, DataError::Empty { .. }), "{error:?}");

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = failure(open(), "test_batch.bin");
    assert!(matches!(error, DataError::Unreadable { .. }), "{error:?}");
}

fn idx_images(magic: u32, sizes: [u32; 3], content: &[u8]) -> Vec<u8> {
    let header = [magic, sizes[0], sizes[1], sizes[2]];
    [header.map(u32::to_be_bytes).as_flattened(), content].concat()
}

fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let header = [0x0801, labels.len() as u32];
    [header.map(u32::to_be_bytes).as_flattened(), labels].concat()
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const PIXELS: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

#[test]
fn idx_is_read_plain_and_compressed() {
    let folder = folder();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write(
        "train-images-idx3-ubyte",
        &idx_images(0x0803, [2, 2, 3], &PIXELS),
    );
    write("train-labels-idx1-ubyte", &idx_labels(&[7, 0]));
    write(
        "t10k-images-idx3-ubyte.gz",
        &compressed(&idx_images(0x0803, [2, 2, 3], &PIXELS)),
    );
    write(
        "t10k-labels-idx1-ubyte.gz",
        &compressed(&idx_labels(&[7, 0])),
    );
    for split in [Split::Train, Split::Test] {
        let set = open("idx", folder.path(), split).unwrap();
        assert_eq!((set.len(), set.classes()), (2, 10));
        let (channels, height, width) = (1, 2, 3);
        assert_eq!(
            set.image_shape(),
            ImageShape {
                channels,
                height,
                width
            }
        );
        assert_eq!([set.label(0), set.label(1)], [7, 0]);
        assert_eq!(decoded(&*set, 1), PIXELS[6..]);
    }
}

#[test]
fn idx_files_are_checked_when_opened() {
    let folder = folder();
    let images = folder.path().join("train-images-idx3-ubyte");
    let labels = folder.path().join("train-labels-idx1-ubyte");
    let good = idx_images(0x0803, [2, 2, 3], &PIXELS);
    let attempt = |image_bytes: &[u8], label_bytes: &[u8], named: &str| {
        fs::write(&images, image_bytes).unwrap();
        fs::write(&labels, label_bytes).unwrap();
        failure(open("idx", folder.path(), Split::Train), named)
    };

    let error = failure(open("idx", folder.path(), Split::Train), "train-images");
    assert!(matches!(error, DataError::Missing { .. }), "{error:?}");

    let wrong = idx_images(0x0801, [2, 2, 3], &PIXELS);
    let error = attempt(&wrong, &idx_labels(&[1, 2]), "0x00000801");
    assert!(matches!(error, DataError::BadMagic { .. }), "{error:?}");

    let error = attempt(&good[..20], &idx_labels(&[1, 2]), "holds 20 bytes where 28");
    assert!(matches!(error, DataError::Truncated { .. }), "{error:?}");

    // A header that lies about its size must not make us reserve that much memory.
    let lying = idx_images(0x0803, [60_000, 28_000, 28_000], &PIXELS);
    let error = attempt(&lying, &idx_labels(&[1, 2]), "train-images");
    assert!(matches!(error, DataError::Truncated { .. }), "{error:?}");
    let lying = idx_images(0x0803, [u32::MAX; 3], &PIXELS);
    let error = attempt(&lying, &idx_labels(&[1, 2]), "train-images");
    assert!(matches!(error, DataError::BadHeader { .. }), "{error:?}");

    let long = [&good[..], &[0]].concat();
    let error = attempt(&long, &idx_labels(&[1, 2]), "after the 28 bytes");
    assert!(
        matches!(error, DataError::TrailingBytes { .. }),
        "{error:?}"
    );

    let error = attempt(&good, &idx_labels(&[1, 2, 3]), "3 labels");
    assert!(
        matches!(error, DataError::CountMismatch { .. }),
        "{error:?}"
    );

    let error = attempt(&good, &idx_labels(&[1, 10]), "record 1: label 10");
    assert!(
        matches!(error, DataError::LabelOutOfRange { .. }),
        "{error:?}"
    );

    let none = idx_images(0x0803, [0, 2, 3], &[]);
    let error = attempt(&none, &idx_labels(&[]), "train-images");
    assert!(matches!(error, DataError::Empty { .. }), "{error:?}");

    fs::remove_file(&images).unwrap();
    let cut = &compressed(&good)[..20];
    fs::write(images.with_extension("gz"), cut).unwrap();
    let error = failure(open("idx", folder.path(), Split::Train), ".gz");
    assert!(matches!(error, DataError::Truncated { .. }), "{error:?}");
    fs::write(images.with_extension("gz"), &good).unwrap();
    let error = failure(open("idx", folder.path(), Split::Train), ".gz");
    assert!(matches!(error, DataError::Unreadable { .. }), "{error:?}");
}

fn save(path: PathBuf, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(40, 20, image::Rgb(colour))
        .save(path)
        .unwrap();
}

#[test]
fn an_image_folder_with_splits_numbers_classes_alike_in_both() {
    let folder = folder();
    save(folder.path().join("train/cat/a.png"), [10, 20, 30]);
    save(folder.path().join("train/dog/a.JPG"), [200, 100, 50]);
    save(folder.path().join("test/dog/b.png"), [1, 2, 3]);
    fs::write(folder.path().join("train/cat/notes.txt"), "no picture").unwrap();
    fs::write(folder.path().join("train/cat/.hidden.png"), "no picture").unwrap();
    let train = ImageFolder::open(folder.path(), Split::Train, 8).unwrap();
    assert_eq!(train.class_names(), ["cat", "dog"]);
    assert_eq!((train.len(), train.classes()), (2, 2));
    assert_eq!([train.label(0), train.label(1)], [0, 1]);
    let expected: Vec<u8> = [10, 20, 30].iter().flat_map(|&byte| [byte; 64]).collect();
    assert_eq!(decoded(&train, 0), expected);
    let jpeg = decoded(&train, 1);
    assert!(
        jpeg[0].abs_diff(200) < 5 && jpeg[191].abs_diff(50) < 5,
        "{jpeg:?}"
    );

    let test = open("images", folder.path(), Split::Test).unwrap();
    assert_eq!((test.len(), test.classes(), test.label(0)), (1, 2, 1));
    assert_eq!(test.image_shape().height, smidgen_data::DEFAULT_IMAGE_SIZE);

    fs::remove_dir_all(folder.path().join("test")).unwrap();
    let error = failure(open("images", folder.path(), Split::Test), "test");
    assert!(matches!(error, DataError::Missing { .. }), "{error:?}");
}

#[test]
fn an_image_folder_without_splits_keeps_every_fifth_picture_for_the_test() {
    let folder = folder();
    for picture in 0..10 {
        save(
            folder.path().join(format!("one/{picture}.png")),
            [picture; 3],
        );
    }
    save(folder.path().join("two/only.png"), [99; 3]);
    let shown = |split| {
        let set = ImageFolder::open(folder.path(), split, 1).unwrap();
        assert_eq!(set.classes(), 2);
        let pictures = (0..set.len()).map(|index| (decoded(&set, index)[0], set.label(index)));
        pictures.collect::<Vec<_>>()
    };
    assert_eq!(shown(Split::Test), [(4, 0), (9, 0)]);
    let train = [0, 1, 2, 3, 5, 6, 7, 8].map(|picture| (picture, 0));
    assert_eq!(shown(Split::Train), [&train[..], &[(99, 1)]].concat());
}

#[test]
fn image_folders_that_are_wrong_are_named() {
    let folder = folder();
    let nowhere = folder.path().join("nowhere");
    let error = failure(open("images", &nowhere, Split::Train), "nowhere");
    assert!(matches!(error, DataError::Missing { .. }), "{error:?}");

    fs::create_dir_all(folder.path().join("cat")).unwrap();
    let error = failure(
        open("images", folder.path(), Split::Train),
        "holds no pictures",
    );
    assert!(matches!(error, DataError::Empty { .. }), "{error:?}");

    let error = ImageFolder::open(folder.path(), Split::Train, 0).err();
    assert!(matches!(error, Some(DataError::EmptyImage)), "{error:?}");

    fs::write(folder.path().join("cat/broken.png"), "this is no PNG").unwrap();
    let set = open("images", folder.path(), Split::Train).unwrap();
    let mut image = vec![0; set.image_shape().bytes()];
    let error = set.decode(0, &mut image).unwrap_err();
    assert!(matches!(error, DataError::Undecodable { .. }), "{error:?}");
    assert!(error.to_string().contains("broken.png"), "{error}");
}

#[test]
fn the_real_cifar_10_is_read() {
    let data = std::env::var_os("SMIDGEN_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    if !data.join("cifar-10-batches-bin/test_batch.bin").exists() {
        // Written past the test harness, which would keep it from being seen.
        let said = format!("skipped: no CIFAR-10 in {}\n", data.display());
        let _ = std::io::stderr().write_all(said.as_bytes());
        return;
    }
    for (split, each) in [(Split::Train, 1000), (Split::Test, 200)] {
        let set = open("cifar10", &data, split).unwrap();
        let mut counts = [0; 10];
        for index in 0..set.len() {
            counts[set.label(index) as usize] += 1;
        }
        assert_eq!(counts, [each; 10], "{split}");
    }
}
