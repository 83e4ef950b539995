//! What `smidgen bench` measures and compares.

use crate::support::{assert_names, refuse, refuse_usage, run, scratch, succeed};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::sync::OnceLock;

const QUICK: [&str; 3] = ["bench", "--quick", "--json"];

/// The report of one quick run, which several tests look at.
fn report() -> &'static Value {
    static REPORT: OnceLock<Value> = OnceLock::new();
    REPORT.get_or_init(|| {
        let mut lines = succeed(&QUICK);
        assert_eq!(lines.len(), 1);
        lines.remove(0)
    })
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    let names = rows(report).iter().map(|row| row["name"].as_str().unwrap());
    names.collect()
}

#[test]
fn a_quick_report_has_every_kind_of_kernel_beside_the_peak_of_its_unit() {
    let report = report();
    assert_eq!(report["smidgen_bench"], 1);
    assert_eq!(report["quick"], true);
    assert!(report["device"]["name"].is_string());
    for peak in ["gflops", "gigabytes_per_second"] {
        assert!(report["peaks"][peak].as_f64().unwrap() > 0.0);
    }
    let kinds: HashSet<&str> = rows(report)
        .iter()
        .map(|row| row["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        HashSet::from(["copy", "fma", "matrix_product", "convolution"])
    );
    let distinct: HashSet<&str> = names(report).into_iter().collect();
    assert_eq!(distinct.len(), rows(report).len());
    for row in rows(report) {
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!(number("rate") > 0.0, "{row}");
        assert!(number("fastest_seconds") > 0.0, "{row}");
        assert!(number("fastest_seconds") <= number("seconds"), "{row}");
        assert!(number("samples") >= 5.0, "{row}");
        // Not bounded: Winograd's method counts as many operations as the direct one, and does fewer.
        let peak = match row["unit"].as_str().unwrap() {
            "GB/s" => &report["peaks"]["gigabytes_per_second"],
            _ => &report["peaks"]["gflops"],
        };
        let share = number("rate") / peak.as_f64().unwrap();
        assert!((number("of_peak") - share).abs() <= 1e-6 * share, "{row}");
        assert!(!row["variant"].as_str().unwrap().is_empty(), "{row}");
    }
    for pass in ["forward", "input gradient", "weight gradient"] {
        let name = format!("conv 32x16x32x32 to 16, 3x3, {pass}");
        assert!(names(report).contains(&name.as_str()), "{name}");
    }
}

#[test]
fn a_comparison_has_a_ratio_for_every_row() {
    let (_folder, file) = scratch("old.json");
    fs::write(&file, report().to_string()).unwrap();
    let compared = succeed(&[&QUICK[..], &["--compare", &file]].concat());
    let [compared] = &compared[..] else {
        panic!("{compared:?}")
    };
    let comparison = &compared["comparison"];
    assert_eq!(comparison["same_device"], true);
    assert_eq!(comparison["only_old"], Value::Array(Vec::new()));
    assert_eq!(comparison["only_new"], Value::Array(Vec::new()));
    let ratios = comparison["ratios"].as_array().unwrap();
    let compared_names: Vec<_> = ratios
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(compared_names, names(report()));
    for ((ratio, old), new) in ratios.iter().zip(rows(report())).zip(rows(compared)) {
        assert_eq!(ratio["old"], old["rate"]);
        assert_eq!(ratio["new"], new["rate"]);
        let expected = new["rate"].as_f64().unwrap() / old["rate"].as_f64().unwrap();
        assert_eq!(ratio["ratio"].as_f64().unwrap(), expected);
    }
}

#[test]
fn markdown_is_printed_wherever_it_goes() {
    let (_folder, file) = scratch("old.json");
    fs::write(&file, report().to_string()).unwrap();
    let output = run(&["bench", "--quick", "--markdown", "--compare", &file]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let device = report()["device"]["name"].as_str().unwrap();
    assert_names(
        &text,
        &[
            "### smidgen bench",
            device,
            "| fma peak |",
            "new/old",
            "same device",
        ],
    );
    for name in names(report()) {
        let lines = text.lines().filter(|line| line.contains(name)).count();
        assert_eq!(lines, 2, "{name} in\n{text}");
    }
}

#[test]
fn a_wrong_file_is_refused_before_anything_is_measured() {
    let (_folder, file) = scratch("old.json");
    let compare = [&QUICK[..], &["--compare", &file]].concat();
    assert_names(&refuse(&compare), &["old.json", "cannot be read"]);
    for (contents, words) in [
        ("", "no JSON"),
        ("{\"event\": \"step\"}", "no report"),
        ("{\"smidgen_bench\": 99}", "another version"),
        ("{\"smidgen_bench\": 1}", "damaged"),
    ] {
        fs::write(&file, contents).unwrap();
        assert_names(
            &refuse(&compare),
            &["old.json", words, "smidgen bench --json"],
        );
    }
    let message = refuse_usage(&["bench", "--markdown", "--json"]);
    assert_names(&message, &["--markdown", "--json"]);
}
