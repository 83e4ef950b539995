//! What the command prints.

use crate::support::{
    TEST_IMAGES, json_lines, run, say_skipped, scratch, shared, smidgen, succeed, write_records,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

#[test]
fn devices_are_listed_one_a_line() {
    let devices = succeed(&["devices", "--json"]);
    assert!(!devices.is_empty());
    for (index, device) in devices.iter().enumerate() {
        assert_eq!(device["index"], index);
        assert!(!device["name"].as_str().unwrap().is_empty());
        assert!(device["max_buffer_bytes"].as_u64().unwrap() >= 1 << 27);
    }
}

#[test]
fn a_run_tells_its_start_steps_evaluations_and_end() {
    let shared = shared();
    let (_folder, out) = scratch("run");
    let source = shared.source();
    let arguments = [
        "train", "--data", &source, "--batch", "4", "--steps", "2", "--budget", "64MiB", "--out",
        &out, "--json",
    ];
    let lines = succeed(&arguments);
    let events: Vec<&str> = lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        ["start", "step", "step", "evaluation", "checkpoint", "end"]
    );
    let start = &lines[0];
    assert_eq!(start["budget_bytes"], 64 << 20);
    let reserved = start["reserved_bytes"].as_u64().unwrap();
    let parts = start["footprint"].as_object().unwrap().values();
    let sum: u64 = parts.map(|part| part.as_u64().unwrap()).sum();
    assert_eq!(reserved, sum);
    assert!(reserved > 0 && reserved <= 64 << 20);
    assert_eq!(lines[1]["learning_rate"], 0.1);
    assert!(lines[1]["loss"].as_f64().unwrap() > 0.0);
    assert_eq!(lines[3]["images"], TEST_IMAGES);
    assert_eq!(lines[5]["end"], "finished");
    assert_eq!(lines[5]["accuracy"], lines[3]["accuracy"]);

    let metrics = fs::read_to_string(Path::new(&out).join("metrics.jsonl")).unwrap();
    assert_eq!(json_lines(&metrics), lines[1..5]);
    let mut files: Vec<String> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "checkpoint.safetensors",
            "metrics.jsonl",
            "plan.json",
            "run.json",
            "variants.json",
            "weights.safetensors"
        ]
    );
}

#[test]
fn eval_prints_one_object_and_needs_the_test_file_only() {
    let (folder, _) = scratch("");
    write_records(&folder.path().join("test_batch.bin"), 5);
    let source = format!("cifar10:{}", folder.path().display());
    let weights = shared().weights();
    let arguments = [
        "eval",
        "--model",
        "resnet20",
        "--weights",
        &weights,
        "--data",
        &source,
        "--batch",
        "2",
        "--json",
    ];
    let lines = succeed(&arguments);
    let [report] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(report["images"], 5);
    let right = report["accuracy"].as_f64().unwrap() * 5.0;
    assert!((right - right.round()).abs() < 1e-9 && (0.0..=5.0).contains(&right));
    assert!(report["loss"].as_f64().unwrap() > 0.0);

    // The state of the optimiser in a checkpoint does not disturb.
    let checkpoint = shared().reference().join("checkpoint.safetensors");
    let checkpoint = checkpoint.display().to_string();
    let mut arguments = arguments;
    arguments[4] = &checkpoint;
    assert_eq!(succeed(&arguments), lines);
}

#[test]
fn a_pretrained_network_has_the_accuracy_that_pytorch_measures() {
    let data = std::env::var_os("SMIDGEN_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let weights = data.join("models/resnet20_cifar10.safetensors");
    if !weights.exists() {
        say_skipped(&format!(
            "{} is missing; name its folder by SMIDGEN_DATA",
            weights.display()
        ));
        return;
    }
    let (weights, source) = (
        weights.display().to_string(),
        format!("cifar10:{}", data.display()),
    );
    let arguments = [
        "eval",
        "--model",
        "resnet20",
        "--weights",
        &weights,
        "--data",
        &source,
        "--json",
    ];
    let lines = succeed(&arguments);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["accuracy"], 0.8135);
}

#[test]
fn a_closed_pipe_disturbs_nothing() {
    let shared = shared();
    let (_folder, out) = scratch("run");
    let mut child = smidgen()
        .args([
            "train",
            "--data",
            &shared.source(),
            "--batch",
            "4",
            "--steps",
            "2",
            "--out",
            &out,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    assert!(Path::new(&out).join("weights.safetensors").exists());
}

#[test]
fn help_names_every_setting() {
    for (command, words) in [
        (&["--help"][..], &["devices", "train", "eval", "bench"][..]),
        (
            &["train", "--help"],
            &["--resume", "--budget", "--checkpoint-every", "shapes"],
        ),
        (&["eval", "--help"], &["--weights", "test files"]),
        (
            &["bench", "--help"],
            &["--quick", "--markdown", "--compare", "--adapter"],
        ),
    ] {
        let output = run(command);
        assert!(output.status.success());
        crate::support::assert_names(&String::from_utf8(output.stdout).unwrap(), words);
    }
}
