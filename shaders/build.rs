//! Embeds every `.wgsl` file, expands and validates every row of the `variants` tables, and reflects what the host must match.
//! A shader that does not compile is a build error that names its file and line.

#[path = "src/preprocess.rs"]
#[allow(dead_code, unreachable_pub)]
mod preprocess;

use preprocess::{Define, Expanded, ShaderError, preprocess};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::var("CARGO_MANIFEST_DIR")?;
    let (mut sources, mut tables) = (BTreeMap::new(), BTreeMap::new());
    for entry in fs::read_dir(&root)? {
        let folder = entry?.path();
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !folder.is_dir() || matches!(name.as_str(), "src" | "tests" | "target") {
            continue;
        }
        println!("cargo::rerun-if-changed={name}");
        read_folder(&folder, &name, &mut sources, &mut tables)?;
    }
    println!("cargo::rerun-if-changed=src/preprocess.rs");

    let mut generated = String::from(
        "/// Every shader file: its path below the shader folder and its text.\npub static SOURCES: &[(&str, &str)] = &[\n",
    );
    for path in sources.keys() {
        writeln!(
            generated,
            "    ({path:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{path}\"))),"
        )?;
    }
    generated.push_str("];\n\n/// Every variant in use, from the `variants` tables, with what reflection says of it.\npub static VARIANTS: &[Variant] = &[\n");
    let mut failed = false;
    for (folder, table) in &tables {
        for (number, line) in table.lines().enumerate() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(file) = words.next() else { continue };
            let path = format!("{folder}/{file}");
            for defines in combinations(words) {
                match reflect(&path, &defines, &sources) {
                    Ok(variant) => generated.push_str(&variant),
                    Err(error) => {
                        failed = true;
                        println!("cargo::error={folder}/variants:{}: {error}", number + 1);
                    }
                }
            }
        }
    }
    generated.push_str("];\n");
    if failed {
        return Err("some shader variants do not compile".into());
    }
    fs::write(
        Path::new(&std::env::var("OUT_DIR")?).join("generated.rs"),
        generated,
    )?;
    Ok(())
}

/// The defines of all variants of a row. `[A]` stands for a variant with the flag A and one without, `[A|B]` for one with A, one with B
/// and one with neither.
fn combinations<'w>(words: impl Iterator<Item = &'w str>) -> Vec<Vec<Define>> {
    let define = |word: &str| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name.to_owned(), value.to_owned())
    };
    let mut rows: Vec<Vec<Define>> = vec![Vec::new()];
    for word in words {
        let optional = word
            .strip_prefix('[')
            .and_then(|word| word.strip_suffix(']'));
        let mut choices: Vec<Option<Define>> = match optional {
            Some(flags) => flags.split('|').map(|flag| Some(define(flag))).collect(),
            None => vec![Some(define(word))],
        };
        if optional.is_some() {
            choices.insert(0, None);
        }
        rows = rows
            .iter()
            .flat_map(|row| {
                choices
                    .iter()
                    .map(|choice| row.iter().chain(choice).cloned().collect())
            })
            .collect();
    }
    rows.iter_mut().for_each(|row: &mut Vec<Define>| row.sort());
    rows
}

fn read_folder(
    folder: &Path,
    name: &str,
    sources: &mut BTreeMap<String, String>,
    tables: &mut BTreeMap<String, String>,
) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if file == "variants" {
            tables.insert(name.to_owned(), fs::read_to_string(&path)?);
        } else if file.ends_with(".wgsl") {
            sources.insert(format!("{name}/{file}"), fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// One row of the generated table, or why the variant does not compile.
fn reflect(
    path: &str,
    defines: &[Define],
    sources: &BTreeMap<String, String>,
) -> Result<String, ShaderError> {
    let expanded = preprocess(path, defines, &|file| sources.get(file).map(String::as_str))?;
    let module = naga::front::wgsl::parse_str(&expanded.text)
        .map_err(|error| at(&expanded, error.location(&expanded.text), error.message()))?;
    naga::valid::Validator::new(
        naga::valid::ValidationFlags::all(),
        naga::valid::Capabilities::all(),
    )
    .validate(&module)
    .map_err(|error| {
        let mut message = error.as_inner().to_string();
        let mut cause = error.as_inner().source();
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        at(&expanded, error.location(&expanded.text), &message)
    })?;
    let whole = |what: &str| ShaderError::Compile {
        file: path.into(),
        line: 1,
        message: what.into(),
    };
    let entry = module
        .entry_points
        .iter()
        .find(|entry| entry.name == "main")
        .ok_or_else(|| whole("no entry point `main`"))?;
    let mut layouter = naga::proc::Layouter::default();
    layouter
        .update(module.to_ctx())
        .map_err(|error| whole(&error.to_string()))?;

    let (mut fields, mut uniform_size, mut storage) = (String::new(), 0, Vec::new());
    for (_, global) in module.global_variables.iter() {
        let Some(binding) = &global.binding else {
            continue;
        };
        match global.space {
            naga::AddressSpace::Uniform => {
                uniform_size = layouter[global.ty].size;
                if let naga::TypeInner::Struct { members, .. } = &module.types[global.ty].inner {
                    for member in members {
                        let name = member.name.as_deref().unwrap_or("");
                        let _ = write!(fields, "({name:?}, {}), ", member.offset);
                    }
                }
                if binding.binding != 0 {
                    return Err(whole("the uniform must be binding 0"));
                }
            }
            naga::AddressSpace::Storage { access } => {
                if !access.contains(naga::StorageAccess::STORE) {
                    return Err(whole(
                        "storage bindings must be `read_write`: they are ranges of one arena buffer",
                    ));
                }
                storage.push(binding.binding);
            }
            _ => {}
        }
    }
    storage.sort_unstable();
    let first = u32::from(uniform_size > 0);
    if storage
        .iter()
        .enumerate()
        .any(|(at, binding)| *binding != first + at as u32)
    {
        return Err(whole(
            "storage bindings must be numbered without gaps, after the uniform",
        ));
    }
    let defines: String = defines
        .iter()
        .map(|(name, value)| format!("({name:?}, {value:?}), "))
        .collect();
    Ok(format!(
        "    Variant {{ file: {path:?}, defines: &[{defines}], workgroup_size: {:?}, uniform_size: {uniform_size}, uniform_fields: &[{fields}], storage_bindings: {} }},\n",
        entry.workgroup_size,
        storage.len()
    ))
}

fn at(expanded: &Expanded, location: Option<naga::SourceLocation>, message: &str) -> ShaderError {
    let line = location.map_or(1, |location| location.line_number as usize);
    let (file, line) = expanded.origin(line).unwrap_or(("<unknown>", line));
    ShaderError::Compile {
        file: file.into(),
        line,
        message: message.into(),
    }
}
