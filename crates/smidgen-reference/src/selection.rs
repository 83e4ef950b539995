//! The largest magnitudes, by sorting.

/// 1 for the `wanted` largest magnitudes, of equal ones those of lowest index; 0 for the others.
#[must_use]
pub fn top_k(values: &[f32], wanted: usize) -> Vec<u32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    // Stable, so that equal ones stay in the order of their index.
    order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()));
    let mut selected = vec![0; values.len()];
    for at in &order[..wanted] {
        selected[*at] = 1;
    }
    selected
}
