//! One chart as SVG: lines over time, on a grid, with bands where something was wrong. Pure.

use std::fmt::Write;

use jiff::Timestamp;

use super::scale::{short, ticks, time_ticks};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;

/// A chart.
pub(super) struct Chart<'a> {
    /// When its time begins.
    pub(super) begin: Timestamp,
    /// Its length.
    pub(super) seconds: u32,
    /// Height of all of it.
    pub(super) height: f64,
    /// What it shows, for those who cannot see it.
    pub(super) description: &'a str,
    pub(super) lines: Vec<Line>,
    /// From, until, what.
    pub(super) bands: Vec<(u32, u32, &'a str)>,
    /// Only whole numbers make sense.
    pub(super) whole: bool,
    /// A level to compare with.
    pub(super) level: Option<f64>,
    /// Points with an explanation: when, how high, what.
    pub(super) marks: Vec<(u32, f64, String)>,
}

/// One line of it.
pub(super) struct Line {
    /// Class of its colour.
    pub(super) class: &'static str,
    /// It keeps its height until the next point. Else points are joined.
    pub(super) stepped: bool,
    /// It is filled down to 0.
    pub(super) filled: bool,
    /// Second and height; without a height the line is broken.
    pub(super) points: Vec<(u32, Option<f64>)>,
}

impl Chart<'_> {
    fn highest(&self) -> f64 {
        let values = self.lines.iter().flat_map(|line| line.points.iter().filter_map(|(_, value)| *value));
        values.fold(0.0, f64::max)
    }

    /// The level, if it is shown: one far above everything would press it flat.
    pub(super) fn level(&self) -> Option<f64> {
        self.level.filter(|level| *level <= self.highest() * 2.0)
    }

    /// The chart as an element of a page.
    pub(super) fn svg(&self) -> String {
        let (highest, level) = (self.highest(), self.level());
        let least = if self.whole { 4.0 } else { 0.0 };
        let ticks = ticks(highest.max(level.unwrap_or(least)).max(least));
        let top = ticks.last().copied().unwrap_or(1.0);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(self.description),
            height = self.height
        );
        self.bands(&mut svg);
        self.grid(&mut svg, &ticks, top);
        for line in &self.lines {
            self.line(&mut svg, line, top);
        }
        if let Some(level) = level {
            let y = self.y(level, top);
            let end = WIDTH - RIGHT;
            let _ = write!(svg, "<path class=\"level\" d=\"M{LEFT} {y:.1}H{end}\"/>");
        }
        for (second, value, what) in &self.marks {
            let (x, y) = (self.x(*second), self.y(*value, top));
            let what = escape(what);
            let _ = write!(
                svg,
                "<circle class=\"mark\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{what}</title></circle>"
            );
        }
        svg.push_str("</svg>");
        svg
    }

    fn x(&self, second: u32) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * f64::from(second) / f64::from(self.seconds.max(1))
    }

    fn y(&self, value: f64, top: f64) -> f64 {
        let height = self.height - TOP - BOTTOM;
        TOP + height * (1.0 - value / top)
    }

    fn bands(&self, svg: &mut String) {
        for (from, until, what) in &self.bands {
            let (x, width) = (self.x(*from), (self.x(*until) - self.x(*from)).max(2.0));
            let (height, what) = (self.height - TOP - BOTTOM, escape(what));
            let _ = write!(
                svg,
                "<rect class=\"band\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height:.1}\">\
                 <title>{what}</title></rect>"
            );
        }
    }

    fn grid(&self, svg: &mut String, ticks: &[f64], top: f64) {
        let end = WIDTH - RIGHT;
        for tick in ticks {
            let (y, label) = (self.y(*tick, top), short(*tick));
            let (x, below) = (LEFT - 8.0, y + 4.0);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{end}\"/>\
                 <text class=\"number\" x=\"{x}\" y=\"{below:.1}\">{label}</text>"
            );
        }
        for (second, label) in time_ticks(self.begin, self.seconds, 9) {
            let (x, y) = (self.x(second), self.height - 6.0);
            // The last one would leave the picture.
            let class = if x > WIDTH - RIGHT - 24.0 { "time last" } else { "time" };
            let _ = write!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{label}</text>");
        }
    }

    fn line(&self, svg: &mut String, line: &Line, top: f64) {
        let (mut path, mut area) = (String::new(), String::new());
        for piece in line.points.split(|(_, value)| value.is_none()) {
            let mut points = piece.iter().filter_map(|(second, value)| Some((*second, (*value)?)));
            let Some((first, value)) = points.next() else { continue };
            let piece_start = path.len();
            let _ = write!(path, "M{:.1} {:.1}", self.x(first), self.y(value, top));
            let mut last = first;
            for (second, value) in points {
                let (x, y) = (self.x(second), self.y(value, top));
                let _ = match line.stepped {
                    true => write!(path, "H{x:.1}V{y:.1}"),
                    false => write!(path, "L{x:.1} {y:.1}"),
                };
                last = second;
            }
            if line.filled {
                let (from, to, floor) = (self.x(first), self.x(last), self.y(0.0, top));
                area.push_str(path.get(piece_start..).unwrap_or_default());
                let _ = write!(area, "L{to:.1} {floor:.1}H{from:.1}Z");
            }
        }
        if line.filled {
            let _ = write!(svg, "<path class=\"area {}\" d=\"{area}\"/>", line.class);
        }
        let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", line.class);
    }
}

/// Text that is safe within a page.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}
