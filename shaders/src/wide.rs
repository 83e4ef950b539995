//! Storage of `vec4<f32>` read and written as pairs of 64-bit words.
//!
//! A software device checks and loads every word of every invocation on its own: half the words, half the cost. The bits are the same.

use crate::accesses::{ELEMENT, Rewrite, arrays};

const HELPERS: &str = "
fn wide_load(pair: vec2<u64>) -> vec4<f32> {
    return vec4<f32>(
        bitcast<f32>(u32(pair.x)), bitcast<f32>(u32(pair.x >> 32u)),
        bitcast<f32>(u32(pair.y)), bitcast<f32>(u32(pair.y >> 32u)));
}
fn wide_pack(low: f32, high: f32) -> u64 {
    return u64(bitcast<u32>(low)) | (u64(bitcast<u32>(high)) << 32u);
}
fn wide_store(value: vec4<f32>) -> vec2<u64> {
    return vec2<u64>(wide_pack(value.x, value.y), wide_pack(value.z, value.w));
}
";

/// Expanded WGSL whose storage arrays of `vec4<f32>` are arrays of two 64-bit words instead; every load and store of a whole element is
/// rewritten, and line numbers stay. `None` where there is no such array, or where one is used in a way this does not know, such as a
/// store to a single component.
///
/// The result needs 64-bit integers.
#[must_use]
pub fn widened(text: &str) -> Option<String> {
    let arrays: Vec<&str> = arrays(text).map(|(_, name)| name).collect();
    if arrays.is_empty() {
        return None;
    }
    let declared = text.replace(ELEMENT, ": array<vec2<u64>>;");
    let rewrite = Rewrite {
        arrays: &arrays,
        load: "wide_load",
        store: "wide_store",
    };
    let mut result = rewrite.code(&declared)?;
    result.push_str(HELPERS);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "@group(0) @binding(1) var<storage, read_write> a: array<vec4<f32>>;\n";

    fn body(text: &str) -> Option<String> {
        let widened = widened(&format!("{HEAD}{text}"))?;
        assert!(
            widened.starts_with(
                "@group(0) @binding(1) var<storage, read_write> a: array<vec2<u64>>;\n"
            )
        );
        let (_, body) = widened.split_once('\n')?;
        body.strip_suffix(HELPERS).map(str::to_owned)
    }

    #[test]
    fn loads_and_stores_of_whole_elements_are_rewritten() {
        for (before, after) in [
            ("let x = a[i];", "let x = wide_load(a[i]);"),
            (
                "let x = a[b[i] + 1u].y;",
                "let x = wide_load(a[b[i] + 1u]).y;",
            ),
            (
                "let x = a[u32(a[i].x)];",
                "let x = wide_load(a[u32(wide_load(a[i]).x)]);",
            ),
            (
                "a[i] = f(a[j], c);",
                "a[i] = wide_store(f(wide_load(a[j]), c));",
            ),
            ("a[i] += x;", "a[i] = wide_store(wide_load(a[i]) + (x));"),
            ("a[i] =\n    x;", "a[i] = wide_store(\n    x);"),
            ("a[i] = b[j] * -x;", "a[i] = wide_store(b[j] * -x);"),
            (
                "if a[i].x == y { p.a = ba[i]; }",
                "if wide_load(a[i]).x == y { p.a = ba[i]; }",
            ),
            ("let y = 1; // a[i] = 2", "let y = 1; // a[i] = 2"),
        ] {
            assert_eq!(body(before).as_deref(), Some(after));
        }
    }

    #[test]
    fn what_is_not_known_is_left_as_it_is() {
        for text in [
            "a[i].x = 1.0;",
            "a[i] *= x;",
            "let p = &a;",
            "arrayLength(&a)",
        ] {
            assert_eq!(body(text), None, "{text}");
        }
        assert_eq!(widened("var<workgroup> a: array<vec4<f32>, 8>;"), None);
    }
}
