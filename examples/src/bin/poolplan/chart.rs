//! Waste against number of classes, as bars: in a terminal, and as a picture.

use std::fmt::{self, Write};

/// What the best table of so many classes takes.
pub struct Bar {
    pub classes: usize,
    /// `None` if there is no such table.
    pub bytes: Option<usize>,
}

pub struct Chart<'a> {
    pub title: &'a str,
    pub bars: &'a [Bar],
    /// What a table without waste would take, in bytes.
    pub needed: usize,
    /// The number of classes that is planned for.
    pub chosen: usize,
}

impl Chart<'_> {
    fn waste(&self, bar: &Bar) -> Option<usize> {
        Some(bar.bytes?.saturating_sub(self.needed))
    }

    /// Waste of what is reserved: what the bars show.
    fn per_cent(&self, bar: &Bar) -> Option<f64> {
        Some(self.waste(bar)? as f64 * 100.0 / bar.bytes?.max(1) as f64)
    }

    /// A self-contained picture.
    pub fn svg(&self) -> Result<String, fmt::Error> {
        const LEFT: usize = 20;
        const TOP: usize = 60;
        const HEIGHT: usize = 240;
        const STEP: usize = 44;
        let width = LEFT * 2 + STEP * self.bars.len().max(8);
        let (height, bottom) = (TOP + HEIGHT + 60, TOP + HEIGHT);
        let mut svg = String::new();
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" font-size="11" text-anchor="middle">"#
        )?;
        writeln!(svg, "<title>Waste by number of size classes: {}</title>", Escaped(self.title))?;
        writeln!(svg, r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##)?;
        writeln!(
            svg,
            r##"<text x="{LEFT}" y="24" font-size="15" text-anchor="start" fill="#1a1a1a">{}</text>"##,
            Escaped(self.title)
        )?;
        writeln!(
            svg,
            r##"<text x="{LEFT}" y="42" text-anchor="start" fill="#555555">waste, per cent of what is reserved; {} bytes are needed</text>"##,
            self.needed
        )?;
        for (i, bar) in self.bars.iter().enumerate() {
            let middle = LEFT + STEP * i + STEP / 2;
            let chosen = bar.classes == self.chosen;
            if let (Some(bytes), Some(waste), Some(per_cent)) = (bar.bytes, self.waste(bar), self.per_cent(bar)) {
                let tall = (per_cent / 100.0 * HEIGHT as f64).round() as usize;
                let (x, y, fill) = (middle - 15, bottom - tall, if chosen { "#c2410c" } else { "#64748b" });
                writeln!(
                    svg,
                    r#"<rect x="{x}" y="{y}" width="30" height="{tall}" fill="{fill}"><title>{}: {bytes} bytes reserved, {waste} wasted</title></rect>"#,
                    classes(bar.classes)
                )?;
                let label = y - 4;
                writeln!(svg, r##"<text x="{middle}" y="{label}" fill="#1a1a1a">{per_cent:.1}</text>"##)?;
            }
            let (below, weight) = (bottom + 16, if chosen { "bold" } else { "normal" });
            writeln!(
                svg,
                r##"<text x="{middle}" y="{below}" font-weight="{weight}" fill="#1a1a1a">{}</text>"##,
                bar.classes
            )?;
        }
        let right = width - LEFT;
        writeln!(svg, r##"<path d="M{LEFT} {bottom}H{right}" stroke="#1a1a1a" fill="none"/>"##)?;
        let (middle, below) = (width / 2, bottom + 38);
        writeln!(svg, r##"<text x="{middle}" y="{below}" fill="#555555">size classes</text>"##)?;
        writeln!(svg, "</svg>")?;
        Ok(svg)
    }
}

pub fn classes(n: usize) -> String {
    format!("{n} {}", if n == 1 { "class" } else { "classes" })
}

impl fmt::Display for Chart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: f64 = 50.0;
        const PARTS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
        writeln!(f, "{:>10} {:>14} {:>14} {:>7}", "classes", "bytes", "wasted", "%")?;
        for bar in self.bars {
            let (Some(bytes), Some(waste), Some(per_cent)) = (bar.bytes, self.waste(bar), self.per_cent(bar)) else {
                writeln!(f, "{:>10} {:>14}", bar.classes, "too many")?;
                continue;
            };
            write!(f, "{:>10} {bytes:>14} {waste:>14} {per_cent:>7.1}", bar.classes)?;
            let eighths = (per_cent / 100.0 * WIDTH * 8.0).round() as usize;
            f.write_str(if eighths > 0 { "  " } else { "" })?;
            (0..eighths / 8).try_for_each(|_| f.write_char('█'))?;
            if let Some(part) = (eighths % 8).checked_sub(1) {
                f.write_char(PARTS[part])?;
            }
            f.write_str(if bar.classes == self.chosen { " <\n" } else { "\n" })?;
        }
        Ok(())
    }
}

/// Text where a picture's markup must not begin.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            // Not to be had in XML.
            c if c.is_control() => f.write_char(' '),
            c => f.write_char(c),
        })
    }
}
