//! Horizontal bars: a name, a bar, a number.

use std::fmt::Write;

use super::{class, escape, family, short};
use crate::pool::Pool;

const WIDTH: f64 = 760.0;
const LINE: f64 = 24.0;
const NAMES: f64 = 150.0;
const NUMBERS: f64 = 110.0;

/// A drawing of the values, shortest bar first. `id` is unique in the page.
pub(super) fn bars(id: &str, title: &str, unit: &str, values: &[(Pool, f64)]) -> String {
    let mut values: Vec<&(Pool, f64)> = values.iter().collect();
    values.sort_by(|a, b| a.1.total_cmp(&b.1));
    let most = values.last().map_or(1.0, |(_, value)| value.max(f64::MIN_POSITIVE));
    let height = LINE * values.len() as f64 + 8.0;
    let (title, unit) = (escape(title), escape(unit));
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r#"<svg class="bars" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{id}-title {id}-text">"#
    );
    let _ = writeln!(svg, r#"<title id="{id}-title">{title}</title>"#);
    let _ =
        writeln!(svg, r#"<desc id="{id}-text">Bars in {unit}; shorter is better. The table has the numbers.</desc>"#);
    for (i, (pool, value)) in values.into_iter().enumerate() {
        let top = LINE * i as f64 + 4.0;
        let length = (value / most * (WIDTH - NAMES - NUMBERS)).max(1.0);
        let (name, class, family) = (escape(pool.name), class(pool.family), family(pool.family));
        let middle = top + LINE / 2.0;
        let _ = writeln!(svg, r#"<g class="{class}"><title>{name} ({family}): {} {unit}</title>"#, short(*value));
        let _ = writeln!(svg, r#"<text class="name" x="{}" y="{middle}">{name}</text>"#, NAMES - 8.0);
        let _ = writeln!(
            svg,
            r#"<rect x="{NAMES}" y="{}" width="{length:.1}" height="{}" rx="2" />"#,
            top + 3.0,
            LINE - 6.0
        );
        let x = NAMES + length + 6.0;
        let _ = writeln!(svg, r#"<text class="number" x="{x:.1}" y="{middle}">{}</text></g>"#, short(*value));
    }
    svg.push_str("</svg>\n");
    svg
}
