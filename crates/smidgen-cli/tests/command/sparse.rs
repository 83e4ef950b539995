//! Sparse training, and what of it is refused before anything is written.

use crate::support::{assert_names, refuse, refuse_usage, scratch, shared, succeed};
use smidgen::{Sparsity, zoo};
use std::path::Path;

#[test]
fn words_that_mean_nothing() {
    for (arguments, words) in [
        (&["--sparse", "1"][..], &["--sparse", "below 1"][..]),
        (&["--sparse=-0.1"], &["--sparse", "negative"]),
        (&["--sparse", "1.5"], &["--sparse", "below 1"]),
        (&["--sparse", "nan"], &["--sparse", "no number"]),
        (&["--sparse", "most"], &["--sparse", "no number"]),
        (&["--recipe", "mest"], &["--sparse"]),
        (&["--distribution", "erk"], &["--sparse"]),
        (&["--sparse", "0.9", "--grow", "gradient"], &["--recipe"]),
        (
            &["--sparse", "0.9", "--recipe", "rigl"],
            &["rigl", "mest", "mest-soft"],
        ),
        (
            &["--sparse", "0.9", "--recipe", "mest", "--grow", "fast"],
            &["fast", "random", "gradient"],
        ),
        (
            &["--sparse", "0.9", "--filter", "last:2"],
            &["--sparse", "cannot be used", "--filter"],
        ),
        (
            &["--remove-examples", "nan"],
            &["--remove-examples", "no number"],
        ),
        (
            &["--remove-examples", "2"],
            &["--remove-examples", "below 1"],
        ),
    ] {
        let message = refuse_usage(&[&["train", "--seed", "1"], arguments].concat());
        assert_names(&message, words);
    }
}

#[test]
fn settings_that_cannot_be_followed() {
    let (_folder, out) = scratch("run");
    let source = shared().source();
    let train = ["train", "--data", &source, "--batch", "4", "--out", &out];
    for (arguments, words) in [
        (
            &["--sparse", "0.99"][..],
            &[
                "layer1.0.conv1",
                "a density of 0.01 ",
                "36 blocks",
                "0.0278",
            ][..],
        ),
        (
            &["--sparse", "0.01", "--recipe", "mest"],
            &["mest", "is too small", "36 blocks", "lower the density"],
        ),
        (
            &["--sparse", "0.5", "--recipe", "mest", "--train-last", "2"],
            &["mest", "layer1.0.conv1.weight", "frozen"],
        ),
        (
            &[
                "--sparse",
                "0.9",
                "--recipe",
                "mest-soft",
                "--budget",
                "1MiB",
            ],
            &["1.00 MiB", "too small", "at least"],
        ),
        (
            &[
                "--sparse",
                "0.9",
                "--remove-examples",
                "0.2",
                "--epochs",
                "1",
            ],
            &["one epoch", "more epochs"],
        ),
    ] {
        let message = refuse(&[&train[..], arguments].concat());
        assert_names(&message, words);
    }
    assert!(!Path::new(&out).exists(), "something was written");
}

/// Weights of a ResNet-20 in which a sparse layer has a mask.
fn masked(file: &Path, shape: &[usize], value: impl Fn(usize) -> f32) {
    let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    graph.sparsify(&Sparsity::uniform(0.5)).unwrap();
    let mut weights = graph.initialize(1);
    let mut mask = weights.tensors["layer1.0.conv1.weight"].clone();
    mask.shape = shape.to_vec();
    mask.values = (0..shape.iter().product()).map(value).collect();
    let name = "layer1.0.conv1.weight_mask".to_owned();
    weights.tensors.insert(name, mask);
    weights.save(file).unwrap();
}

#[test]
fn masks_that_do_not_fit() {
    let (folder, out) = scratch("run");
    let file = folder.path().join("masked.safetensors");
    let weights = file.display().to_string();
    let source = shared().source();
    let train = [
        "train",
        "--data",
        &source,
        "--batch",
        "4",
        "--out",
        &out,
        "--weights",
        &weights,
        "--sparse",
        "0.5",
    ];
    masked(&file, &[16, 16, 3, 1], |_| 1.0);
    let words = [
        "layer1.0.conv1.weight_mask",
        "[16, 16, 3, 1]",
        "[16, 16, 3, 3]",
    ];
    assert_names(&refuse(&train), &words);

    masked(&file, &[16, 16, 3, 3], |_| f32::NAN);
    let words = ["layer1.0.conv1.weight_mask", "not finite"];
    assert_names(&refuse(&train), &words);

    // A mask that keeps nothing leaves a recipe nothing to prune; a mask that stays may be so.
    masked(&file, &[16, 16, 3, 3], |_| 0.0);
    let words = [
        "mest",
        "layer1.0.conv1.weight",
        "0 blocks live",
        "begins with 18",
    ];
    assert_names(
        &refuse(&[&train[..], &["--recipe", "mest"]].concat()),
        &words,
    );
    assert!(!Path::new(&out).exists(), "something was written");
}

#[test]
fn a_mask_of_single_weights_tells_what_is_lost() {
    let folder = scratch("").0;
    let file = folder.path().join("masked.safetensors");
    let weights = file.display().to_string();
    // Every other weight of a layer of 2304, of which half of the blocks become live.
    masked(&file, &[16, 16, 3, 3], |at| (at % 2) as f32);
    let lines = succeed(&[
        "train",
        "--data",
        &shared().source(),
        "--batch",
        "4",
        "--steps",
        "1",
        "--sparse",
        "0.5",
        "--weights",
        &weights,
    ]);
    let imported = |of: &str| lines[0]["imported"][of].as_u64().unwrap();
    let all: u64 = zoo::build("resnet20", 10, [3, 32, 32])
        .unwrap()
        .parameter_count();
    assert!(imported("kept") < all && imported("lost") < imported("kept"));
    assert!(imported("lost") > 2304 / 4, "{} are lost", imported("lost"));
}

#[test]
fn masks_change_at_random_or_by_gradients_in_the_bytes_that_were_named() {
    let source = shared().source();
    let mut needs = Vec::new();
    for growth in ["random", "gradient"] {
        let (_folder, out) = scratch("run");
        let train = [
            "train",
            "--data",
            &source,
            "--batch",
            "4",
            "--epochs",
            "2",
            "--lr",
            "0.01",
            "--sparse",
            "0.8",
            "--recipe",
            "mest-soft",
            "--grow",
            growth,
            "--out",
            &out,
        ];
        let lines = succeed(&train);
        assert_eq!(lines.last().unwrap()["end"], "finished");
        let stages = lines[0]["stages"].as_array().unwrap();
        assert_eq!(stages[0]["density"], 0.25);
        assert_eq!(stages.last().unwrap()["density"], 0.2);
        let bytes = |of: &str| lines[0]["footprint"][of].as_u64().unwrap();
        needs.push(bytes("arena") + bytes("uniforms"));
        // What it reserved is enough for it, and computes the same.
        let (_folder, again) = scratch("run");
        let budget = lines[0]["reserved_bytes"].to_string();
        let mut bounded = train.to_vec();
        *bounded.last_mut().unwrap() = &again;
        bounded.extend(["--budget", &budget]);
        assert_eq!(
            succeed(&bounded).last().unwrap()["loss"],
            lines.last().unwrap()["loss"]
        );
    }
    assert!(needs[1] > needs[0], "{needs:?}");
}
