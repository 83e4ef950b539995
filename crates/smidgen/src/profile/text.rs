//! The profile as text.

use super::{Layer, Profile};
use crate::Bytes;
use std::fmt::Write as _;

impl Profile {
    /// Tables for a terminal: layers, the split of the peak, planned beside measured.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}, batch {}, on {}\n\n",
            self.network,
            self.batch,
            self.device.title()
        );
        self.layer_table(&mut text);
        self.filter_table(&mut text);
        self.bound_table(&mut text);
        self.peak_table(&mut text);
        self.measured(&mut text);
        text
    }

    fn layer_table(&self, text: &mut String) {
        let width = self.layers.iter().map(|layer| layer.name.len()).max();
        let width = width.unwrap_or(0).max("layer".len());
        let mut line = |name: &str, cells: [&str; 14]| {
            let [
                shape,
                parameters,
                work,
                stash,
                form,
                forward,
                backward,
                again,
                encode,
                decode,
                update,
                predicted,
                share,
                error,
            ] = cells;
            let row = format!(
                "{name:width$} {shape:>17} {parameters:>11} {work:>9} {stash:>11} {form:>19} {forward:>10} {backward:>10} {again:>11} {encode:>10} {decode:>10} {update:>10} {predicted:>10} {share:>6} {error:>9}"
            );
            let _ = writeln!(text, "{}", row.trim_end());
        };
        let headings = [
            "shape",
            "parameters",
            "M mult-add",
            "stash",
            "form",
            "forward",
            "backward",
            "of it again",
            "encode",
            "decode",
            "update",
            "predicted",
            "peak",
            if self.compared() { "dW off" } else { "" },
        ];
        line("layer", headings);
        for layer in &self.layers {
            let cells = cells(layer);
            line(&layer.name, cells.each_ref().map(String::as_str));
        }
        let sum = |of: fn(&Layer) -> Option<f64>| {
            let times: Option<Vec<f64>> = self.layers.iter().map(of).collect();
            times.map_or_else(String::new, |times| time(times.iter().sum()))
        };
        let parameters: u64 = self.layers.iter().map(|layer| layer.parameters).sum();
        let work: u64 = self.layers.iter().map(|layer| layer.multiply_adds).sum();
        let stash: u64 = self.layers.iter().map(|layer| layer.stash_bytes).sum();
        let cells = [
            String::new(),
            parameters.to_string(),
            millions(work),
            Bytes(stash).to_string(),
            String::new(),
            sum(|layer| layer.forward_seconds),
            sum(|layer| layer.backward_seconds),
            sum(|layer| layer.again_seconds),
            sum(|layer| layer.encode_seconds),
            sum(|layer| layer.decode_seconds),
            sum(|layer| layer.update_seconds),
            sum(|layer| Some(layer.predicted_seconds)),
            String::new(),
            String::new(),
        ];
        line("all", cells.each_ref().map(String::as_str));
        if self.compared() {
            text.push_str("dW off: norm of the error of the weight gradient by that of the exact one, on pictures of --data\n");
        }
    }

    /// Whether gradients were compared with the exact ones.
    fn compared(&self) -> bool {
        let mut layers = self.layers.iter();
        layers.any(|layer| layer.gradient_error.is_some())
    }

    fn filter_table(&self, text: &mut String) {
        let Some(width) = self.filters.iter().map(|filter| filter.layer.len()).max() else {
            return;
        };
        let width = width.max("filtered layer".len());
        let _ = writeln!(
            text,
            "\n{:width$} {:>5} {:>7} {:>7} {:>12} {:>14}",
            "filtered layer", "patch", "cosine", "bias", "step", "bytes"
        );
        for filter in &self.filters {
            let number = |number: Option<f64>| {
                number.map_or_else(String::new, |number| format!("{number:.3}"))
            };
            let _ = writeln!(
                text,
                "{:width$} {:>5} {:>7} {:>7} {:>9.2} ms {:>14}",
                filter.layer,
                filter.patch,
                number(filter.cosine),
                number(filter.bias),
                1e3 * filter.seconds,
                filter.bytes
            );
        }
        if self.filters.iter().any(|filter| filter.cosine.is_none()) {
            text.push_str("the bias is measured on the pictures of --data\n");
        }
    }

    fn bound_table(&self, text: &mut String) {
        let Some(width) = self.bounds.iter().map(|bound| bound.value.len()).max() else {
            return;
        };
        let width = width.max("error-bounded stash".len());
        let _ = writeln!(
            text,
            "\n{:width$} {:>12} {:>8}",
            "error-bounded stash", "error", "nonzero"
        );
        for bound in &self.bounds {
            let _ = writeln!(
                text,
                "{:width$} {:>12.5e} {:>6.1} %",
                bound.value,
                bound.error,
                100.0 * bound.nonzero
            );
        }
    }

    fn peak_table(&self, text: &mut String) {
        let memory = &self.memory;
        let at = self.steps.get(memory.peak_step);
        let what = at.map_or_else(String::new, |step| {
            format!("{} {}", step.layer, step.operation)
        });
        let _ = writeln!(
            text,
            "\n{} bytes are reserved ({}); step {} needs the most, {what}:",
            memory.peak_bytes,
            Bytes(memory.peak_bytes),
            memory.peak_step
        );
        for (category, bytes) in memory.peak_by_category() {
            let share = 100.0 * bytes as f64 / memory.peak_bytes as f64;
            let _ = writeln!(text, "  {:26} {bytes:>13} {share:5.1} %", category.name());
        }
        let _ = writeln!(text, "  {:26} {:>13}", "sum", memory.peak_bytes);
        if let Some(budget) = self.budget {
            let share = 100.0 * memory.peak_bytes as f64 / budget as f64;
            let _ = writeln!(text, "  {:26} {budget:>13} {share:5.1} % used", "budget");
        }
        if self.footprint.host > 0 {
            let bytes = self.footprint.host;
            let _ = writeln!(text, "  {:26} {bytes:>13}", "in the host's memory");
        }
    }

    fn measured(&self, text: &mut String) {
        if let Some(reserved) = &self.reserved {
            let _ = writeln!(text, "\n{:28} {:>13} {:>13}", "", "planned", "measured");
            let mut line = |name: &str, planned: u64, measured: u64| {
                let _ = writeln!(text, "{name:28} {planned:>13} {measured:>13}");
            };
            line("arena", reserved.planned_arena, reserved.arena);
            line("ledger", reserved.planned_ledger, reserved.ledger);
            if let Some(allocator) = reserved.allocator {
                line(
                    "allocator (planned: at most)",
                    self.memory.peak_bytes,
                    allocator,
                );
            }
        }
        if let Some(times) = &self.times {
            let _ = writeln!(
                text,
                "\na step: predicted {}, measured {} on the device, {} from submission to its metrics, {:.1} images/s (median of {})",
                time(times.predicted_seconds),
                time(times.device_seconds),
                time(times.step_seconds),
                f64::from(self.batch) / times.step_seconds,
                times.samples
            );
        }
    }
}

