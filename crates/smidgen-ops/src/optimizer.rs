//! SGD, Adam and AdamW over one flat region of parameters, in whatever layout they stand, or over many in few launches.
//!
//! Learning rate, bias corrections, gradient scale and the halt come from the [`Control`] block.
//!
//! Regions hold whole quads: `count` rounded up to a multiple of four elements; elements from `count` on are left alone.
//! Optimiser state starts as zeros.

use crate::error::check_regions;
use crate::table::{Entry, Table};
use crate::{OpsError, control::Control};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

/// Options of [`sgd`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SgdOptions {
    /// Factor of the momentum; 0 for none, and then there is no state.
    pub momentum: f32,
    /// Nesterov's form of it.
    pub nesterov: bool,
    /// Share of the parameter that is added to its gradient.
    pub weight_decay: f32,
}

/// The regions of [`sgd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SgdRegions {
    /// What is trained.
    pub parameter: Region,
    /// Its gradient.
    pub gradient: Region,
    /// The momentum; `None` exactly where the option is 0.
    pub momentum: Option<Region>,
    /// The [`Control`] block.
    pub control: Region,
}

/// How the weight decay of [`adam`] acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdamDecay {
    /// Added to the gradient, as in Adam.
    Gradient,
    /// Taken from the parameter itself, as in AdamW.
    Decoupled,
}

/// Options of [`adam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamOptions {
    /// Decay of the running mean and of the running square. In double precision, since `1 - beta` is used.
    pub betas: (f64, f64),
    /// Keeps the quotient finite where gradients are zero.
    pub epsilon: f32,
    /// Strength of the weight decay.
    pub weight_decay: f32,
    /// How it acts.
    pub decay: AdamDecay,
}

impl Default for AdamOptions {
    /// AdamW's usual constants, without weight decay.
    fn default() -> Self {
        Self {
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay: 0.0,
            decay: AdamDecay::Decoupled,
        }
    }
}

/// The regions of [`adam`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdamRegions {
    /// What is trained.
    pub parameter: Region,
    /// Its gradient.
    pub gradient: Region,
    /// Running mean of the gradient.
    pub mean: Region,
    /// Running mean of its square.
    pub square: Region,
    /// The [`Control`] block, with the corrections of [`Control::corrections`] for the same betas.
    pub control: Region,
}

params! { struct SgdParams { count: u32, weight_decay: f32 } }
params! { struct MomentumParams { count: u32, weight_decay: f32, factor: f32 } }
params! {
    struct AdamParams {
        count: u32,
        weight_decay: f32,
        first_rest: f32,
        second_beta: f32,
        second_rest: f32,
        epsilon: f32,
    }
}

/// One step of stochastic gradient descent, as PyTorch's with dampening 0.
///
/// # Errors
/// No elements, options outside their range, a momentum region without momentum or the reverse, or a region that is too small or
/// too large to bind.
pub fn sgd(
    options: &SgdOptions,
    facts: &DeviceFacts,
    regions: &SgdRegions,
    count: u32,
) -> Result<Launch, OpsError> {
    const OPERATOR: &str = "SGD";
    let &SgdOptions {
        momentum,
        nesterov,
        weight_decay,
    } = options;
    let bytes = quad_bytes(OPERATOR, count)?;
    in_range(OPERATOR, "momentum", f64::from(momentum), 1.0)?;
    in_range(
        OPERATOR,
        "weight decay",
        f64::from(weight_decay),
        f64::INFINITY,
    )?;
    if nesterov && momentum == 0.0 {
        return Err(OpsError::shape(OPERATOR, "Nesterov needs a momentum"));
    }
    if (momentum > 0.0) != regions.momentum.is_some() {
        return Err(OpsError::shape(
            OPERATOR,
            format!("a momentum of {momentum} needs a region for it exactly where it is not 0"),
        ));
    }
    check_regions(
        OPERATOR,
        facts,
        &[
            ("parameter", regions.parameter, bytes),
            ("gradient", regions.gradient, bytes),
            ("control", regions.control, Control::BYTES),
        ],
    )?;
    let mut bound = vec![regions.control, regions.gradient, regions.parameter];
    let grid = folded_grid((bytes / 16).div_ceil(256));
    let shader = "ops/sgd.wgsl";
    let Some(region) = regions.momentum else {
        let params = SgdParams {
            count,
            weight_decay,
        };
        return Ok(Launch::new(shader, &[], &params, bound, grid));
    };
    check_regions(OPERATOR, facts, &[("momentum", region, bytes)])?;
    bound.push(region);
    let mut defines = vec![("MOMENTUM", String::new())];
    if nesterov {
        defines.push(("NESTEROV", String::new()));
    }
    let params = MomentumParams {
        count,
        weight_decay,
        factor: momentum,
    };
    Ok(Launch::new(shader, &defines, &params, bound, grid))
}

