//! The WGSL kernels of Smidgen.
//!
//! Shaders are plain `.wgsl` files in folders named for the crate that launches them, with shared pieces in `common/`.
//! Each folder has a table, `variants`: one row a variant, its file and its defines. All rows are expanded, parsed and
//! validated when this crate is built, so a shader that does not compile never reaches a user.
//!
//! ```
//! let expanded = smidgen_shaders::expand("ops/fill.wgsl", &[])?;
//! assert!(expanded.text.contains("@compute"));
//! # Ok::<(), smidgen_shaders::ShaderError>(())
//! ```
//!
//! Conventions every kernel keeps: entry point `main`, group 0, the uniform `params` at binding 0, then storage bindings in the
//! order inputs, outputs, all `read_write` (they are disjoint ranges of one arena buffer).
#![deny(missing_docs)]

mod accesses;
mod half;
mod preprocess;
mod wide;

pub use half::halved;
pub use preprocess::{Define, Expanded, ShaderError};
pub use wide::widened;

/// A row of a `variants` table, with what the host must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Path below the shader folder, such as `conv/forward.wgsl`.
    pub file: &'static str,
    /// Names and values, sorted by name; a flag has an empty value. Values of constants are examples: a launch may give others.
    pub defines: &'static [(&'static str, &'static str)],
    /// Invocations of a workgroup in x, y and z.
    pub workgroup_size: [u32; 3],
    /// Bytes of the uniform `params`; 0 if there is none.
    pub uniform_size: u32,
    /// Name and byte offset of every member of the uniform.
    pub uniform_fields: &'static [(&'static str, u32)],
    /// Number of storage bindings.
    pub storage_bindings: u32,
}

include!(concat!(env!("OUT_DIR"), "/generated.rs"));

/// The text of a shader file, by its path below the shader folder.
#[must_use]
pub fn source(path: &str) -> Option<&'static str> {
    SOURCES
        .binary_search_by_key(&path, |(name, _)| name)
        .ok()
        .map(|at| SOURCES[at].1)
}

/// The row of the table that a launch of `file` with these defines belongs to: the same file and the same names.
#[must_use]
pub fn variant(file: &str, defines: &[Define]) -> Option<&'static Variant> {
    VARIANTS.iter().find(|row| {
        row.file == file
            && row.defines.len() == defines.len()
            && row.defines.iter().all(|(name, value)| {
                defines
                    .iter()
                    .any(|(given, with)| given == name && value.is_empty() == with.is_empty())
            })
    })
}

/// Expands the file `path` with `defines` to plain WGSL.
///
/// # Errors
/// An unknown file or import, an unknown or unbalanced directive.
pub fn expand(path: &str, defines: &[Define]) -> Result<Expanded, ShaderError> {
    preprocess::preprocess(path, defines, &source)
}
