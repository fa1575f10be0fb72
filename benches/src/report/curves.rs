//! How long all operations but a few take, on scales that show the few.

use std::fmt::Write;

use super::latency::Distribution;
use super::{class, escape, family, short};
use crate::pool::{Family, Pool};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 160.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 56.0;
/// Between two names at the right margin.
const LINE: f64 = 17.0;

/// The share of operations beyond, as powers of ten, from where to where.
const FROM: f64 = 0.301;
const STEPS_PER_DECADE: usize = 8;

/// A drawing with a line for each pool. `id` is unique in the page.
pub(super) fn curves(id: &str, title: &str, pools: &[(Pool, &Distribution)]) -> String {
    let decades = pools.iter().map(|(_, d)| d.count() as f64).fold(10.0, f64::max).log10();
    let longest = pools.iter().map(|(_, d)| d.all_but(0.0)).fold(10.0, f64::max);
    let top = longest.log10().ceil();
    let x = |decade: f64| LEFT + (decade - FROM) / (decades - FROM) * (WIDTH - LEFT - RIGHT);
    let y = |time: f64| HEIGHT - BOTTOM - time.max(1.0).log10() / top * (HEIGHT - TOP - BOTTOM);

    let mut svg = String::new();
    let title = escape(title);
    let _ = writeln!(
        svg,
        r#"<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{id}-title {id}-text">"#
    );
    let _ = writeln!(svg, r#"<title id="{id}-title">{title}</title>"#);
    let _ = writeln!(
        svg,
        r#"<desc id="{id}-text">Nanoseconds, on a logarithmic scale, against the share of operations that take at most so long. Lower is better. The table has the numbers.</desc>"#
    );
    axes(&mut svg, decades, top, x, y);

    let mut ends: Vec<(f64, &Pool)> = Vec::new();
    for (pool, distribution) in pools {
        let mut points = String::new();
        let steps = ((decades - FROM) * STEPS_PER_DECADE as f64) as usize;
        for step in 0..=steps {
            let decade = FROM + step as f64 / STEPS_PER_DECADE as f64;
            let time = distribution.all_but(10_f64.powf(-decade));
            let _ = write!(points, "{:.1},{:.1} ", x(decade), y(time));
        }
        let longest = distribution.all_but(0.0);
        let _ = write!(points, "{:.1},{:.1}", x(decades), y(longest));
        let (name, class, family) = (escape(pool.name), class(pool.family), family(pool.family));
        let _ = writeln!(
            svg,
            r#"<g class="{class}"><title>{name} ({family}): median {} ns, longest {} ns</title><polyline points="{points}" /></g>"#,
            short(distribution.all_but(0.5)),
            short(longest)
        );
        ends.push((y(longest), pool));
    }
    names(&mut svg, ends, x(decades));
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, decades: f64, top: f64, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
    let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
    for power in 0..=top as i32 {
        let at = y(10_f64.powi(power));
        let label = match power {
            0..3 => format!("{} ns", 10_u32.pow(power as u32)),
            3..6 => format!("{} µs", 10_u32.pow(power as u32 - 3)),
            _ => format!("{} ms", 10_u64.pow(power as u32 - 6)),
        };
        let _ = writeln!(svg, r#"<line class="grid" x1="{left}" y1="{at:.1}" x2="{right}" y2="{at:.1}" />"#);
        let _ = writeln!(svg, r#"<text class="tick end" x="{}" y="{at:.1}">{label}</text>"#, left - 6.0);
    }
    let labels = ["50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
    for (i, label) in labels.into_iter().enumerate() {
        let decade = if i == 0 { FROM } else { i as f64 };
        if decade < decades - 0.4 {
            let at = x(decade);
            let _ = writeln!(svg, r#"<line class="grid" x1="{at:.1}" y1="{TOP}" x2="{at:.1}" y2="{bottom}" />"#);
            let _ = writeln!(svg, r#"<text class="tick middle" x="{at:.1}" y="{}">{label}</text>"#, bottom + 14.0);
        }
    }
    let _ = writeln!(svg, r#"<line class="grid" x1="{right}" y1="{TOP}" x2="{right}" y2="{bottom}" />"#);
    let _ = writeln!(svg, r#"<text class="tick middle" x="{right}" y="{}">longest</text>"#, bottom + 14.0);
    let middle = f64::midpoint(left, right);
    let _ = writeln!(
        svg,
        r#"<text class="axis" x="{middle}" y="{}">share of operations that take at most so long</text>"#,
        HEIGHT - 12.0
    );
}

/// The names at the right ends of the lines, pushed apart where they would cover each other.
fn names(svg: &mut String, mut ends: Vec<(f64, &Pool)>, from: f64) {
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut places: Vec<f64> = ends.iter().map(|end| end.0).collect();
    // Downwards from the first, then up again from the lowest place there is.
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + LINE);
    }
    let mut limit = HEIGHT - LINE / 2.0;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - LINE;
    }
    for ((end, pool), place) in ends.into_iter().zip(places) {
        let (name, class) = (escape(pool.name), class(pool.family));
        let mark = if pool.family == Family::Ours { "● " } else { "" };
        let to = from + 26.0;
        let _ = writeln!(
            svg,
            r#"<g class="{class}"><line class="leader" x1="{from:.1}" y1="{end:.1}" x2="{to:.1}" y2="{place:.1}" /><text class="name start" x="{:.1}" y="{place:.1}">{mark}{name}</text></g>"#,
            to + 4.0
        );
    }
}