/// As [`sgd`], for many parameters that share a control block: as few launches as there can be where they stand near each other.
///
/// # Errors
/// As [`sgd`].
pub fn sgd_all(
    options: &SgdOptions,
    facts: &DeviceFacts,
    updates: &[(SgdRegions, u32)],
) -> Result<Vec<Launch>, OpsError> {
    let mut entries = Vec::with_capacity(updates.len());
    for (regions, count) in updates {
        sgd(options, facts, regions, *count)?;
        let states = regions.momentum;
        entries.push(Entry {
            count: *count,
            regions: [regions.gradient, regions.parameter]
                .into_iter()
                .chain(states)
                .collect(),
            first_slot: 0,
            alone: None,
        });
    }
    let Some((first, _)) = updates.first() else {
        return Ok(Vec::new());
    };
    let head = [options.weight_decay, options.momentum].map(f32::to_bits);
    let plain = first.momentum.is_none();
    let flags = [("MOMENTUM", !plain), ("NESTEROV", options.nesterov)];
    let table = Table {
        shader: "ops/sgd.wgsl",
        flags: given(&flags),
        fields: if plain {
            &[("weight_decay", 0), ("entries", 16)]
        } else {
            &[("weight_decay", 0), ("factor", 4), ("entries", 16)]
        },
        head: &head,
        share: 1024,
        bindings: if plain { &[0, 1] } else { &[0, 1, 2] },
        words: &[3, 2, 4],
        before: vec![first.control],
        behind: Vec::new(),
    };
    Ok(table.launches(facts, &entries))
}

/// As [`adam`], for many parameters that share a control block: as few launches as there can be where they stand near each other.
///
/// # Errors
/// As [`adam`].
pub fn adam_all(
    options: &AdamOptions,
    facts: &DeviceFacts,
    updates: &[(AdamRegions, u32)],
) -> Result<Vec<Launch>, OpsError> {
    let mut entries = Vec::with_capacity(updates.len());
    for (regions, count) in updates {
        let alone = adam(options, facts, regions, *count)?;
        entries.push(Entry {
            count: *count,
            regions: vec![
                regions.gradient,
                regions.parameter,
                regions.mean,
                regions.square,
            ],
            first_slot: 0,
            alone: Some(alone),
        });
    }
    let Some((first, _)) = updates.first() else {
        return Ok(Vec::new());
    };
    let head = [
        options.weight_decay,
        (1.0 - options.betas.0) as f32,
        options.betas.1 as f32,
        (1.0 - options.betas.1) as f32,
        options.epsilon,
    ]
    .map(f32::to_bits);
    let table = Table {
        shader: "ops/adam.wgsl",
        flags: given(&[("DECOUPLED", options.decay == AdamDecay::Decoupled)]),
        fields: &[
            ("weight_decay", 0),
            ("first_rest", 4),
            ("second_beta", 8),
            ("second_rest", 12),
            ("epsilon", 16),
            ("entries", 32),
        ],
        head: &head,
        share: 1024,
        // Both states of a parameter stand beside each other.
        bindings: &[0, 1, 2, 2],
        words: &[3, 2, 4, 5],
        before: vec![first.control],
        behind: Vec::new(),
    };
    Ok(table.launches(facts, &entries))
}

