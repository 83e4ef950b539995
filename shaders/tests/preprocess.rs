//! The preprocessor on small sources made up for the purpose.

// Shared with the build script in the same way: expansion of sources that are not embedded is no part of the public interface.
#[path = "../src/preprocess.rs"]
#[allow(dead_code, unreachable_pub)]
mod preprocess;

use preprocess::{Define, Expanded, ShaderError, preprocess};

fn expand(files: &[(&str, &str)], defines: &[(&str, &str)]) -> Result<Expanded, ShaderError> {
    let defines: Vec<Define> = defines
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let read = |path: &str| {
        let found = files.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| *text)
    };
    preprocess("main.wgsl", &defines, &read)
}

fn text(source: &str, defines: &[(&str, &str)]) -> String {
    expand(&[("main.wgsl", source)], defines).unwrap().text
}

#[test]
fn a_file_is_imported_once_even_in_a_circle() {
    let files = [
        ("main.wgsl", "#import common/a\n#import common/b\nmain"),
        ("common/a.wgsl", "#import common/b\na"),
        ("common/b.wgsl", "#import common/a\n#import main\nb"),
    ];
    assert_eq!(expand(&files, &[]).unwrap().text, "b\na\nmain\n");
}

#[test]
fn conditions_nest_and_choose_one_branch() {
    let source = "\
#ifdef A
#ifdef B
both
#else
only a
#endif
#else
#ifndef B
none
#else
only b
#endif
#endif
always";
    for (defines, expected) in [
        (vec![], "none\nalways\n"),
        (vec![("A", "")], "only a\nalways\n"),
        (vec![("B", "")], "only b\nalways\n"),
        (vec![("A", ""), ("B", "")], "both\nalways\n"),
    ] {
        assert_eq!(text(source, &defines), expected);
    }
}

#[test]
fn loops_nest_and_take_defines_as_bounds() {
    let source =
        "#for i in 0..2\n#for j in 1..COLUMNS\n#ifdef ON\nx{i}{j}\n#endif\n#endfor\n#endfor";
    let expanded = text(source, &[("COLUMNS", "3"), ("ON", "")]);
    assert_eq!(expanded, "const COLUMNS: u32 = 3u;\nx01\nx02\nx11\nx12\n");
    assert_eq!(text("#for i in 2..2\nnever\n#endfor\nend", &[]), "end\n");
}

#[test]
fn values_become_constants_by_their_form() {
    let defines = [
        ("TILE", "4"),
        ("SLOPE", "0.5"),
        ("storage_t", "f16"),
        ("FLAG", ""),
    ];
    assert_eq!(
        text("", &defines),
        "const TILE: u32 = 4u;\nconst SLOPE: f32 = 0.5;\nalias storage_t = f16;\n"
    );
}

#[test]
fn directive_errors_name_the_file_and_line_as_written() {
    let wrong = [
        (
            "ok\n#inport common/a",
            "main.wgsl:2: unexpected directive `#inport`",
        ),
        ("#ifdef\n#endif", "main.wgsl:1: `#ifdef` needs a name"),
        ("\n\n#ifdef A\nx", "main.wgsl:3: `#ifdef` without `#endif`"),
        ("x\n#endif", "main.wgsl:2: unexpected directive `#endif`"),
        ("x\n#else", "main.wgsl:2: unexpected directive `#else`"),
        ("#for i in 0..2\nx", "main.wgsl:1: `#for` without `#endfor`"),
        (
            "#for i in 0..2\n#ifndef A\n#endfor",
            "main.wgsl:2: `#ifndef` without `#endif`",
        ),
    ];
    for (source, expected) in wrong {
        let error = expand(&[("main.wgsl", source)], &[]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    for bounds in ["i in 0..N", "i = 0..2", "i in 0", ""] {
        let error = expand(&[("main.wgsl", &format!("x\n#for {bounds}\n#endfor"))], &[]);
        let message = error.unwrap_err().to_string();
        assert!(
            message.starts_with("main.wgsl:2: `#for` wants"),
            "{message}"
        );
    }
}

#[test]
fn errors_in_an_imported_file_name_that_file() {
    let files = [
        ("main.wgsl", "one\n#import common/a\ntwo"),
        ("common/a.wgsl", "three\n#import common/missing"),
    ];
    let error = expand(&files, &[]).unwrap_err();
    assert!(matches!(error, ShaderError::UnknownFile { .. }));
    assert_eq!(
        error.to_string(),
        "common/a.wgsl:2: there is no shader file `common/missing.wgsl`"
    );
    let files = [
        ("main.wgsl", "one\n#import common/a\ntwo"),
        ("common/a.wgsl", "\n\n#oops"),
    ];
    let error = expand(&files, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "common/a.wgsl:3: unexpected directive `#oops`"
    );
}

#[test]
fn a_compile_error_is_traced_to_the_line_it_was_written_in() {
    let files = [
        (
            "main.wgsl",
            "#import common/a\n#for i in 0..3\nfn f{i}() -> f32 { return one(); }\n#endfor\nfn last() -> f32 { return missing; }",
        ),
        (
            "common/a.wgsl",
            "// First line.\nfn one() -> f32 { return 1.0; }",
        ),
    ];
    let origin_of_error = |files: &[(&str, &str)]| {
        let expanded = expand(files, &[("TILE", "4")]).unwrap();
        let error = naga::front::wgsl::parse_str(&expanded.text).unwrap_err();
        let line = error.location(&expanded.text).unwrap().line_number;
        let (file, line) = expanded.origin(line as usize).unwrap();
        (file.to_owned(), line)
    };
    assert_eq!(origin_of_error(&files), ("main.wgsl".to_owned(), 5));
    let files = [
        files[0],
        (
            "common/a.wgsl",
            "// First line.\n\nfn one() -> f32 { return 1.0u; }",
        ),
    ];
    assert_eq!(origin_of_error(&files), ("common/a.wgsl".to_owned(), 3));
}

#[test]
fn every_line_has_an_origin() {
    let files = [
        ("main.wgsl", "#import common/a\nx\n#ifdef A\ny\n#endif\nz"),
        ("common/a.wgsl", "a"),
    ];
    let expanded = expand(&files, &[("TILE", "4")]).unwrap();
    assert_eq!(expanded.text.lines().count(), expanded.origins.len());
    assert_eq!(expanded.origin(1), Some(("<defines>", 1)));
    assert_eq!(expanded.origin(2), Some(("common/a.wgsl", 1)));
    assert_eq!(expanded.origin(4), Some(("main.wgsl", 6)));
    assert_eq!((expanded.origin(0), expanded.origin(5)), (None, None));
}

#[test]
fn the_public_interface_finds_files_and_rows() {
    let error = smidgen_shaders::expand("ops/nothing.wgsl", &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no shader file `ops/nothing.wgsl`")
    );
    assert!(smidgen_shaders::source("common/grid.wgsl").is_some());
    let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let row = |defines: &[Define]| smidgen_shaders::variant("ops/sgd.wgsl", defines);
    assert!(row(&[]).is_some());
    // In any order, but only with the very names.
    assert!(row(&[flag("NESTEROV", ""), flag("MOMENTUM", "")]).is_some());
    assert!(row(&[flag("NESTEROV", "")]).is_none());
    assert!(row(&[flag("MOMENTUM", "1")]).is_none());
}
