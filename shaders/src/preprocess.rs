//! A small preprocessor for WGSL: imports, conditions, unrolled loops and injected constants.
//!
//! | directive | meaning |
//! |---|---|
//! | `#import common/quad` | the file `common/quad.wgsl`, once however often it is asked for |
//! | `#ifdef NAME`, `#ifndef NAME`, `#else`, `#endif` | lines kept when the define is (not) given |
//! | `#for i in 0..N`, `#endfor` | the lines once for every value, `{i}` replaced by it; a bound is a number or a define |
//!
//! A define with a value becomes a constant of the module: `TILE=4` gives `const TILE: u32 = 4u;`, `SLOPE=0.5` an `f32`,
//! any other word an alias (`storage_t=f16`). A define without a value is a flag for `#ifdef` only.

use std::collections::HashSet;

/// A name and its value; an empty value makes it a flag.
pub type Define = (String, String);

/// The text of a module after preprocessing, and where each of its lines came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// Plain WGSL.
    pub text: String,
    /// For every line of `text`, the file and the line (from 1) it was written in.
    pub origins: Vec<(String, usize)>,
}

impl Expanded {
    /// The file and line (from 1) in which line `line` (from 1) of the expanded text was written.
    #[must_use]
    pub fn origin(&self, line: usize) -> Option<(&str, usize)> {
        let (file, line) = self.origins.get(line.checked_sub(1)?)?;
        Some((file, *line))
    }
}

/// What can be wrong with a shader source; every message names the file and line as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShaderError {
    /// No such file among the sources.
    #[error("{file}:{line}: there is no shader file `{wanted}`")]
    UnknownFile {
        /// The importing file.
        file: String,
        /// The line of the import.
        line: usize,
        /// The file asked for.
        wanted: String,
    },
    /// A directive that is misspelt, unbalanced or lacks its operand.
    #[error("{file}:{line}: {what}")]
    Directive {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The WGSL compiler refused the expanded text.
    #[error("{file}:{line}: {message}")]
    Compile {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// The compiler's message.
        message: String,
    },
}

/// Expands the file `path` with `defines`; `read` gives the text of a file by its path relative to the shader folder.
///
/// # Errors
/// An unknown import, an unknown or unbalanced directive, a bound that is no number.
pub(crate) fn preprocess<'a>(
    path: &str,
    defines: &[Define],
    read: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<Expanded, ShaderError> {
    let mut expander = Expander {
        defines,
        read,
        imported: HashSet::new(),
        text: String::new(),
        origins: Vec::new(),
    };
    for (name, value) in defines.iter().filter(|(_, value)| !value.is_empty()) {
        expander.emit(&constant(name, value), "<defines>", 1);
    }
    let source = read(path).ok_or_else(|| ShaderError::UnknownFile {
        file: "<caller>".into(),
        line: 0,
        wanted: path.into(),
    })?;
    expander.file(path, source)?;
    Ok(Expanded {
        text: expander.text,
        origins: expander.origins,
    })
}

fn constant(name: &str, value: &str) -> String {
    if value.parse::<u32>().is_ok() {
        format!("const {name}: u32 = {value}u;")
    } else if value.parse::<f32>().is_ok() {
        format!("const {name}: f32 = {value};")
    } else {
        format!("alias {name} = {value};")
    }
}

struct Expander<'a, 'r> {
    defines: &'r [Define],
    read: &'r dyn Fn(&str) -> Option<&'a str>,
    imported: HashSet<String>,
    text: String,
    origins: Vec<(String, usize)>,
}

type Line<'s> = (usize, std::borrow::Cow<'s, str>);

impl Expander<'_, '_> {
    fn emit(&mut self, line: &str, file: &str, number: usize) {
        self.text.push_str(line);
        self.text.push('\n');
        self.origins.push((file.to_owned(), number));
    }

