use crate::GpuError;
use smidgen_shaders::{Define, Variant};
use std::borrow::Cow;

/// A byte range of one of the buffers a sequence is prepared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    /// Index into the list of buffers given to [`Sequence::prepare`](crate::Sequence::prepare).
    pub buffer: usize,
    /// First byte; a multiple of the device's storage alignment (256 always suffices).
    pub offset: u64,
    /// Bytes, a multiple of 4.
    pub size: u64,
}

impl Region {
    /// The first `size` bytes of a buffer.
    #[must_use]
    pub fn whole(buffer: usize, size: u64) -> Self {
        Self {
            buffer,
            offset: 0,
            size,
        }
    }
}

/// The uniform of a kernel: a `#[repr(C)]` struct of 32-bit scalars, declared with [`params!`](crate::params).
pub trait Params: bytemuck::Pod {
    /// Name and byte offset of each member, compared with what reflection finds in the shader.
    const FIELDS: &'static [(&'static str, u32)];
}

/// Declares the uniform of a kernel as a plain struct that implements [`Params`].
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident { $($(#[$field_meta:meta])* $field:ident : $kind:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq)]
        $visibility struct $name { $($(#[$field_meta])* $visibility $field: $kind),* }

        // SAFETY: `repr(C)` over 32-bit scalars only (checked by the size assertion below), so there is no padding.
        #[allow(unsafe_code)]
        unsafe impl $crate::bytemuck::Zeroable for $name {}
        // SAFETY: as above; every bit pattern of u32, i32 and f32 is a value.
        #[allow(unsafe_code)]
        unsafe impl $crate::bytemuck::Pod for $name {}

        const _: () = assert!(
            std::mem::size_of::<$name>() == 4 * [$(stringify!($field)),*].len(),
            "parameters must be 32-bit scalars"
        );

        impl $crate::Params for $name {
            const FIELDS: &'static [(&'static str, u32)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field) as u32)),*];
        }
    };
}

/// One dispatch, as a value: which shader, with which parameters, on which bytes, over which grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// Shown in profiles and errors; the shader's file name unless [`labelled`](Launch::labelled).
    pub label: Cow<'static, str>,
    /// Path of the shader, such as `conv/forward.wgsl`.
    pub shader: &'static str,
    /// Names and values, sorted by name.
    pub defines: Vec<Define>,
    /// Bytes of the uniform.
    pub params: Vec<u8>,
    /// Name and offset of the members of the uniform, as the host sees them.
    pub fields: &'static [(&'static str, u32)],
    /// Bound in this order, inputs before outputs.
    pub regions: Vec<Region>,
    /// Which of the regions hold an array of `vec4<f32>` as four f16 an element, by their place in `regions`, rising.
    pub halves: Vec<usize>,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
}

impl Launch {
    /// A launch of `shader`; a define with an empty value is a flag.
    #[must_use]
    pub fn new<P: Params>(
        shader: &'static str,
        defines: &[(&str, String)],
        params: &P,
        regions: Vec<Region>,
        workgroups: [u32; 3],
    ) -> Self {
        let mut defines: Vec<Define> = defines
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        defines.sort();
        let label = shader.trim_end_matches(".wgsl").into();
        Self {
            label,
            shader,
            defines,
            params: bytemuck::bytes_of(params).to_vec(),
            fields: P::FIELDS,
            regions,
            halves: Vec::new(),
            workgroups,
        }
    }

    /// The same launch under a name of the caller's, such as `layer1.0.conv1 forward`.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<Cow<'static, str>>) -> Self {
        self.label = label.into();
        self
    }

    /// Bindings of the regions that hold halves.
    pub(crate) fn half_bindings(&self) -> Vec<u32> {
        let first = u32::from(!self.params.is_empty());
        self.halves.iter().map(|at| *at as u32 + first).collect()
    }

    /// The row of the variants table this launch belongs to, after checking that uniform and bindings match it.
    ///
    /// # Errors
    /// [`GpuError::Launch`] if there is no such row, or its uniform or number of bindings differ.
    pub fn variant(&self) -> Result<&'static Variant, GpuError> {
        let refuse = |what: String| GpuError::Launch {
            label: self.label.to_string(),
            what,
        };
        let variant = smidgen_shaders::variant(self.shader, &self.defines).ok_or_else(|| {
            let names: Vec<_> = self
                .defines
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            refuse(format!(
                "no row `{} {}` in the table of variants",
                self.shader,
                names.join(" ")
            ))
        })?;
        if variant.uniform_fields != self.fields
            || variant.uniform_size as usize != self.params.len()
        {
            return Err(refuse(format!(
                "the uniform of {} is {:?}, the host gives {:?}",
                self.shader, variant.uniform_fields, self.fields
            )));
        }
        if variant.storage_bindings as usize != self.regions.len() {
            return Err(refuse(format!(
                "{} binds {} buffers, the host gives {}",
                self.shader,
                variant.storage_bindings,
                self.regions.len()
            )));
        }
        Ok(variant)
    }
}

/// A grid of at least `groups` workgroups, folded over x and y; the kernel's flat index is `x + y * num_workgroups.x`, and it
/// must ignore indices from `groups` on.
#[must_use]
pub fn folded_grid(groups: u64) -> [u32; 3] {
    const WIDEST: u64 = 65_535;
    if groups <= WIDEST {
        return [groups.max(1) as u32, 1, 1];
    }
    let rows = groups.div_ceil(WIDEST);
    [groups.div_ceil(rows) as u32, rows as u32, 1]
}

#[cfg(test)]
mod tests {
    use super::folded_grid;

    #[test]
    fn a_folded_grid_covers_all_groups_and_no_row_more() {
        for groups in [0, 1, 255, 65_535, 65_536, 131_071, 10_000_000] {
            let [x, y, z] = folded_grid(groups);
            assert!(x <= 65_535 && y <= 65_535 && z == 1);
            assert!(u64::from(x) * u64::from(y) >= groups);
            assert!(u64::from(x) * u64::from(y - 1) <= groups);
        }
    }
}
