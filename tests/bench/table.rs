//! How figures are printed: a line as soon as it is known, and all of them again at the end.

use std::fmt::Write;

/// The figures so far.
pub(crate) struct Table(String);

impl Table {
    pub(crate) fn new() -> Self {
        Self(String::new())
    }

    /// Adds a figure, with the limit that the project set itself if there is one.
    pub(crate) fn add(&mut self, what: &str, figure: &str, limit: &str) {
        let mut line = format!("{what:<58} {figure:>24}");
        if !limit.is_empty() {
            let _infallible = write!(line, "   (at most {limit})");
        }
        println!("{line}");
        self.0.push_str(&line);
        self.0.push('\n');
    }

    /// Prints all of them.
    pub(crate) fn finish(self) {
        println!("\n{}", self.0);
    }
}

/// The middle one of the samples, the upper of the two where there is no middle.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `1.23 s (1.20–1.31)`: the median and the range of samples in seconds.
pub(crate) fn seconds(samples: &[f64]) -> String {
    let (least, most) = range(samples);
    format!("{:.2} s ({least:.2}–{most:.2})", median(samples.to_vec()))
}

/// `23 ms (12–40)`: the same of samples that are short.
pub(crate) fn milliseconds(samples: &[f64]) -> String {
    let (least, most) = range(samples);
    let ms = 1000.0;
    format!("{:.0} ms ({:.0}–{:.0})", median(samples.to_vec()) * ms, least * ms, most * ms)
}

fn range(samples: &[f64]) -> (f64, f64) {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    (least, samples.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_sample() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert_eq!(seconds(&[1.0, 3.0, 2.0]), "2.00 s (1.00–3.00)");
        assert_eq!(milliseconds(&[0.001, 0.003, 0.002]), "2 ms (1–3)");
    }
}
