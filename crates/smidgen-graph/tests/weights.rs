//! Safetensors in and out, and files that lie.

use smidgen_graph::{Graph, Tensor, Weights, WeightsError, zoo};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

fn data() -> PathBuf {
    match std::env::var_os("SMIDGEN_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    }
}

/// A folder of its own for a test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("smidgen-graph-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn resnet20() -> Graph {
    zoo::build("resnet20", 10, [3, 32, 32]).unwrap()
}

/// A file of this header and this many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(vec![0; data]);
    bytes
}

#[test]
fn pretrained_networks_load() {
    for (name, classes) in [("resnet20", 10), ("resnet56", 10)] {
        let path = data()
            .join("models")
            .join(format!("{name}_cifar10.safetensors"));
        if !path.exists() {
            // Written past the test harness, which would keep it from being seen.
            let said = format!("skipped: {} is absent\n", path.display());
            let _ = std::io::stderr().write_all(said.as_bytes());
            continue;
        }
        let weights = Weights::load(&path).unwrap();
        weights
            .check(&zoo::build(name, classes, [3, 32, 32]).unwrap())
            .unwrap();
        let values = || weights.tensors.values().flat_map(|tensor| &tensor.values);
        assert!(values().all(|value| value.is_finite()) && values().any(|value| *value != 0.0));
    }
}