fn given(flags: &[(&'static str, bool)]) -> Vec<&'static str> {
    (flags.iter())
        .filter_map(|(flag, given)| given.then_some(*flag))
        .collect()
}

/// One step of Adam or AdamW, as PyTorch's.
///
/// # Errors
/// No elements, options outside their range, or a region that is too small or too large to bind.
pub fn adam(
    options: &AdamOptions,
    facts: &DeviceFacts,
    regions: &AdamRegions,
    count: u32,
) -> Result<Launch, OpsError> {
    const OPERATOR: &str = "Adam";
    let bytes = quad_bytes(OPERATOR, count)?;
    in_range(OPERATOR, "the first beta", options.betas.0, 1.0)?;
    in_range(OPERATOR, "the second beta", options.betas.1, 1.0)?;
    let decay = f64::from(options.weight_decay);
    in_range(OPERATOR, "weight decay", decay, f64::INFINITY)?;
    let epsilon = f64::from(options.epsilon);
    in_range(OPERATOR, "epsilon", epsilon, f64::INFINITY)?;
    check_regions(
        OPERATOR,
        facts,
        &[
            ("parameter", regions.parameter, bytes),
            ("gradient", regions.gradient, bytes),
            ("mean", regions.mean, bytes),
            ("square", regions.square, bytes),
            ("control", regions.control, Control::BYTES),
        ],
    )?;
    let flag = [("DECOUPLED", String::new())];
    let defines = match options.decay {
        AdamDecay::Gradient => &[],
        AdamDecay::Decoupled => &flag[..],
    };
    Ok(Launch::new(
        "ops/adam.wgsl",
        defines,
        &AdamParams {
            count,
            weight_decay: options.weight_decay,
            first_rest: (1.0 - options.betas.0) as f32,
            second_beta: options.betas.1 as f32,
            second_rest: (1.0 - options.betas.1) as f32,
            epsilon: options.epsilon,
        },
        vec![
            regions.control,
            regions.gradient,
            regions.parameter,
            regions.mean,
            regions.square,
        ],
        folded_grid((bytes / 16).div_ceil(256)),
    ))
}

/// Bytes of `count` elements in whole quads.
fn quad_bytes(operator: &'static str, count: u32) -> Result<u64, OpsError> {
    // The highest index a kernel forms is that of the last lane of its grid, rounded up to whole folded rows.
    if count == 0 || count > 1 << 31 {
        return Err(OpsError::shape(
            operator,
            format!("{count} elements; one launch takes 1 to {}", 1u32 << 31),
        ));
    }
    Ok(u64::from(count).next_multiple_of(4) * 4)
}

fn in_range(
    operator: &'static str,
    name: &'static str,
    value: f64,
    end: f64,
) -> Result<(), OpsError> {
    if (0.0..end).contains(&value) {
        return Ok(());
    }
    Err(OpsError::shape(
        operator,
        format!("{name} is {value}, it must be from 0 to below {end}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::Params;

    #[test]
    fn parameters_match_the_shaders() {
        let single = |file| {
            let rows = smidgen_shaders::VARIANTS.iter();
            rows.filter(move |row| {
                let table = row.defines.iter().any(|(name, _)| *name == "TABLE");
                row.file == file && !table
            })
        };
        for row in single("ops/adam.wgsl") {
            assert_eq!(row.uniform_fields, AdamParams::FIELDS);
            assert_eq!(row.uniform_size as usize, size_of::<AdamParams>());
        }
        for row in single("ops/sgd.wgsl") {
            let (fields, size) = if row.defines.is_empty() {
                (SgdParams::FIELDS, size_of::<SgdParams>())
            } else {
                (MomentumParams::FIELDS, size_of::<MomentumParams>())
            };
            assert_eq!(row.uniform_fields, fields);
            assert_eq!(row.uniform_size as usize, size);
        }
    }
}
