//! One launch over many regions of a kind: `common/table.wgsl`.

use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid};

/// Regions that one launch takes at most.
const ENTRIES: usize = 64;
const QUAD_BYTES: u64 = 16;

/// What a launch works on for one parameter.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) count: u32,
    /// One region for every binding of the table's, in their order; a binding may stand for several.
    pub(crate) regions: Vec<Region>,
    pub(crate) first_slot: u32,
    /// The launch for this parameter alone, where several regions share a binding and may be too far apart for one.
    pub(crate) alone: Option<Launch>,
}

/// The shader and what all entries have in common.
pub(crate) struct Table<'a> {
    pub(crate) shader: &'static str,
    pub(crate) flags: Vec<&'static str>,
    /// The uniform, with the member `entries` last.
    pub(crate) fields: &'static [(&'static str, u32)],
    /// What stands before the entries.
    pub(crate) head: &'a [u32],
    /// Elements that a workgroup takes.
    pub(crate) share: u32,
    /// Which binding each region of an entry lies in.
    pub(crate) bindings: &'a [usize],
    /// Which word of an entry tells where that region begins.
    pub(crate) words: &'a [usize],
    /// Bound before and behind those.
    pub(crate) before: Vec<Region>,
    pub(crate) behind: Vec<Region>,
}

impl Table<'_> {
    /// As few launches as regions that are bound at once may be far apart, in the order of the entries.
    pub(crate) fn launches(&self, facts: &DeviceFacts, entries: &[Entry]) -> Vec<Launch> {
        let (mut launches, mut rest) = (Vec::new(), entries);
        while !rest.is_empty() {
            let mut taken = 1;
            let Some(mut bound) = self.spans(facts, &rest[..1]) else {
                launches.extend(rest[0].alone.clone());
                rest = &rest[1..];
                continue;
            };
            while taken < rest.len().min(ENTRIES) {
                let Some(wider) = self.spans(facts, &rest[..=taken]) else {
                    break;
                };
                bound = wider;
                taken += 1;
            }
            let (now, later) = rest.split_at(taken);
            launches.push(self.launch(now, bound));
            rest = later;
        }
        launches
    }

    /// What is bound for these entries; `None` if the device cannot bind it at once, or two bindings would overlap.
    fn spans(&self, facts: &DeviceFacts, entries: &[Entry]) -> Option<Vec<Region>> {
        let bindings = self.bindings.iter().max()? + 1;
        let spans: Option<Vec<Region>> = (0..bindings)
            .map(|binding| {
                let regions = entries.iter().flat_map(|entry| {
                    (entry.regions.iter().zip(self.bindings))
                        .filter(move |(_, of)| **of == binding)
                        .map(|(region, _)| *region)
                });
                span(regions).filter(|span| span.size <= facts.max_binding_bytes)
            })
            .collect();
        let spans = spans?;
        let all: Vec<Region> = (self.before.iter())
            .chain(&spans)
            .chain(&self.behind)
            .copied()
            .collect();
        let apart =
            (0..all.len()).all(|at| all[..at].iter().all(|other| !overlap(*other, all[at])));
        // A single entry is bound as it is.
        (apart || entries.len() == 1).then_some(spans)
    }

    fn launch(&self, entries: &[Entry], spans: Vec<Region>) -> Launch {
        let mut params = self.head.to_vec();
        params.resize(self.head.len().next_multiple_of(4), 0);
        let mut groups = 0;
        for at in 0..ENTRIES {
            let mut words = [0; 8];
            if let Some(entry) = entries.get(at) {
                words[0] = groups;
                words[1] = entry.count;
                for ((region, binding), word) in
                    entry.regions.iter().zip(self.bindings).zip(self.words)
                {
                    let from = region.offset - spans[*binding].offset;
                    words[*word] = (from / QUAD_BYTES) as u32;
                }
                words[6] = entry.first_slot;
                groups += entry.count.div_ceil(self.share);
            } else {
                words[0] = u32::MAX;
            }
            params.extend(words);
        }
        let mut defines: Vec<(String, String)> = (self.flags.iter())
            .chain(&["TABLE"])
            .map(|flag| ((*flag).to_owned(), String::new()))
            .collect();
        defines.sort();
        Launch {
            label: self.shader.trim_end_matches(".wgsl").into(),
            shader: self.shader,
            defines,
            params: params.into_iter().flat_map(u32::to_le_bytes).collect(),
            fields: self.fields,
            regions: [self.before.clone(), spans, self.behind.clone()].concat(),
            halves: Vec::new(),
            workgroups: folded_grid(u64::from(groups)),
        }
    }
}

/// The smallest region around all of these; `None` if there are none, or they are of several buffers.
fn span(mut regions: impl Iterator<Item = Region>) -> Option<Region> {
    let first = regions.next()?;
    regions.try_fold(first, |span, region| {
        let offset = span.offset.min(region.offset);
        let end = (span.offset + span.size).max(region.offset + region.size);
        (span.buffer == region.buffer).then_some(Region {
            buffer: span.buffer,
            offset,
            size: end - offset,
        })
    })
}

fn overlap(one: Region, other: Region) -> bool {
    one.buffer == other.buffer
        && one.offset < other.offset + other.size
        && other.offset < one.offset + one.size
}
