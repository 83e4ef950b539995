//! Settings that cannot be met, and numbers that blow up.

use crate::support::{
    assert_names, json_lines, refusal, refuse, refuse_usage, run, scratch, shared, smidgen, succeed,
};
use std::fs;
use std::path::Path;

#[test]
fn settings_that_mean_nothing() {
    let source = shared().source();
    for (arguments, words) in [
        (&["--budget", "lots"][..], &["`lots`", "64MiB"][..]),
        (
            &["--data", "mnist:x"],
            &["`mnist:x`", "cifar10:DIR", "shapes"],
        ),
        (&["--augment", "turn"], &["`turn`", "crop,flip"]),
        (&["--schedule", "linear"], &["linear", "cosine"]),
        (&["--lr", "fast"], &["`fast`"]),
        (&["--lr", "-1"], &["-1"]),
        (&["--clip-norm", "0"], &["--clip-norm", "above 0"]),
        (&["--epochs", "0"], &["--epochs"]),
        (
            &["--remove-examples", "1"],
            &["--remove-examples", "below 1"],
        ),
        (&["--batch", "-4"], &["-4"]),
        (&["--micro-batch", "half"], &["half", "auto"]),
        (
            &["--micro-batch", "4", "--max-batch", "--budget", "64MiB"],
            &["--max-batch", "cannot be used"],
        ),
        (&["--filter", "last:0"], &["`last:0`", "above 0"]),
        (&["--patch", "2"], &["--filter"]),
        (&["--filter-state", "pair"], &["--filter"]),
        (
            &["--filter", "auto", "--filter-threshold", "-1.5"],
            &["-1.5", "from -1 to 1"],
        ),
        (&["--optimizer", "magic"], &["magic", "adamw"]),
        (&["--resume", "run"], &["--resume", "cannot be used"]),
    ] {
        let message = refuse_usage(&[&["train", "--seed", "1"], arguments].concat());
        assert_names(&message, words);
    }
    let train = ["train", "--data", &source];
    for (arguments, words) in [
        (
            &["--batch", "8", "--micro-batch", "0"][..],
            &["micro-batches of 0", "batch of 8", "at least 1"][..],
        ),
        (
            &["--batch", "8", "--micro-batch", "3"],
            &["micro-batches of 3", "batch of 8", "2 would"],
        ),
        (
            &["--batch", "8", "--micro-batch", "16"],
            &["micro-batches of 16", "batch of 8", "8 would"],
        ),
        (
            &["--filter", "last:2", "--patch", "9"],
            &["patch of 9", "1 to 8"],
        ),
        (&["--filter", "last:2", "--patch", "0"], &["patch of 0"]),
        (
            &["--filter", "layer9.conv1"],
            &["`layer9.conv1`", "layer3.2.conv2"],
        ),
        (
            &["--filter", "last:2", "--train-last", "1"],
            &["`layer3.2.conv1`", "frozen"],
        ),
        (
            &[
                "--filter",
                "last:1",
                "--filter-state",
                "pair",
                "--clip-norm",
                "1",
            ],
            &["once a pair", "clipped"],
        ),
        (
            &[
                "--filter",
                "last:1",
                "--filter-state",
                "pair",
                "--half-maps",
            ],
            &["once a pair", "f16"],
        ),
    ] {
        let message = refuse(&[&train[..], arguments].concat());
        assert_names(&message, words);
    }
    let message = refuse(&[&train[..], &["--model", "resnet21"]].concat());
    assert_names(&message, &["`resnet21`", "resnet20", "mobilenet_v2"]);
    let message = refuse(&[&train[..], &["--adapter", "abacus"]].concat());
    let devices = succeed(&["devices"]);
    assert_names(
        &message,
        &["`abacus`", devices[0]["name"].as_str().unwrap()],
    );
}

/// On macOS there is always an adapter.
#[test]
#[cfg(target_os = "linux")]
fn without_an_adapter_the_command_names_what_installs_one() {
    let output = smidgen()
        .args(["devices"])
        .env("VK_DRIVER_FILES", "/nonexistent.json")
        .env("VK_ICD_FILENAMES", "/nonexistent.json")
        .env_remove("VK_ADD_DRIVER_FILES")
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 2, "{message}");
    assert_names(lines[0], &["error: ", "no Vulkan", "driver"]);
    assert_names(lines[1], &["hint: ", "./x setup", "Debian"]);
}

#[test]
fn batches_of_no_image_or_of_too_many() {
    let (_folder, out) = scratch("run");
    let (source, weights) = (shared().source(), shared().weights());
    let train = ["train", "--data", &source, "--out", &out, "--batch"];
    let message = refuse(&[&train[..], &["0"]].concat());
    assert_names(&message, &["batch of 0"]);
    let message = refuse(&[&train[..], &["21"]].concat());
    assert_names(&message, &["20 pictures", "batch of 21"]);
    let eval = ["eval", "--model", "resnet20", "--weights", &weights];
    let message = refuse(&[&eval[..], &["--data", &source, "--batch", "0"]].concat());
    assert_names(&message, &["batch of 0"]);
    assert!(!Path::new(&out).exists(), "something was written");
}

