//! Storage of `vec4<f32>` read and written as pairs of 64-bit words.
//!
//! A software device checks and loads every word of every invocation on its own: half the words, half the cost. The bits are the same.

const ELEMENT: &str = ": array<vec4<f32>>;";

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
    let mut arrays = Vec::new();
    for line in text.lines().filter(|line| line.ends_with(ELEMENT)) {
        let (_, rest) = line.split_once("var<storage, read_write> ")?;
        arrays.push(rest.strip_suffix(ELEMENT)?);
    }
    if arrays.is_empty() {
        return None;
    }
    let declared = text.replace(ELEMENT, ": array<vec2<u64>>;");
    let mut result = Rewrite { arrays: &arrays }.code(&declared)?;
    result.push_str(HELPERS);
    Some(result)
}

struct Rewrite<'a> {
    arrays: &'a [&'a str],
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Index just behind the bracket that closes the one `text` begins with.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'(' => depth += 1,
            b']' | b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

impl Rewrite<'_> {
    fn code(&self, text: &str) -> Option<String> {
        let mut result = String::with_capacity(text.len() * 2);
        let mut rest = text;
        while let Some(first) = rest.bytes().next() {
            if rest.starts_with("//") {
                let (comment, behind) = rest.split_at(rest.find('\n').unwrap_or(rest.len()));
                result.push_str(comment);
                rest = behind;
            } else if is_word(first) {
                let end = rest.bytes().position(|byte| !is_word(byte));
                let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
                if self.arrays.contains(&word) && behind.starts_with('[') {
                    rest = self.access(word, behind, &mut result)?;
                } else if self.arrays.contains(&word)
                    && !behind.starts_with(':')
                    && !result.ends_with('.')
                {
                    // A pointer to it, or its length.
                    return None;
                } else {
                    result.push_str(word);
                    rest = behind;
                }
            } else {
                let width = rest.chars().next().map_or(1, char::len_utf8);
                result.push_str(&rest[..width]);
                rest = &rest[width..];
            }
        }
        Some(result)
    }

    /// Rewrites one access to `array`, of which `text` begins with the index, and returns what follows it.
    fn access<'t>(&self, array: &str, text: &'t str, result: &mut String) -> Option<&'t str> {
        let (index, behind) = text.split_at(closing(text)?);
        let element = format!("{array}{}", self.code(index)?);
        let trimmed = behind.trim_start();
        for (operator, sum) in [("=", false), ("+=", true)] {
            let assigned = trimmed.strip_prefix(operator);
            if let Some(assigned) = assigned.filter(|value| !value.starts_with('=')) {
                let (value, rest) = assigned.split_at(assigned.find(';')?);
                let value = self.code(value.trim_start_matches(' '))?;
                let value = if sum {
                    format!("wide_load({element}) + ({value})")
                } else {
                    value
                };
                result.push_str(&format!("{element} = wide_store({value})"));
                return Some(rest);
            }
        }
        let component = trimmed.strip_prefix('.').unwrap_or(trimmed);
        let behind_component = component.trim_start_matches(is_letter).trim_start();
        let operator = behind_component.trim_start_matches(['+', '-', '*', '/', '|', '&', '^']);
        if operator.starts_with('=') && !behind_component.starts_with("==") {
            return None;
        }
        result.push_str(&format!("wide_load({element})"));
        Some(behind)
    }
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
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
