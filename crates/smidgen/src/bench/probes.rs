//! What the device can do at best: moving bytes, and multiplying and adding.

use super::measure::{Bench, Subject};
use super::{Kind, Row, Unit};
use crate::{Bytes, Error};
use smidgen_gpu::{DeviceKind, Region};
use smidgen_ops::elementwise::copy;
use smidgen_ops::probe::FmaPeak;

/// The first lies in memory, since it is larger than most caches; the second in the caches of many devices.
const COPIES: [u64; 2] = [64 << 20, 2 << 20];
/// Devices differ in how many chains of multiply-adds they need, and in how many fit their registers.
const CHAINS: [u32; 4] = [2, 3, 4, 8];

/// Copies of quads, small and large; their bandwidth counts bytes read plus bytes written.
pub(super) fn copies(bench: &Bench<'_>) -> Result<Vec<Row>, Error> {
    let most = bench.device.facts().max_binding_bytes & !15;
    COPIES
        .into_iter()
        .map(|bytes| {
            let bytes = bytes.min(most);
            let buffers = bench.buffers(&[bytes; 2])?;
            let subject = Subject {
                kind: Kind::Copy,
                name: format!("copy {}", Bytes(bytes)),
                unit: Unit::Bandwidth,
                work: 2 * bytes,
            };
            let [input, output] = [0, 1].map(|buffer| Region::whole(buffer, bytes));
            bench.row(subject, &copy(bytes, input, output)?, &buffers)
        })
        .collect()
}

/// The fastest of a few kernels that only multiply and add.
pub(super) fn fma_peak(bench: &Bench<'_>) -> Result<Row, Error> {
    let mut best = fma(bench, CHAINS[0])?;
    for chains in &CHAINS[1..] {
        let row = fma(bench, *chains)?;
        if row.best_rate() > best.best_rate() {
            best = row;
        }
    }
    Ok(best)
}

fn fma(bench: &Bench<'_>, chains: u32) -> Result<Row, Error> {
    let facts = bench.device.facts();
    // Milliseconds a launch, whether the device is a CPU or a large GPU.
    let rounds = match facts.kind {
        DeviceKind::Software => 8,
        _ => 256,
    };
    let probe = FmaPeak {
        chains,
        rounds,
        groups: 4096,
    };
    let output = Region::whole(0, probe.output_bytes());
    let subject = Subject {
        kind: Kind::Fma,
        name: "fma peak".into(),
        unit: Unit::Arithmetic,
        work: probe.operations(),
    };
    let launches = [smidgen_ops::probe::fma_peak(&probe, facts, output)?];
    let buffers = bench.buffers(&[probe.output_bytes()])?;
    bench.row(subject, &launches, &buffers)
}