    fn file(&mut self, path: &str, source: &str) -> Result<(), ShaderError> {
        self.imported.insert(path.to_owned());
        let lines: Vec<Line<'_>> = source
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.into()))
            .collect();
        self.block(path, &lines)
    }

    fn block(&mut self, file: &str, lines: &[Line<'_>]) -> Result<(), ShaderError> {
        let mut at = 0;
        while at < lines.len() {
            let (number, line) = (lines[at].0, lines[at].1.as_ref());
            let Some(directive) = line.trim_start().strip_prefix('#') else {
                self.emit(line, file, number);
                at += 1;
                continue;
            };
            let (word, operand) = directive.split_once(' ').unwrap_or((directive, ""));
            let operand = operand.trim();
            let wrong = |what: String| ShaderError::Directive {
                file: file.into(),
                line: number,
                what,
            };
            match word.trim() {
                "import" => {
                    let path = format!("{operand}.wgsl");
                    if !self.imported.contains(&path) {
                        let source =
                            (self.read)(&path).ok_or_else(|| ShaderError::UnknownFile {
                                file: file.into(),
                                line: number,
                                wanted: path.clone(),
                            })?;
                        self.file(&path, source)?;
                    }
                    at += 1;
                }
                kind @ ("ifdef" | "ifndef") => {
                    if operand.is_empty() {
                        return Err(wrong(format!("`#{kind}` needs a name")));
                    }
                    let (middle, end) = matching(lines, at, "if")
                        .ok_or_else(|| wrong(format!("`#{kind}` without `#endif`")))?;
                    let given = self.defines.iter().any(|(name, _)| name == operand);
                    if given == (kind == "ifdef") {
                        self.block(file, &lines[at + 1..middle.unwrap_or(end)])?;
                    } else if let Some(middle) = middle {
                        self.block(file, &lines[middle + 1..end])?;
                    }
                    at = end + 1;
                }
                "for" => {
                    let (_, end) = matching(lines, at, "for")
                        .ok_or_else(|| wrong("`#for` without `#endfor`".into()))?;
                    let (name, from, to) = self.bounds(operand).ok_or_else(|| {
                        wrong(format!("`#for` wants `name in 0..N`, with numbers or defines as bounds, got `{operand}`"))
                    })?;
                    for value in from..to {
                        let (mark, value) = (format!("{{{name}}}"), value.to_string());
                        let body: Vec<Line<'_>> = lines[at + 1..end]
                            .iter()
                            .map(|(number, line)| (*number, line.replace(&mark, &value).into()))
                            .collect();
                        self.block(file, &body)?;
                    }
                    at = end + 1;
                }
                other => return Err(wrong(format!("unexpected directive `#{other}`"))),
            }
        }
        Ok(())
    }

    fn bounds<'o>(&self, operand: &'o str) -> Option<(&'o str, u32, u32)> {
        let (name, range) = operand.split_once(" in ")?;
        let (from, to) = range.split_once("..")?;
        let number = |word: &str| {
            let word = word.trim();
            word.parse().ok().or_else(|| {
                self.defines
                    .iter()
                    .find(|(name, _)| name == word)
                    .and_then(|(_, value)| value.parse().ok())
            })
        };
        Some((name.trim(), number(from)?, number(to)?))
    }
}

/// The `#else` (if any) and the end of the construct that begins at `start`.
fn matching(lines: &[Line<'_>], start: usize, kind: &str) -> Option<(Option<usize>, usize)> {
    let mut depth = 0usize;
    let mut middle = None;
    for (at, (_, line)) in lines.iter().enumerate().skip(start) {
        let Some(directive) = line.trim_start().strip_prefix('#') else {
            continue;
        };
        let word = directive.split_whitespace().next().unwrap_or("");
        if word == "for" && kind == "for" || word.starts_with("if") && kind == "if" {
            depth += 1;
        } else if word == "else" && kind == "if" && depth == 1 {
            middle = Some(at);
        } else if word == "endfor" && kind == "for" || word == "endif" && kind == "if" {
            depth -= 1;
            if depth == 0 {
                return Some((middle, at));
            }
        }
    }
    None
}