#[test]
fn saved_and_loaded_weights_are_the_same() {
    let folder = Folder::new("round-trip");
    let path = folder.0.join("w.safetensors");
    let graph = resnet20();
    let mut weights = graph.initialize(3);
    weights.metadata.insert("epoch".to_owned(), "7".to_owned());
    weights
        .metadata
        .insert("note".to_owned(), "\"quoted\" ü".to_owned());
    weights.save(&path).unwrap();
    let loaded = Weights::load(&path).unwrap();
    assert_eq!(loaded, weights);
    loaded.check(&graph).unwrap();
    assert_eq!(
        fs::read_dir(&folder.0).unwrap().count(),
        1,
        "no temporary file is left"
    );
    let bytes = fs::read(&path).unwrap();
    let numbers: usize = weights
        .tensors
        .values()
        .map(|tensor| tensor.values.len())
        .sum();
    assert_eq!(
        (bytes.len() - numbers * 4) % 8,
        0,
        "numbers start at a multiple of eight"
    );
    for _ in 0..8 {
        assert!(
            weights.to_bytes().unwrap() == bytes,
            "the same weights give the same bytes"
        );
    }
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let folder = Folder::new("failed-save");
    // A folder cannot be replaced by a file.
    let path = folder.0.join("taken");
    fs::create_dir(&path).unwrap();
    let weights = resnet20().initialize(1);
    let error = weights.save(&path).unwrap_err();
    assert!(matches!(error, WeightsError::Write { .. }));
    assert!(path.is_dir());
    assert_eq!(
        fs::read_dir(&folder.0).unwrap().count(),
        1,
        "the temporary file is removed"
    );
    assert!(
        weights
            .save(folder.0.join("no such folder/w.safetensors"))
            .is_err()
    );
    // Weights that cannot be written do not touch the file either.
    let path = folder.0.join("w.safetensors");
    fs::write(&path, "old").unwrap();
    let mut wrong = Weights::default();
    wrong.tensors.insert(
        "a".to_owned(),
        Tensor {
            shape: vec![2],
            values: vec![1.0],
        },
    );
    assert!(matches!(wrong.save(&path), Err(WeightsError::Count { .. })));
    let mut wrong = Weights::default();
    wrong.tensors.insert(
        "__metadata__".to_owned(),
        Tensor {
            shape: vec![1],
            values: vec![1.0],
        },
    );
    assert!(matches!(
        wrong.save(&path),
        Err(WeightsError::Corrupt { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn weights_of_another_network_are_refused() {
    let graph = resnet20();
    let good = graph.initialize(1);
    good.check(&graph).unwrap();

    let mut weights = good.clone();
    weights.tensors.remove("layer2.1.bn1.running_var");
    let error = weights.check(&graph).unwrap_err();
    assert!(
        matches!(&error, WeightsError::Missing { count: 1, examples, .. } if examples == "`layer2.1.bn1.running_var`")
    );

    let mut weights = good.clone();
    let one = Tensor {
        shape: vec![1],
        values: vec![0.0],
    };
    weights
        .tensors
        .insert("bn1.num_batches_tracked".to_owned(), one.clone());
    weights.check(&graph).unwrap();
    weights.tensors.insert("head.weight".to_owned(), one);
    let error = weights.check(&graph).unwrap_err();
    assert!(
        matches!(&error, WeightsError::Unknown { count: 1, examples, .. } if examples == "`head.weight`")
    );

    let hundred = zoo::build("resnet20", 100, [3, 32, 32]).unwrap();
    let error = good.check(&hundred).unwrap_err();
    let WeightsError::Shape {
        name,
        expected,
        found,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (name.as_str(), expected.as_slice(), found.as_slice()),
        ("linear.bias", &[100][..], &[10][..])
    );

    let error = zoo::build("resnet56", 10, [3, 32, 32])
        .unwrap()
        .initialize(1)
        .check(&graph)
        .unwrap_err();
    assert!(
        matches!(error, WeightsError::Unknown { count: 180, .. }),
        "{error}"
    );
}

#[test]
fn half_precision_is_widened_and_other_kinds_are_refused() {
    let tensor = |kind: &str, size: usize| {
        file(
            &format!(r#"{{"a":{{"dtype":"{kind}","shape":[2],"data_offsets":[0,{size}]}}}}"#),
            0,
        )
    };
    let mut half = tensor("F16", 4);
    half.extend([0x00, 0x3c, 0x00, 0xc0]);
    assert_eq!(
        Weights::from_bytes(&half).unwrap().tensors["a"].values,
        [1.0, -2.0]
    );
    let mut brain = tensor("BF16", 4);
    brain.extend([0x80, 0x3f, 0x40, 0xc0]);
    assert_eq!(
        Weights::from_bytes(&brain).unwrap().tensors["a"].values,
        [1.0, -3.0]
    );
    let mut integers = tensor("I64", 16);
    integers.extend([0; 16]);
    let error = Weights::from_bytes(&integers).unwrap_err();
    assert!(
        matches!(&error, WeightsError::Kind { name, kind } if name == "a" && kind == "I64"),
        "{error}"
    );
    let counter = r#"{"bn1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#;
    assert!(
        Weights::from_bytes(&file(counter, 8))
            .unwrap()
            .tensors
            .is_empty()
    );
}

#[test]
fn lying_headers_are_refused() {
    let one = |shape: &str, from: u64, to: u64| {
        format!(r#""a{from}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let single = |shape: &str, from, to| format!("{{{}}}", one(shape, from, to));
    let mut cases = vec![
        ("empty", Vec::new()),
        ("seven bytes", vec![0; 7]),
        ("length beyond the file", 1000_u64.to_le_bytes().to_vec()),
        ("huge length", u64::MAX.to_le_bytes().to_vec()),
        (
            "large length",
            [&(1_u64 << 40).to_le_bytes()[..], b"{}"].concat(),
        ),
        ("no JSON", file("{\"a\": nonsense", 8)),
        (
            "not UTF-8",
            [&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(),
        ),
        ("a list", file("[]", 0)),
        ("offsets beyond the data", file(&single("[2]", 0, 8), 4)),
        ("data beyond the offsets", file(&single("[2]", 0, 8), 12)),
        ("offsets backwards", file(&single("[2]", 8, 0), 8)),
        ("shape larger than its data", file(&single("[3]", 0, 8), 8)),
        (
            "shape that overflows",
            file(&single("[4294967296, 4294967296, 4]", 0, 8), 8),
        ),
        (
            "offsets that overflow",
            file(&single("[2]", u64::MAX - 7, u64::MAX), 8),
        ),
        (
            "overlap",
            file(
                &format!("{{{},{}}}", one("[2]", 0, 8), one("[2]", 4, 12)),
                12,
            ),
        ),
        (
            "hole",
            file(
                &format!("{{{},{}}}", one("[1]", 0, 4), one("[1]", 8, 12)),
                12,
            ),
        ),
        ("negative size", file(&single("[-2]", 0, 8), 8)),
        ("deep JSON", file(&"[".repeat(100_000), 0)),
    ];
    // Truncations of a sound file.
    let mut weights = Weights::default();
    weights.tensors.insert(
        "a".to_owned(),
        Tensor {
            shape: vec![4],
            values: vec![1.0; 4],
        },
    );
    let sound = weights.to_bytes().unwrap();
    assert_eq!(Weights::from_bytes(&sound).unwrap(), weights);
    for length in 0..sound.len() {
        cases.push(("truncated", sound[..length].to_vec()));
    }
    for (what, bytes) in cases {
        let result = Weights::from_bytes(&bytes);
        assert!(
            matches!(result, Err(WeightsError::Corrupt { .. })),
            "{what} of {} bytes: {result:?}",
            bytes.len()
        );
    }
    assert!(matches!(
        Weights::load("no such file"),
        Err(WeightsError::Read { .. })
    ));
}

#[test]
fn initial_weights_follow_the_seed_and_the_fan() {
    let graph = resnet20();
    let (first, again, other) = (
        graph.initialize(5),
        graph.initialize(5),
        graph.initialize(6),
    );
    assert_eq!(first, again);
    assert_ne!(first.tensors["conv1.weight"], other.tensors["conv1.weight"]);
    assert_ne!(
        first.tensors["layer1.0.conv1.weight"],
        first.tensors["layer1.0.conv2.weight"]
    );
    assert!(
        first.tensors["bn1.weight"]
            .values
            .iter()
            .all(|value| *value == 1.0)
    );
    assert!(
        first.tensors["bn1.bias"]
            .values
            .iter()
            .all(|value| *value == 0.0)
    );
    assert!(
        first.tensors["bn1.running_var"]
            .values
            .iter()
            .all(|value| *value == 1.0)
    );
    let bound = (1.0_f32 / 64.0).sqrt();
    let linear = &first.tensors["linear.weight"].values;
    assert!(
        linear.iter().all(|value| value.abs() <= bound)
            && linear.iter().any(|value| value.abs() > 0.9 * bound)
    );
    let deviation = |weights: &Weights, name: &str| {
        let values = &weights.tensors[name].values;
        let count = values.len() as f64;
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        assert!(mean.abs() < 0.002, "{name}: mean {mean}");
        (values
            .iter()
            .map(|value| (f64::from(*value) - mean).powi(2))
            .sum::<f64>()
            / count)
            .sqrt()
    };
    // 36 864 numbers: the deviation is known to 0.4 %.
    let close = |found: f64, fan: f64| (found / (2.0 / fan).sqrt() - 1.0).abs() < 0.02;
    assert!(close(
        deviation(&first, "layer3.2.conv2.weight"),
        9.0 * 64.0
    ));
    assert!(
        close(deviation(&first, "layer3.0.conv1.weight"), 9.0 * 32.0),
        "by inputs"
    );
    let torchvision = zoo::build("resnet18", 10, [3, 64, 64])
        .unwrap()
        .initialize(5);
    assert!(
        close(
            deviation(&torchvision, "layer2.0.conv1.weight"),
            9.0 * 128.0
        ),
        "by outputs"
    );
}
