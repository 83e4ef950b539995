//! Files that are missing, damaged, or of something else.

use crate::support::{assert_names, refuse, scratch, shared, write_records};
use std::fs;
use std::path::Path;

#[test]
fn data_that_is_missing_or_damaged() {
    let (folder, out) = scratch("run");
    let source = format!("cifar10:{}", folder.path().display());
    let train = ["train", "--data", &source, "--batch", "4", "--out", &out];
    let missing = folder.path().join("nowhere").display().to_string();
    let message = refuse(&[
        "train",
        "--data",
        &format!("cifar10:{missing}"),
        "--out",
        &out,
    ]);
    assert_names(&message, &[&missing, "data_batch_1.bin", "missing"]);

    let (batch, test) = (
        folder.path().join("data_batch_1.bin"),
        folder.path().join("test_batch.bin"),
    );
    write_records(&batch, 8);
    assert_names(&refuse(&train), &["test_batch.bin", "missing"]);
    write_records(&test, 8);
    let sound = fs::read(&batch).unwrap();

    fs::write(&batch, &sound[..sound.len() - 1]).unwrap();
    assert_names(&refuse(&train), &["data_batch_1.bin", "truncated", "24584"]);

    let mut wrong = sound.clone();
    wrong[3 * 3073] = 10;
    fs::write(&batch, &wrong).unwrap();
    assert_names(
        &refuse(&train),
        &["data_batch_1.bin", "record 3", "label 10"],
    );

    fs::write(&batch, b"").unwrap();
    assert_names(&refuse(&train), &["data_batch_1.bin", "no pictures"]);

    fs::remove_file(&batch).unwrap();
    fs::create_dir(&batch).unwrap();
    assert_names(&refuse(&train), &["data_batch_1.bin"]);
    assert!(!Path::new(&out).exists(), "something was written");
}

/// A safetensors file of this header.
fn safetensors(length: u64, header: &str, numbers: usize) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; numbers * 4]);
    bytes
}

#[test]
fn weights_that_lie() {
    let (folder, out) = scratch("run");
    let file = folder.path().join("weights.safetensors");
    let weights = file.display().to_string();
    let source = shared().source();
    let train = [
        "train",
        "--data",
        &source,
        "--weights",
        &weights,
        "--out",
        &out,
    ];
    let eval = [
        "eval",
        "--model",
        "resnet20",
        "--data",
        &source,
        "--weights",
        &weights,
    ];
    for arguments in [&train[..], &eval] {
        assert_names(&refuse(arguments), &["weights.safetensors", "No such file"]);
    }
    let one = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    let overlapping = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}"#;
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}"#;
    let length = |header: &str| header.len() as u64;
    let cases = [
        ("a header beyond the file", safetensors(1 << 20, one, 4)),
        ("a header of all memory", safetensors(u64::MAX, one, 4)),
        (
            "overlapping tensors",
            safetensors(length(overlapping), overlapping, 6),
        ),
        (
            "a shape beyond any file",
            safetensors(length(huge), huge, 4),
        ),
        ("no JSON", safetensors(8, "{\"a\": [}", 4)),
        ("too few numbers", safetensors(length(one), one, 3)),
        ("too many numbers", safetensors(length(one), one, 5)),
        ("nothing", Vec::new()),
        (
            "a text",
            b"These are not the weights you are looking for.".to_vec(),
        ),
    ];
    for (what, bytes) in cases {
        fs::write(&file, bytes).unwrap();
        let message = refuse(&eval);
        assert_names(
            &message,
            &["weights.safetensors", "not a sound safetensors file"],
        );
        assert_eq!(message, refuse(&train), "{what}");
    }
    assert!(!Path::new(&out).exists(), "something was written");
}

#[test]
fn weights_of_another_network() {
    let (source, weights) = (shared().source(), shared().weights());
    let checkpoint = shared().reference().join("checkpoint.safetensors");
    let checkpoint = checkpoint.display().to_string();
    for file in [&weights, &checkpoint] {
        for command in ["train", "eval"] {
            let message = refuse(&[
                command,
                "--model",
                "resnet32",
                "--data",
                &source,
                "--weights",
                file,
            ]);
            assert_names(&message, &["resnet32", "layer1.3", "another network"]);
        }
    }
}
