//! Adapters are listed best first and chosen by index or by part of their name.

use smidgen_gpu::{Device, DeviceRequest, GpuError, adapters};

fn open(adapter: impl Into<String>) -> Result<Device, GpuError> {
    Device::open(&DeviceRequest {
        adapter: Some(adapter.into()),
        ..Default::default()
    })
}

#[test]
fn adapters_are_numbered_and_the_best_comes_first() {
    let adapters = adapters();
    assert!(!adapters.is_empty(), "tests need a device");
    for (at, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter.index, at);
        assert!(!adapter.facts.name.is_empty());
        assert!(adapter.facts.max_binding_bytes >= 128 << 20);
        assert!(adapter.facts.max_invocations >= 256);
    }
    assert!(adapters.is_sorted_by_key(|adapter| adapter.facts.kind));
}

#[test]
fn an_adapter_is_chosen_by_index_or_by_part_of_its_name_in_any_case() {
    let first = &adapters()[0].facts;
    assert_eq!(open("0").unwrap().facts().name, first.name);
    let name = &first.name;
    let part: String = name.chars().take(4).collect();
    for wanted in [
        name.clone(),
        name.to_uppercase(),
        name.to_lowercase(),
        part.to_uppercase(),
    ] {
        let device = open(wanted.clone()).unwrap();
        let found = device.facts().name.to_lowercase();
        assert!(found.contains(&wanted.to_lowercase()), "{wanted}: {found}");
    }
}

#[test]
fn an_unknown_adapter_is_refused_with_a_list_of_what_there_is() {
    let names: Vec<_> = adapters()
        .into_iter()
        .map(|adapter| adapter.facts.name)
        .collect();
    for wanted in ["no such adapter", "999"] {
        let error = open(wanted).unwrap_err();
        assert!(
            matches!(&error, GpuError::UnknownAdapter { wanted: named, .. } if named == wanted)
        );
        let message = error.to_string();
        assert!(message.contains(wanted), "{message}");
        for (index, name) in names.iter().enumerate() {
            assert!(message.contains(&format!("{index}: {name}")), "{message}");
        }
    }
}

/// The environment belongs to the whole process, so each choice is made in one of its own: this test, started anew.
#[test]
fn the_environment_chooses_only_where_no_adapter_is_named() {
    const CHILD: &str = "SMIDGEN_TEST_NAMED_ADAPTER";
    if let Ok(named) = std::env::var(CHILD) {
        let opened = Device::open(&DeviceRequest {
            adapter: (!named.is_empty()).then_some(named),
            ..Default::default()
        });
        std::process::exit(match opened {
            Ok(_) => 10,
            Err(GpuError::UnknownAdapter { .. }) => 11,
            Err(_) => 12,
        });
    }
    let child = |named: &str, environment: &str| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "the_environment_chooses_only_where_no_adapter_is_named",
            ])
            .env(CHILD, named)
            .env("SMIDGEN_ADAPTER", environment)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(child("", "no such adapter"), Some(11));
    assert_eq!(child("", "0"), Some(10));
    assert_eq!(child("", ""), Some(10));
    assert_eq!(child("0", "no such adapter"), Some(10));
    assert_eq!(child("no such adapter", "0"), Some(11));
}