fn cells(layer: &Layer) -> [String; 14] {
    let shape = layer.shape.map_or_else(String::new, |shape| {
        let sizes = shape.map(|size| size.to_string());
        sizes.join("x")
    });
    let number = |number: u64| {
        if number == 0 {
            String::new()
        } else {
            number.to_string()
        }
    };
    let seconds = |seconds: Option<f64>| match seconds {
        Some(seconds) if seconds > 0.0 => time(seconds),
        _ => String::new(),
    };
    let stash = match layer.stash_bytes {
        0 => String::new(),
        bytes => Bytes(bytes).to_string(),
    };
    [
        shape,
        number(layer.parameters),
        if layer.multiply_adds == 0 {
            String::new()
        } else {
            millions(layer.multiply_adds)
        },
        stash,
        layer.forms.join(" "),
        seconds(layer.forward_seconds),
        seconds(layer.backward_seconds),
        seconds(layer.again_seconds),
        seconds(layer.encode_seconds),
        seconds(layer.decode_seconds),
        seconds(layer.update_seconds),
        seconds(Some(layer.predicted_seconds)),
        layer
            .of_peak
            .map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share)),
        layer
            .gradient_error
            .map_or_else(String::new, |error| format!("{:.2} %", 100.0 * error)),
    ]
}

fn millions(count: u64) -> String {
    format!("{:.1}", count as f64 / 1e6)
}

fn time(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.2} ms", 1e3 * seconds)
    } else {
        format!("{seconds:.2} s")
    }
}
