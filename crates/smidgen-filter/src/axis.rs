//! Which rows of a map make which patch, along one axis.

/// Row `y` belongs to patch `(y + offset) / window`, or to the first or last one where that is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Rows of the map.
    pub(crate) extent: u32,
    pub(crate) patches: u32,
    pub(crate) window: u32,
    /// Rows of padding before the first; below 0 where the map is larger than its windows.
    pub(crate) offset: i32,
}

impl Axis {
    /// `patches` windows that are centred on the map, where they do not fit evenly with the larger half of the padding first.
    pub(crate) fn new(extent: u32, patches: u32, window: u32) -> Self {
        let surplus = i64::from(patches) * i64::from(window) - i64::from(extent);
        Self {
            extent,
            patches,
            window,
            offset: (surplus + 1).div_euclid(2) as i32,
        }
    }

    /// Whether no row lies beyond the windows.
    pub(crate) fn covers(&self) -> bool {
        u64::from(self.patches) * u64::from(self.window) >= u64::from(self.extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patches(axis: Axis) -> Vec<i64> {
        (0..i64::from(axis.extent))
            .map(|row| {
                (row + i64::from(axis.offset))
                    .div_euclid(i64::from(axis.window))
                    .clamp(0, i64::from(axis.patches) - 1)
            })
            .collect()
    }

    #[test]
    fn the_padding_that_is_left_over_comes_first() {
        assert_eq!(patches(Axis::new(7, 4, 2)), [0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(
            patches(Axis::new(14, 4, 4)),
            [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
        );
        assert_eq!(patches(Axis::new(8, 4, 2)), [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_map_smaller_or_larger_than_its_windows_has_a_patch_for_every_row() {
        assert_eq!(patches(Axis::new(3, 1, 8)), [0, 0, 0]);
        assert_eq!(patches(Axis::new(1, 1, 2)), [0]);
        assert_eq!(patches(Axis::new(7, 3, 2)), [0, 0, 1, 1, 2, 2, 2]);
    }
}
