use crate::output::Output;
use serde::Serialize;
use smidgen::gpu::{AdapterSummary, GpuError, adapters};
use smidgen::{Bytes, Error};

#[derive(Serialize)]
struct Line<'a> {
    index: usize,
    name: &'a str,
    kind: String,
    backend: &'a str,
    driver: &'a str,
    max_buffer_bytes: u64,
    max_binding_bytes: u64,
    workgroup_memory_bytes: u32,
    max_invocations: u32,
    subgroup_sizes: Option<(u32, u32)>,
    timestamps: bool,
    half_precision: bool,
}

pub(crate) fn run(output: &Output) -> Result<(), Error> {
    let adapters = adapters();
    if adapters.is_empty() {
        return Err(GpuError::NoAdapter.into());
    }
    for AdapterSummary { index, facts } in &adapters {
        output.json(&Line {
            index: *index,
            name: &facts.name,
            kind: facts.kind.to_string(),
            backend: &facts.backend,
            driver: &facts.driver,
            max_buffer_bytes: facts.max_buffer_bytes,
            max_binding_bytes: facts.max_binding_bytes,
            workgroup_memory_bytes: facts.workgroup_memory_bytes,
            max_invocations: facts.max_invocations,
            subgroup_sizes: facts.subgroup_sizes,
            timestamps: facts.timestamps,
            half_precision: facts.half_precision,
        });
        let subgroups = match facts.subgroup_sizes {
            Some((least, most)) if least == most => format!("subgroups of {least}"),
            Some((least, most)) => format!("subgroups of {least} to {most}"),
            None => "no subgroups".into(),
        };
        let or_no = |has: bool, what: &str| {
            if has {
                what.to_owned()
            } else {
                format!("no {what}")
            }
        };
        output.text(&format!(
            "{index}: {} ({}, {})",
            facts.name, facts.kind, facts.backend
        ));
        output.text(&format!("   driver     {}", facts.driver));
        output.text(&format!(
            "   memory     buffers up to {}, bindings up to {}, workgroup memory {}",
            Bytes(facts.max_buffer_bytes),
            Bytes(facts.max_binding_bytes),
            Bytes(u64::from(facts.workgroup_memory_bytes))
        ));
        output.text(&format!(
            "   features   {} invocations a workgroup, {subgroups}, {}, {}",
            facts.max_invocations,
            or_no(facts.half_precision, "f16"),
            or_no(facts.timestamps, "timestamps")
        ));
    }
    Ok(())
}
