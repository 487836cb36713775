//! Curves as a picture.

use std::fmt::Write;

/// The picture's sides, and what it leaves for words.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 50.0;
const COLOURS: [&str; 4] = ["#888888", "#1f77b4", "#d62728", "#2ca02c"];

/// Lines of numbers from one on, over their places from one on, as SVG.
pub fn svg(title: &str, across: &str, up: &str, lines: &[(&str, Vec<f64>)]) -> String {
    let most = lines.iter().flat_map(|l| &l.1).copied().fold(1.0, f64::max);
    let count = lines.iter().map(|l| l.1.len()).max().unwrap_or(1);
    let x = |i: usize| MARGIN + (WIDTH - 2.0 * MARGIN) * i as f64 / (count - 1).max(1) as f64;
    let y = |v: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * (v - 1.0) / (most - 1.0).max(1e-9);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
        // Writing to text cannot fail.
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
    };
    text(WIDTH / 2.0, 20.0, "middle", title);
    text(WIDTH / 2.0, HEIGHT - 10.0, "middle", across);
    text(MARGIN, MARGIN - 12.0, "middle", up);
    for i in (0..count).filter(|i| *i == 0 || (i + 1) % 8 == 0) {
        text(x(i), HEIGHT - MARGIN + 16.0, "middle", &(i + 1).to_string());
    }
    for tick in (0..=4).map(|t| 1.0 + (most - 1.0) * f64::from(t) / 4.0) {
        text(MARGIN - 6.0, y(tick) + 4.0, "end", &format!("{tick:.2}"));
    }
    for (i, (name, _)) in lines.iter().enumerate() {
        text(
            WIDTH - MARGIN - 6.0,
            MARGIN + 16.0 * i as f64,
            "end",
            &format!("<tspan fill=\"{}\">{name}</tspan>", COLOURS[i % COLOURS.len()]),
        );
    }
    for (i, (_, values)) in lines.iter().enumerate() {
        let points: Vec<String> = values.iter().enumerate().map(|(i, &v)| format!("{:.1},{:.1}", x(i), y(v))).collect();
        let colour = COLOURS[i % COLOURS.len()];
        let _ = writeln!(out, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>", points.join(" "));
    }
    out + "</svg>\n"
}
