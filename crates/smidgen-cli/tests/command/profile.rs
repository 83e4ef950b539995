//! What `smidgen fit` and `smidgen profile` say, and refuse.

use crate::support::{assert_names, refuse, refuse_usage, scratch, succeed};
use std::fs;

#[test]
fn fit_tables_are_refused_below_their_least_budget_and_hold_above() {
    let arguments = ["fit", "--model", "resnet20", "--batch", "8", "--json"];
    let table = &succeed(&arguments)[0];
    let plans = table["plans"].as_array().unwrap();
    assert!(plans.len() > 3);
    let numbers = |name: &str| -> Vec<f64> {
        let numbers = plans.iter().map(|plan| plan[name].as_f64().unwrap());
        numbers.collect()
    };
    let (bytes, seconds) = (numbers("bytes"), numbers("seconds"));
    assert!(bytes.windows(2).all(|pair| pair[1] < pair[0]));
    assert!(seconds.windows(2).all(|pair| pair[0] <= pair[1]));

    let least = *bytes.last().unwrap() as u64;
    let enough = least.to_string();
    let chosen = &succeed(&[&arguments[..], &["--budget", &enough]].concat())[0];
    assert_eq!(chosen["chosen"], plans.len() as u64 - 1);
    let short = (least - 1).to_string();
    let message = refuse(&[&arguments[..], &["--budget", &short]].concat());
    assert!(message.contains(&enough), "{message}");
}

#[test]
fn a_profile_is_written_as_page_and_trace() {
    let (_folder, page) = scratch("profile.html");
    let (_other, trace) = scratch("trace.json");
    let lines = succeed(&[
        "profile", "--batch", "2", "--steps", "1", "--json", "--html", &page, "--trace", &trace,
    ]);
    let profile = &lines[0];
    let shares = profile["memory"]["peak"].as_array().unwrap();
    let sum: u64 = shares
        .iter()
        .map(|share| share["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(profile["memory"]["peak_bytes"], sum);
    assert!(
        fs::read_to_string(page)
            .unwrap()
            .contains("\"network\":\"resnet20\"")
    );
    let trace: serde_json::Value = serde_json::from_slice(&fs::read(trace).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().len() > 100);
    // The plan alone has no times, for a network that this device need not be able to run.
    let lines = succeed(&[
        "profile",
        "--plan-only",
        "--json",
        "--model",
        "resnet50",
        "--image",
        "3x224x224",
        "--batch",
        "8",
    ]);
    assert!(lines[0]["times"].is_null() && lines[0]["steps"][0]["seconds"].is_null());
    refuse_usage(&["profile", "--image", "32x32"]);
}

/// In fewer bits some gradients are off and those of the layers behind the last code are not; exactly, none is.
#[test]
fn errors_of_gradients_are_measured_on_pictures() {
    let errors = |arguments: &[&str]| -> Vec<f64> {
        let network = ["profile", "--batch", "4", "--steps", "1", "--json"];
        let data = ["--data", "shapes"];
        let profile = &succeed(&[&network[..], &data[..], arguments].concat())[0];
        let layers = profile["layers"].as_array().unwrap();
        let errors = layers.iter().map(|layer| layer["gradient_error"].as_f64());
        errors.flatten().collect()
    };
    // With room for the timestamps.
    let budget = |quality: &str| {
        let fit = &succeed(&["fit", "--batch", "4", "--quality", quality, "--json"])[0];
        let least = &fit["plans"].as_array().unwrap().last().unwrap()["bytes"];
        (least.as_u64().unwrap() + (1 << 18)).to_string()
    };
    let lossy = errors(&["--quality", "0.02", "--budget", &budget("0.02")]);
    assert_eq!(lossy.len(), 20, "19 convolutions and the classifier");
    assert!(lossy.iter().any(|error| *error > 1e-3), "{lossy:?}");
    assert!(lossy.iter().all(|error| *error < 1.0), "{lossy:?}");
    assert_eq!(errors(&["--budget", &budget("0")]), [0.0; 20]);
}

#[test]
fn filters_are_explained_and_refused() {
    let network = [
        "--model",
        "resnet20",
        "--batch",
        "4",
        "--train-last",
        "2",
        "--freeze-statistics",
        "--filter",
        "last:1",
        "--json",
    ];
    let fit = &succeed(&[&["fit"], &network[..]].concat())[0];
    let filter = &fit["filters"][0];
    assert_eq!(filter["layer"], "layer3.2.conv2");
    assert!(filter["seconds"].as_f64().unwrap() < 0.0);
    assert!(filter["bias"].is_null());
    let (_folder, page) = scratch("profile.html");
    let measured = ["--data", "shapes", "--steps", "1", "--html", &page];
    let profile = &succeed(&[&["profile"], &network[..], &measured[..]].concat())[0];
    let filter = &profile["filters"][0];
    let (cosine, bias) = (&filter["cosine"], &filter["bias"]);
    assert!((cosine.as_f64().unwrap() + bias.as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert!(cosine.as_f64().unwrap() > 0.5);
    assert!(fs::read_to_string(page).unwrap().contains("id=\"filters\""));
    for (arguments, words) in [
        (&["--filter", "auto"][..], &["`auto`", "smidgen train"][..]),
        (
            &["--filter", "last:1", "--data", "nothing:x"],
            &["`nothing:x`"],
        ),
        (
            &["--filter", "last:1", "--data", "shapes", "--plan-only"],
            &["--plan-only"],
        ),
        (
            &["--filter", "last:1", "--data", "shapes", "--image", "3x8x8"],
            &["--image"],
        ),
    ] {
        assert_names(&refuse_usage(&[&["profile"], arguments].concat()), words);
    }
    for (arguments, words) in [
        (
            &["--filter", "last:2", "--train-last", "1"][..],
            &["`layer3.2.conv1`", "frozen"][..],
        ),
        (&["--filter", "conv77"], &["`conv77`"]),
        (&["--filter", "last:1", "--patch", "0"], &["patch of 0"]),
    ] {
        assert_names(&refuse(&[&["fit"], arguments].concat()), words);
    }
}
