//! The same seed gives the same bytes, whatever happens on the way.

use crate::support::{
    STEPS, Underway, assert_names, json_lines, refusal, refuse, run, say_skipped, scratch, shared,
    smidgen, succeed,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn start(out: &str) -> Underway {
    Underway::start(
        smidgen()
            .args(shared().settings())
            .args(["--out", out, "--json"]),
    )
}

fn weights(out: impl AsRef<Path>) -> Vec<u8> {
    fs::read(out.as_ref().join("weights.safetensors")).unwrap()
}

/// What the metrics of a run say, without what depends on time and place.
fn metrics(out: impl AsRef<Path>) -> Vec<Value> {
    let text = fs::read_to_string(out.as_ref().join("metrics.jsonl")).unwrap();
    let mut lines = json_lines(&text);
    lines.retain(|line| line["event"] != "checkpoint");
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("images_per_second");
    }
    lines
}

#[track_caller]
fn assert_ends_as_reference(out: &str) {
    let reference = shared().reference();
    assert!(weights(out) == weights(&reference), "the weights differ");
    assert_eq!(metrics(out), metrics(&reference));
    let leftover = Path::new(out).join("checkpoint.safetensors.part");
    assert!(!leftover.exists());
}

#[test]
fn one_seed_gives_the_same_bytes_and_another_does_not() {
    let (_folder, out) = scratch("again");
    assert!(start(&out).finish().status.success());
    assert_ends_as_reference(&out);
    let steps = metrics(&out);
    let steps = steps.iter().filter(|line| line["event"] == "step");
    assert!(
        steps
            .map(|line| &line["step"])
            .eq((0..STEPS).collect::<Vec<_>>().iter())
    );

    let (_folder, other) = scratch("other");
    let mut settings = shared().settings();
    let seed = settings.iter().position(|word| word == "--seed").unwrap();
    settings[seed + 1] = "8".into();
    let output = smidgen().args(settings).args(["--out", &other]).output();
    assert!(output.unwrap().status.success());
    assert!(weights(&other) != weights(&out));
}

#[test]
fn a_run_killed_at_random_moments_ends_as_if_it_was_not() {
    let mut random = Pcg64Mcg::seed_from_u64(2024);
    let (_folder, out) = scratch("killed");
    let mut underway = start(&out);
    for _ in 0..4 {
        // Counted in lines, so that a slow machine is killed at work too; then a moment between two lines.
        let lines = random.random_range(1..8);
        let ended = (0..lines).any(|_| underway.line().is_none());
        std::thread::sleep(Duration::from_millis(random.random_range(0..150)));
        underway.kill();
        if ended {
            break;
        }
        underway = Underway::start(smidgen().args(["train", "--resume", &out, "--json"]));
    }
    underway.kill();
    succeed(&["train", "--resume", &out]);
    assert_ends_as_reference(&out);
}

#[test]
fn a_run_killed_before_its_first_checkpoint_starts_from_the_same_weights() {
    let (_folder, out) = scratch("tuned");
    let (_other, whole) = scratch("whole");
    let (source, pretrained) = (shared().source(), shared().weights());
    let settings = [
        "train",
        "--data",
        &source,
        "--batch",
        "4",
        "--steps",
        "2",
        "--weights",
        &pretrained,
    ];
    let mut underway = Underway::start(smidgen().args(settings).args(["--out", &out]));
    underway.wait_for("start", 1);
    underway.kill();
    assert!(!Path::new(&out).join("checkpoint.safetensors").exists());
    succeed(&["train", "--resume", &out]);
    succeed(&[&settings[..], &["--out", &whole]].concat());
    assert!(weights(&out) == weights(&whole), "the weights differ");
    assert_eq!(metrics(&out), metrics(&whole));
}