#[test]
fn a_budget_too_small_names_the_least_that_does() {
    let (_folder, out) = scratch("run");
    let source = shared().source();
    let train = [
        "train", "--data", &source, "--batch", "4", "--steps", "1", "--out", &out,
    ];
    let with_budget = |budget: &str| run(&[&train[..], &["--budget", budget]].concat());
    let message = refusal(&with_budget("1MiB"));
    assert_names(&message, &["1.00 MiB", "batch 4", "at least"]);
    let (_, least) = message.split_once("at least").unwrap();
    let (_, least) = least.split_once('(').unwrap();
    let (least, _) = least.split_once(" bytes").unwrap();
    let least: u64 = least.parse().unwrap();
    let below = refusal(&with_budget(&(least - 1).to_string()));
    assert_names(&below, &[&format!("({least} bytes)")]);
    let larger = [
        "train", "--data", &source, "--batch", "256", "--budget", "16MiB",
    ];
    assert_names(&refusal(&run(&larger)), &["a batch of", "would fit"]);
    assert!(!Path::new(&out).exists(), "something was written");

    let output = with_budget(&least.to_string());
    assert!(output.status.success(), "{output:?}");
    let lines = json_lines(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(lines[0]["reserved_bytes"], least);
}

#[test]
fn tuning_is_on_or_off() {
    let (_folder, out) = scratch("run");
    let output = smidgen()
        .args([
            "train",
            "--data",
            &shared().source(),
            "--steps",
            "1",
            "--out",
            &out,
        ])
        .env("SMIDGEN_TUNE", "fast")
        .output()
        .unwrap();
    assert_names(
        &refusal(&output),
        &["SMIDGEN_TUNE is `fast`", "`on` or `off`"],
    );
    assert!(!Path::new(&out).exists(), "something was written");
}

#[test]
fn a_removal_that_leaves_less_than_a_batch() {
    let (_folder, out) = scratch("run");
    let source = shared().source();
    let message = refuse(&[
        "train",
        "--data",
        &source,
        "--batch",
        "4",
        "--epochs",
        "4",
        "--remove-examples",
        "0.99",
        "--out",
        &out,
    ]);
    assert_names(&message, &["a batch of 4", "smaller share"]);
    assert!(!Path::new(&out).exists(), "something was written");
}

#[test]
fn a_folder_that_cannot_be_made() {
    let (folder, _) = scratch("");
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let out = file.join("run").display().to_string();
    let message = refuse(&[
        "train",
        "--data",
        &shared().source(),
        "--batch",
        "4",
        "--out",
        &out,
    ]);
    assert_names(&message, &["cannot write", &out]);
}

/// The numbers under a name, and their place in the file.
fn tensor(bytes: &[u8], name: &str) -> std::ops::Range<usize> {
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let entries: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let place = |at: usize| {
        let offset = entries[name]["data_offsets"][at].as_u64().unwrap() as usize;
        8 + header + offset
    };
    place(0)..place(1)
}

#[test]
fn a_loss_that_is_not_finite_names_step_and_layer() {
    let (folder, out) = scratch("run");
    let sound = fs::read(shared().weights()).unwrap();
    let file = folder.path().join("bad.safetensors");
    let weights = file.display().to_string();
    let source = shared().source();
    for (name, value, words) in [
        // No training needed to see it.
        (
            "layer2.0.conv1.weight",
            f32::NAN,
            ["`layer2.0.conv1.weight`", "bad.safetensors", "not finite"],
        ),
        // Finite, until it is multiplied.
        (
            "linear.weight",
            3e38,
            ["step 0", "layer `linear`", "saved before is intact"],
        ),
        // The same in the midst of the network.
        (
            "layer2.0.conv1.weight",
            3e38,
            ["step 0", "layer `layer2.0", "saved before is intact"],
        ),
    ] {
        let mut bytes = sound.clone();
        let place = tensor(&bytes, name);
        for number in bytes[place].chunks_exact_mut(4) {
            number.copy_from_slice(&value.to_le_bytes());
        }
        fs::write(&file, bytes).unwrap();
        let message = refuse(&[
            "train",
            "--data",
            &source,
            "--batch",
            "4",
            "--steps",
            "1",
            "--weights",
            &weights,
        ]);
        assert_names(&message, &words);
    }

    // A rate that breaks the parameters: what they were broken to is never saved.
    let arguments = [
        "train",
        "--data",
        &source,
        "--batch",
        "4",
        "--lr",
        "1e30",
        "--checkpoint-every",
        "1",
        "--out",
        &out,
    ];
    let message = refuse(&arguments);
    assert_names(&message, &["step ", "not finite", "layer `", "intact"]);
    let checkpoint = Path::new(&out).join("checkpoint.safetensors");
    let bytes = fs::read(&checkpoint).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (numbers, _) = bytes[8 + header..].as_chunks::<4>();
    assert!(numbers.len() > 269_722);
    assert!(
        numbers
            .iter()
            .all(|number| f32::from_le_bytes(*number).is_finite())
    );
    assert!(!Path::new(&out).join("weights.safetensors").exists());
    assert!(!Path::new(&out).join("checkpoint.safetensors.part").exists());
}
