//! Storage of `vec4<f32>` held as four f16: half the bytes, for any kernel.

use crate::accesses::{ELEMENT, Rewrite, arrays, number};
use crate::source;

/// Expanded WGSL in which the storage arrays of `vec4<f32>` at these bindings hold four f16 an element, in two words: every load and store
/// of a whole element is rewritten to go through `common/half.wgsl`, and line numbers stay. `None` where there is no such array at one of the bindings, or
/// where one is used in a way this does not know, such as a store to a single component.
#[must_use]
pub fn halved(text: &str, bindings: &[u32]) -> Option<String> {
    let mut names = Vec::with_capacity(bindings.len());
    let mut declared = text.to_owned();
    for binding in bindings {
        let (_, name) = arrays(text).find(|(at, _)| number(text, at) == Some(*binding))?;
        let before = format!(" {name}{ELEMENT}");
        declared = declared.replace(&before, &format!(" {name}: array<vec2<u32>>;"));
        names.push(name);
    }
    let rewrite = Rewrite {
        arrays: &names,
        load: "half_load",
        store: "half_store",
    };
    let mut result = rewrite.code(&declared)?;
    result.push_str(source("common/half.wgsl")?);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "@group(0) @binding(1) var<storage, read_write> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ba: array<vec4<f32>>;
fn f() {
    a[ba[0].x] = ba[1] + a[2].y;
}
";

    #[test]
    fn arrays_at_the_bindings_are_rewritten_and_no_others() {
        let halved = halved(TEXT, &[1]).unwrap();
        let expected = TEXT
            .replace(" a: array<vec4<f32>>", " a: array<vec2<u32>>")
            .replace(
                "a[ba[0].x] = ba[1] + a[2].y;",
                "a[ba[0].x] = half_store(ba[1] + half_load(a[2]).y);",
            );
        assert!(halved.starts_with(&expected), "{halved}");
    }

    #[test]
    fn bindings_may_be_sums_of_constants() {
        let text = format!("const AFTER = 1;\nconst LAST: u32 = AFTER + 2u;\n{TEXT}")
            .replace("@binding(1)", "@binding(LAST + 1)");
        assert!(halved(&text, &[4]).is_some());
        assert_eq!(halved(&text, &[1]), None);
    }

    #[test]
    fn what_is_no_array_of_vectors_is_refused() {
        assert_eq!(halved(TEXT, &[3]), None);
        assert_eq!(halved(&TEXT.replace("] = ", "].x = "), &[1]), None);
    }
}