#[test]
fn a_batch_in_parts_goes_on_in_the_middle_of_an_epoch() {
    let (_folder, out) = scratch("parts");
    let (_other, whole) = scratch("whole");
    let settings = shared().settings();
    let settings = |out| {
        let mut command = smidgen();
        command.args(&settings).args(["--micro-batch", "2"]);
        command.args(["--out", out, "--json"]);
        command
    };
    let mut underway = Underway::start(&mut settings(&out));
    underway.wait_for("step", 2);
    underway.interrupt();
    underway.finish();
    let lines = succeed(&["train", "--resume", &out]);
    assert_eq!(lines[0]["batch"], 4);
    assert_eq!(lines[0]["micro_batch"], 2);
    assert_ne!(lines[0]["step"], 0);
    assert!(settings(&whole).output().unwrap().status.success());
    assert!(weights(&out) == weights(&whole), "the weights differ");
    assert_eq!(metrics(&out), metrics(&whole));
}

#[test]
fn a_budget_is_met_in_parts_where_that_was_allowed() {
    let source = shared().source();
    let fit = succeed(&["fit", "--batch", "20", "--json"]);
    let half = &fit[0]["micro_batches"][0];
    assert_eq!(half["images"], 10);
    let budget = half["least"].to_string();
    let train = |more: &[&'static str]| {
        let mut arguments = vec!["train", "--data", &source, "--batch", "20", "--steps", "1"];
        arguments.extend(["--budget", &budget, "--seed", "1"]);
        arguments.extend(more);
        run(&arguments)
    };
    // Batch norms would take other statistics.
    let message = refusal(&train(&[]));
    assert_names(&message, &["too small", "micro-batches of 10"]);
    let output = train(&["--micro-batch", "auto", "--json"]);
    let lines = json_lines(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(lines[0]["micro_batch"], 10, "{:?}", output.stderr);
    assert!(lines[0]["reserved_bytes"].as_u64().unwrap() <= budget.parse().unwrap());
}

#[test]
fn a_run_goes_on_with_the_variants_written_down() {
    let (_folder, out) = scratch("variants");
    let mut underway = start(&out);
    underway.wait_for("step", 2);
    underway.interrupt();
    underway.finish();
    let file = Path::new(&out).join("variants.json");
    let noted = fs::read_to_string(&file).unwrap();
    let variants: Value = serde_json::from_str(&noted).unwrap();
    let first = "forward 4x3x32x32 to 16, 3x3, padding 1x1";
    assert!(variants[first].is_string(), "{noted}");
    fs::write(&file, noted.replacen("\"blocks ", "\"bricks ", 1)).unwrap();
    assert_names(
        &refuse(&["train", "--resume", &out]),
        &["variants.json", "`bricks "],
    );
    // Other variants, other sums: they come from the file.
    let other = noted
        .replace(" lanes 8 ", " lanes 16 ")
        .replace(" lanes 32 ", " lanes 16 ");
    fs::write(&file, other).unwrap();
    succeed(&["train", "--resume", &out]);
    assert!(weights(&out) != weights(shared().reference()));
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let (_folder, out) = scratch("in two parts");
    let mut underway = start(&out);
    underway.wait_for("step", 2);
    underway.interrupt();
    let output = underway.finish();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert_names(
        &message,
        &[&format!("go on with: smidgen train --resume '{out}'")],
    );
    let lines = json_lines(std::str::from_utf8(&output.stdout).unwrap());
    let end = lines.last().unwrap();
    assert_eq!(end["end"], "interrupted");
    let done = end["steps"].as_u64().unwrap();
    assert!((2..STEPS).contains(&done), "{done}");
    assert!(!Path::new(&out).join("weights.safetensors").exists());

    let lines = succeed(&["train", "--resume", &out]);
    assert_eq!(lines[0]["step"], done);
    assert_ends_as_reference(&out);

    // Resumed once more, a run that is finished changes nothing and says the same.
    let again = succeed(&["train", "--resume", &out]);
    assert_eq!(again.last(), lines.last());
    assert_ends_as_reference(&out);
}

#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    let has_prlimit = Command::new("prlimit").arg("--version").output().is_ok();
    if !has_prlimit {
        say_skipped("`prlimit`, which makes the disk seem full, is missing");
        return;
    }
    let (_folder, out) = scratch("full");
    let mut underway = Underway::start(
        Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_smidgen"))
            .args(shared().settings())
            .args(["--out", &out]),
    );
    underway.wait_for("checkpoint", 1);
    // From now on no file may grow beyond this, which the metrics do not reach.
    let limited = Command::new("prlimit")
        .args(["--fsize=1000000", "--pid", &underway.id()])
        .status();
    assert!(limited.unwrap().success());
    let message = refusal(&underway.finish());
    assert_names(
        &message,
        &["checkpoint.safetensors", "untouched", "too large"],
    );
    assert!(!Path::new(&out).join("checkpoint.safetensors.part").exists());

    let lines = succeed(&["train", "--resume", &out]);
    assert!((1..STEPS).contains(&lines[0]["step"].as_u64().unwrap()));
    assert_ends_as_reference(&out);
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_refused_and_left_alone() {
    let (_folder, out) = scratch("damaged");
    let folder = Path::new(&out);
    fs::create_dir(folder).unwrap();
    for file in ["run.json", "checkpoint.safetensors", "metrics.jsonl"] {
        fs::copy(shared().reference().join(file), folder.join(file)).unwrap();
    }
    let file = folder.join("checkpoint.safetensors");
    let sound = fs::read(&file).unwrap();
    let resume = ["train", "--resume", &out];
    let cases: [(&[u8], &[&str]); 3] = [
        (
            &sound[..sound.len() / 2],
            &["checkpoint.safetensors", "sound safetensors"],
        ),
        (b"", &["checkpoint.safetensors", "sound safetensors"]),
        (
            &fs::read(shared().weights()).unwrap(),
            &["checkpoint.safetensors", "no checkpoint"],
        ),
    ];
    for (bytes, words) in cases {
        fs::write(&file, bytes).unwrap();
        assert_names(&refuse(&resume), words);
        assert!(fs::read(&file).unwrap() == bytes);
    }
    fs::write(&file, &sound).unwrap();
    let settings = fs::read_to_string(folder.join("run.json")).unwrap();
    for (old, new, words) in [
        (
            r#""seed": 7"#,
            r#""seed": 9"#,
            &["other settings", "seed"][..],
        ),
        (
            r#""resnet20""#,
            r#""resnet32""#,
            &["other settings", "model"],
        ),
        ("{", "[", &["run.json", "settings"]),
    ] {
        assert!(settings.contains(old));
        fs::write(folder.join("run.json"), settings.replace(old, new)).unwrap();
        assert_names(&refuse(&resume), words);
    }
    assert_eq!(metrics(&out), metrics(shared().reference()));
    assert!(fs::read(&file).unwrap() == sound);
}

#[test]
fn a_line_that_a_crash_cut_off_is_dropped() {
    let (_folder, out) = scratch("cut");
    let mut underway = start(&out);
    underway.wait_for("checkpoint", 3);
    underway.kill();
    let file = Path::new(&out).join("metrics.jsonl");
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str(r#"{"event":"step","step":3,"lo"#);
    fs::write(&file, text).unwrap();
    succeed(&["train", "--resume", &out]);
    assert_ends_as_reference(&out);
}

#[test]
fn only_a_run_can_be_resumed_and_none_is_overwritten() {
    let (folder, missing) = scratch("missing");
    assert_names(
        &refuse(&["train", "--resume", &missing]),
        &["no run", &missing],
    );
    let empty = folder.path().display().to_string();
    assert_names(&refuse(&["train", "--resume", &empty]), &["no run", &empty]);
    assert!(fs::read_dir(&empty).unwrap().next().is_none());

    let reference = shared().reference();
    let before = weights(&reference);
    let out = reference.display().to_string();
    let output = run(&["train", "--data", &shared().source(), "--out", &out]);
    assert_names(&refusal(&output), &[&out, "--resume", "--out"]);
    assert!(weights(&reference) == before);
}
