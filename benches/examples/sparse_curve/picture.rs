//! The curve as a picture.

use std::fmt::Write as _;

/// A name, and at every density how many times faster than dense forward and backward are.
pub(crate) type Curve = (String, Vec<(f64, [f64; 2])>);

const COLORS: [&str; 6] = [
    "#1b6ca8", "#2a9d8f", "#7a5195", "#e07a00", "#c1121f", "#6b705c",
];
const PANEL: f64 = 380.0;
const HEIGHT: f64 = 330.0;

/// Two panels, forward and backward: sparsity across, times faster than dense upwards (logarithmic from 1/4 to 16).
pub(crate) fn draw(curves: &[Curve]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" \
         height=\"100%\" fill=\"white\"/>\n",
        2.0 * PANEL + 60.0,
        HEIGHT + 80.0 + 16.0 * curves.len().div_ceil(2) as f64
    );
    for (pass, title) in ["forward", "backward"].into_iter().enumerate() {
        panel(&mut svg, curves, pass, title);
    }
    for (at, (name, _)) in curves.iter().enumerate() {
        let (x, y) = (
            50.0 + (at % 2) as f64 * PANEL,
            HEIGHT + 72.0 + (at / 2) as f64 * 16.0,
        );
        let color = COLORS[at % COLORS.len()];
        let _ = writeln!(
            svg,
            "<path d=\"M{x} {} h20\" stroke=\"{color}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{y}\">{name}</text>",
            y - 4.0,
            x + 26.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, curves: &[Curve], pass: usize, title: &str) {
    let left = 50.0 + pass as f64 * PANEL;
    let (width, top) = (PANEL - 60.0, 30.0);
    let x = |density: f64| left + (1.0 - density) * width;
    let y = |ratio: f64| top + (HEIGHT - 40.0) * (1.0 - (ratio.log2() + 2.0) / 6.0);
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"18\" font-weight=\"bold\">{title}: times faster than dense</text>"
    );
    for power in -2..=4 {
        let ratio = 2.0_f64.powi(power);
        let (at, stroke) = (y(ratio), if power == 0 { "#444" } else { "#ddd" });
        let label = if power < 0 {
            format!("1/{}", 2_i32.pow(-power as u32))
        } else {
            format!("{ratio}")
        };
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {at:.1} h{width}\" stroke=\"{stroke}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for percent in (0..=100).step_by(20) {
        let at = left + f64::from(percent) / 100.0 * width;
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{percent} %</text>",
            HEIGHT + 8.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">sparsity</text>",
        left + width / 2.0,
        HEIGHT + 26.0
    );
    // Where published block-sparse kernels begin to pay: block 16, fp32 linear layers, A100.
    let at = left + 0.86 * width;
    let _ = writeln!(
        svg,
        "<path d=\"M{at:.1} {top} V{}\" stroke=\"#999\" stroke-dasharray=\"4 3\"/><text x=\"{:.1}\" y=\"{}\" text-anchor=\"end\" fill=\"#777\">86 %: published break-even (block 16, A100)</text>",
        HEIGHT - 10.0,
        at - 4.0,
        HEIGHT - 14.0
    );
    for (number, (_, curve)) in curves.iter().enumerate() {
        let points: Vec<String> = curve
            .iter()
            .map(|(density, ratios)| {
                format!(
                    "{:.1},{:.1}",
                    x(*density),
                    y(ratios[pass].clamp(0.25, 16.0))
                )
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            points.join(" "),
            COLORS[number % COLORS.len()]
        );
    }
}
