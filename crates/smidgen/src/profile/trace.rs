//! A trace that Perfetto and Chrome's viewer open.

use super::Profile;
use serde_json::{Value, json};
use smidgen_graph::Phase;

impl Profile {
    /// The step as a trace in Chrome's JSON format: a row of operations for each phase, and a graph of the tensors' bytes. Open it with
    /// <https://ui.perfetto.dev> or `chrome://tracing`. Where nothing was measured, every operation takes a millisecond.
    #[must_use]
    pub fn trace(&self) -> String {
        let name = |id: u32, name: &str| json!({"ph": "M", "pid": 1, "tid": id, "name": "thread_name", "args": {"name": name}});
        let title = format!(
            "{}, batch {}, {}",
            self.network, self.batch, self.device.name
        );
        let mut events = vec![
            json!({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": title}}),
            name(row(Phase::Prepare), "prepare"),
            name(row(Phase::Forward), "forward"),
            name(row(Phase::Loss), "loss"),
            name(row(Phase::Backward), "backward"),
            name(row(Phase::Update), "update"),
        ];
        let mut at = 0.0;
        for (index, (step, bytes)) in self.steps.iter().zip(&self.memory.live).enumerate() {
            let microseconds = step.seconds.map_or(1000.0, |seconds| 1e6 * seconds);
            events.push(
                json!({"ph": "C", "pid": 1, "ts": at, "name": "tensors", "args": {"bytes": bytes}}),
            );
            events.push(json!({
                "ph": "X", "pid": 1, "tid": row(step.phase), "ts": at, "dur": microseconds,
                "name": format!("{} {}", step.layer, step.operation), "cat": step.operation,
                "args": {
                    "step": index, "launches": step.launches, "multiply_adds": step.multiply_adds, "bytes_live": bytes,
                },
            }));
            at += microseconds;
        }
        let trace: Value = json!({"traceEvents": events, "displayTimeUnit": "ms"});
        trace.to_string()
    }
}

fn row(phase: Phase) -> u32 {
    match phase {
        Phase::Prepare => 0,
        Phase::Forward => 1,
        Phase::Loss => 2,
        Phase::Backward => 3,
        Phase::Update => 4,
    }
}
