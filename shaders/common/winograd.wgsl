// The one-dimensional transforms of Winograd's minimal filtering F(SIZE, 3) on ALPHA = SIZE + 2 points: SIZE outputs of a filter of three taps
// by ALPHA multiplications. Points 0, 1, -1 (SIZE = 2) and 0, 1, -1, 2, -2 (SIZE = 4), and infinity.
// A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015 (arXiv:1509.09308).

fn input_transform(d: array<vec4<f32>, ALPHA>) -> array<vec4<f32>, ALPHA> {
#ifdef LARGE
    let even = fma(vec4<f32>(-4.0), d[2], d[4]);
    let odd = fma(vec4<f32>(-4.0), d[1], d[3]);
    let even_2 = d[4] - d[2];
    let odd_2 = 2.0 * (d[3] - d[1]);
    return array<vec4<f32>, ALPHA>(
        fma(vec4<f32>(4.0), d[0], fma(vec4<f32>(-5.0), d[2], d[4])),
        even + odd, even - odd, even_2 + odd_2, even_2 - odd_2,
        fma(vec4<f32>(4.0), d[1], fma(vec4<f32>(-5.0), d[3], d[5])));
#else
    return array<vec4<f32>, ALPHA>(d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]);
#endif
}

fn weight_transform(g: array<vec4<f32>, 3>) -> array<vec4<f32>, ALPHA> {
#ifdef LARGE
    let even = (g[0] + g[2]) / 6.0;
    let odd = g[1] / 6.0;
    let even_2 = g[0] / 24.0 + g[2] / 6.0;
    let odd_2 = g[1] / 12.0;
    return array<vec4<f32>, ALPHA>(0.25 * g[0], -(even + odd), odd - even, even_2 + odd_2, even_2 - odd_2, g[2]);
#else
    let even = 0.5 * (g[0] + g[2]);
    let odd = 0.5 * g[1];
    return array<vec4<f32>, ALPHA>(g[0], even + odd, even - odd, g[2]);
#endif
}

fn output_transform(m: array<vec4<f32>, ALPHA>) -> array<vec4<f32>, SIZE> {
    let even = m[1] + m[2];
    let odd = m[1] - m[2];
#ifdef LARGE
    let even_2 = m[3] + m[4];
    let odd_2 = m[3] - m[4];
    return array<vec4<f32>, SIZE>(
        m[0] + even + even_2,
        fma(vec4<f32>(2.0), odd_2, odd),
        fma(vec4<f32>(4.0), even_2, even),
        fma(vec4<f32>(8.0), odd_2, odd) + m[5]);
#else
    return array<vec4<f32>, SIZE>(m[0] + even, odd - m[3]);
#endif
}
