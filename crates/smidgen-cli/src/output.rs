//! What the command says: text and a progress bar on a terminal, JSON lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use smidgen::Bytes;
use std::cell::RefCell;
use std::io::{IsTerminal, Write};

pub(crate) struct Output {
    json: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json: json || !std::io::stdout().is_terminal(),
            bar: RefCell::new(None),
        }
    }

    /// One line of JSON, or nothing on a terminal.
    pub(crate) fn json(&self, value: &impl Serialize) {
        if self.json
            && let Ok(line) = serde_json::to_string(value)
        {
            write_line(&line);
        }
    }

    /// One line for a person, or nothing where JSON is written.
    pub(crate) fn text(&self, line: &str) {
        if self.json {
            return;
        }
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(|| write_line(line)),
            None => write_line(line),
        }
    }

    /// A text that was asked for as such, wherever it goes.
    pub(crate) fn document(&self, text: &str) {
        self.finish();
        write_line(text);
    }

    /// One line of what to do next: for a person even where JSON is written, then on standard error.
    pub(crate) fn hint(&self, line: &str) {
        if self.json {
            let _ = writeln!(std::io::stderr(), "{line}");
        } else {
            self.text(line);
        }
    }

    /// Moves the progress bar.
    pub(crate) fn progress(&self, done: u64, of: u64, message: String) {
        if self.json {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(of);
            if let Ok(style) = ProgressStyle::with_template(
                "{wide_bar:.cyan/blue} {pos}/{len} [{elapsed} < {eta}]\n{msg}",
            ) {
                bar.set_style(style);
            }
            bar
        });
        bar.set_message(message);
        bar.set_position(done);
    }

    /// Says how far measuring kernels has come.
    pub(crate) fn tuning(&self, done: usize, of: usize) {
        let what = "measuring which kernels are fastest here, once (SMIDGEN_TUNE=off leaves it)";
        if self.json && done == 0 {
            self.hint(what);
        }
        self.progress(done as u64, of as u64, what.into());
    }

    /// Says something else under the progress bar.
    pub(crate) fn message(&self, message: String) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.set_message(message);
        }
    }

    /// Takes the progress bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// One message on standard error, and what to do next where there is more to say.
    pub(crate) fn error(&self, error: &dyn std::error::Error, hint: Option<&str>) {
        self.finish();
        let _ = writeln!(std::io::stderr(), "error: {error}");
        if let Some(hint) = hint {
            let _ = writeln!(std::io::stderr(), "hint: {hint}");
        }
    }
}

/// A closed pipe is no error: nobody reads any more.
fn write_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `12.34 MiB of 64.00 MiB`.
pub(crate) fn share(reserved: Bytes, budget: Option<Bytes>) -> String {
    budget.map_or_else(
        || format!("{reserved}, no budget named"),
        |budget| format!("{reserved} of {budget}"),
    )
}
