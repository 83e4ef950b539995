//! Every row of the table of variants translates to every backend, and keeps to the limits that every device has.

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use smidgen_shaders::{Define, VARIANTS, Variant, expand, halved, widened};

fn text(row: &Variant, flags: &[&str]) -> Result<String, String> {
    let flags = flags.iter().map(|flag| (*flag, ""));
    let defines: Vec<Define> = (row.defines.iter().copied())
        .chain(flags)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let expanded = expand(row.file, &defines).map_err(|error| error.to_string())?;
    Ok(expanded.text)
}

fn module(row: &Variant) -> Result<(naga::Module, ModuleInfo), String> {
    parsed(&text(row, &[])?)
}

fn parsed(text: &str) -> Result<(naga::Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .map_err(|error| error.emit_to_string(text))?;
    Ok((module, info))
}

fn spir_v(module: &naga::Module, info: &ModuleInfo) -> Result<usize, String> {
    spv::write_vec(module, info, &spv::Options::default(), None)
        .map(|words| words.len())
        .map_err(|error| error.to_string())
}

fn metal(module: &naga::Module, info: &ModuleInfo) -> Result<usize, String> {
    let options = msl::Options {
        lang_version: (2, 4),
        ..msl::Options::default()
    };
    let (text, translation) =
        msl::write_string(module, info, &options, &msl::PipelineOptions::default())
            .map_err(|error| error.to_string())?;
    for name in translation.entry_point_names {
        name.map_err(|error| error.to_string())?;
    }
    Ok(text.len())
}

fn direct_x(module: &naga::Module, info: &ModuleInfo) -> Result<usize, String> {
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_2,
        ..hlsl::Options::default()
    };
    let pipeline = hlsl::PipelineOptions::default();
    let mut text = String::new();
    let reflection = hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .map_err(|error| error.to_string())?;
    for name in reflection.entry_point_names {
        name.map_err(|error| error.to_string())?;
    }
    Ok(text.len())
}

/// Bytes of all workgroup variables.
fn workgroup_bytes(module: &naga::Module) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).expect("a valid module");
    module
        .global_variables
        .iter()
        .filter(|(_, global)| global.space == naga::AddressSpace::WorkGroup)
        .map(|(_, global)| layouter[global.ty].size)
        .sum()
}

#[test]
fn every_variant_translates_to_every_backend() {
    assert!(!VARIANTS.is_empty());
    let mut failures = Vec::new();
    for row in VARIANTS {
        let name = format!("{} {:?}", row.file, row.defines);
        let (module, info) = match module(row) {
            Ok(pair) => pair,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (backend, written) in [
            ("SPIR-V", spir_v(&module, &info)),
            ("MSL", metal(&module, &info)),
            ("HLSL", direct_x(&module, &info)),
        ] {
            match written {
                Ok(0) => failures.push(format!("{name}: {backend} came out empty")),
                Ok(_) => {}
                Err(error) => failures.push(format!("{name}: {backend}: {error}")),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_variant_with_an_array_of_vectors_is_also_valid_in_64_bit_words() {
    let mut wide = 0;
    for row in VARIANTS {
        let name = format!("{} {:?}", row.file, row.defines);
        let text = text(row, &["SOFTWARE"]).expect("an expanded row");
        parsed(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let Some(widened) = widened(&text) else {
            continue;
        };
        let (module, info) = parsed(&widened).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(spir_v(&module, &info).is_ok(), "{name}");
        assert_eq!(
            text.lines().count(),
            widened
                .lines()
                .position(|line| line.starts_with("fn wide_load"))
                .unwrap_or(0)
                - 1,
            "{name}: lines moved"
        );
        wide += 1;
    }
    assert!(
        wide * 4 > VARIANTS.len() * 3,
        "{wide} of {}",
        VARIANTS.len()
    );
}

#[test]
fn every_array_of_vectors_of_every_variant_can_be_held_in_halves() {
    let mut failures = Vec::new();
    let both = VARIANTS
        .iter()
        .flat_map(|row| [(row, [].as_slice()), (row, &["SOFTWARE"])]);
    for (row, flags) in both {
        let name = format!("{} {:?} {flags:?}", row.file, row.defines);
        let text = text(row, flags).expect("an expanded row");
        let bindings: Vec<u32> = (0..=row.storage_bindings)
            .filter(|binding| halved(&text, &[*binding]).is_some())
            .collect();
        let arrays = text.lines().filter(|line| {
            line.contains("var<storage, read_write>") && line.ends_with(": array<vec4<f32>>;")
        });
        let arrays = arrays.count();
        if arrays != bindings.len() {
            failures.push(format!("{name}: {bindings:?} of {arrays} arrays"));
        }
        let Some(halved) = halved(&text, &bindings).filter(|_| arrays > 0) else {
            continue;
        };
        match parsed(&halved) {
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok((module, info)) => {
                for written in [
                    spir_v(&module, &info),
                    metal(&module, &info),
                    direct_x(&module, &info),
                ] {
                    failures.extend(written.err().map(|error| format!("{name}: {error}")));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_variant_keeps_to_the_limits_of_every_device() {
    for row in VARIANTS {
        let name = format!("{} {:?}", row.file, row.defines);
        assert!(row.storage_bindings <= 8, "{name}: storage bindings");
        let invocations: u32 = row.workgroup_size.iter().product();
        assert!((1..=256).contains(&invocations), "{name}: invocations");
        let (module, _) = module(row).expect("a valid module");
        let bytes = workgroup_bytes(&module);
        assert!(
            bytes <= 16 * 1024,
            "{name}: {bytes} bytes of workgroup memory"
        );
    }
}

#[test]
fn no_two_rows_are_the_same_variant() {
    let mut names: Vec<_> = VARIANTS
        .iter()
        .map(|row| {
            let defines: Vec<_> = row.defines.iter().map(|(name, _)| name).collect();
            (row.file, defines)
        })
        .collect();
    let rows = names.len();
    names.sort();
    names.dedup();
    assert_eq!(
        names.len(),
        rows,
        "a launch finds only the first of equal rows"
    );
}
