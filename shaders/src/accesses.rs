//! Loads and stores of storage arrays, rewritten in the text of a kernel.

/// How storage arrays of `vec4<f32>` are declared.
pub(crate) const ELEMENT: &str = ": array<vec4<f32>>;";

/// The storage arrays of `vec4<f32>` that a text declares: the binding as it is written, and the name.
pub(crate) fn arrays(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (place, rest) = line.split_once("var<storage, read_write> ")?;
        let (_, binding) = place.split_once("@binding(")?;
        let binding = binding.trim_end().strip_suffix(')')?;
        Some((binding, rest.strip_suffix(ELEMENT)?))
    })
}

/// The number that a binding is written as: a sum of numbers and of constants of the text, which are such sums themselves.
pub(crate) fn number(text: &str, binding: &str) -> Option<u32> {
    let term = |term: &str| {
        let term = term.trim();
        if let Ok(number) = term.trim_end_matches('u').parse::<u32>() {
            return Some(number);
        }
        let declared = text.lines().find_map(|line| {
            let rest = line.strip_prefix("const ")?.strip_prefix(term)?;
            rest.strip_prefix(" =")
                .or_else(|| rest.strip_prefix(": u32 ="))
        });
        number(text, declared?.trim().strip_suffix(';')?)
    };
    binding.split('+').map(term).sum()
}

/// Has every load and store of a whole element of some arrays go through a function, and leaves the lines where they are.
pub(crate) struct Rewrite<'a> {
    /// The names of the arrays.
    pub(crate) arrays: &'a [&'a str],
    /// The function that makes a `vec4<f32>` of an element.
    pub(crate) load: &'a str,
    /// The function that makes an element of a `vec4<f32>`.
    pub(crate) store: &'a str,
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
    /// The text anew; `None` where an array is used in a way this does not know, such as a store to a single component.
    pub(crate) fn code(&self, text: &str) -> Option<String> {
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
        let Self { load, store, .. } = self;
        let (index, behind) = text.split_at(closing(text)?);
        let element = format!("{array}{}", self.code(index)?);
        let trimmed = behind.trim_start();
        for (operator, sum) in [("=", false), ("+=", true)] {
            let assigned = trimmed.strip_prefix(operator);
            if let Some(assigned) = assigned.filter(|value| !value.starts_with('=')) {
                let (value, rest) = assigned.split_at(assigned.find(';')?);
                let value = self.code(value.trim_start_matches(' '))?;
                let value = if sum {
                    format!("{load}({element}) + ({value})")
                } else {
                    value
                };
                result.push_str(&format!("{element} = {store}({value})"));
                return Some(rest);
            }
        }
        let component = trimmed.strip_prefix('.').unwrap_or(trimmed);
        let behind_component = component.trim_start_matches(is_letter).trim_start();
        let operator = behind_component.trim_start_matches(['+', '-', '*', '/', '|', '&', '^']);
        if operator.starts_with('=') && !behind_component.starts_with("==") {
            return None;
        }
        result.push_str(&format!("{load}({element})"));
        Some(behind)
    }
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
}
