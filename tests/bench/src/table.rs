//! The findings: rows of figures, as a table to read or as JSON.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// One figure for each round, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn one(figure: f64) -> Self {
        Self(vec![figure])
    }

    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// The figure that `share` of all figures do not exceed. The middle one of an even number is the mean of two.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return f64::NAN;
        };
        let place = share * last as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn lowest(&self) -> f64 {
        self.quantile(0.0)
    }

    fn highest(&self) -> f64 {
        self.quantile(1.0)
    }

    /// Round by round: `self` and `other` have been measured side by side.
    fn with(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        self.0
            .iter()
            .zip(&other.0)
            .map(|(one, other)| combine(*one, *other))
            .collect()
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("median", &self.median())?;
        map.serialize_entry("lowest", &self.lowest())?;
        map.serialize_entry("highest", &self.highest())?;
        map.serialize_entry("rounds", &self.0)?;
        map.end()
    }
}

/// What one of the two did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Side {
    pub(crate) figures: Series,
    /// Milliseconds of CPU per 1,000 webhooks.
    pub(crate) cpu: Option<Series>,
    /// Bytes.
    pub(crate) memory_peak: Option<u64>,
}

impl Side {
    pub(crate) fn of(figures: Series) -> Self {
        Self {
            figures,
            cpu: None,
            memory_peak: None,
        }
    }
}

/// What the gateway is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    RatioAtLeast(f64),
    /// The gateway's figure less the baseline's.
    AboveAtMost(f64),
    AtMost(f64),
    None,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) measurement: String,
    pub(crate) unit: &'static str,
    pub(crate) gateway: Side,
    pub(crate) baseline: Option<Side>,
    pub(crate) goal: Goal,
}

impl Row {
    fn ratio(&self) -> Option<Series> {
        let baseline = self.baseline.as_ref()?;
        Some(
            self.gateway
                .figures
                .with(&baseline.figures, |gateway, baseline| gateway / baseline),
        )
    }

    fn above(&self) -> Option<Series> {
        let baseline = self.baseline.as_ref()?;
        Some(
            self.gateway
                .figures
                .with(&baseline.figures, |gateway, baseline| gateway - baseline),
        )
    }

    /// What the sender takes from the server's cores does not show in this one.
    fn cpu_ratio(&self) -> Option<Series> {
        let (gateway, baseline) = (self.gateway.cpu.as_ref()?, self.baseline.as_ref()?.cpu.as_ref()?);
        Some(gateway.with(baseline, |gateway, baseline| gateway / baseline))
    }

    /// `None` where there is no goal.
    fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::RatioAtLeast(least) => Some(self.ratio()?.median() >= least),
            Goal::AboveAtMost(most) => Some(self.above()?.median() <= most),
            Goal::AtMost(most) => Some(self.gateway.figures.median() <= most),
            Goal::None => None,
        }
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let baseline = |cell: fn(&Side) -> String| self.baseline.as_ref().map_or_else(String::new, cell);
        let median = |side: &Side| figure(side.figures.median());
        let cpu = |side: &Side| side.cpu.as_ref().map_or_else(String::new, |cpu| figure(cpu.median()));
        let memory = |side: &Side| {
            side.memory_peak
                .map_or_else(String::new, |bytes| format!("{:.0}", bytes as f64 / f64::from(1 << 20)))
        };
        let spread = |ratio: Series| format!("{:.2} ({:.2}–{:.2})", ratio.median(), ratio.lowest(), ratio.highest());
        let above = || self.above().map_or_else(String::new, |above| figure(above.median()));
        [
            self.measurement.clone(),
            self.unit.to_owned(),
            median(&self.gateway),
            baseline(median),
            self.ratio().map_or_else(String::new, spread),
            match self.goal {
                Goal::RatioAtLeast(least) => format!("ratio ≥ {least:.2}"),
                Goal::AboveAtMost(most) => format!("above ≤ {most:.0}"),
                Goal::AtMost(most) => format!("≤ {most:.0}"),
                Goal::None => String::new(),
            },
            match (self.met(), self.goal) {
                (None, _) => String::new(),
                (Some(met), Goal::AboveAtMost(_)) => format!("{} (+{})", yes_or_no(met), above()),
                (Some(met), _) => yes_or_no(met).to_owned(),
            },
            cpu(&self.gateway),
            baseline(cpu),
            self.cpu_ratio().map_or_else(String::new, spread),
            memory(&self.gateway),
            baseline(memory),
        ]
    }
}

fn yes_or_no(met: bool) -> &'static str {
    if met { "yes" } else { "NO" }
}

/// Three digits that mean something.
fn figure(figure: f64) -> String {
    match figure.abs() {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("measurement", &self.measurement)?;
        map.serialize_entry("unit", self.unit)?;
        map.serialize_entry("gateway", &self.gateway)?;
        map.serialize_entry("baseline", &self.baseline)?;
        map.serialize_entry("ratio", &self.ratio())?;
        map.serialize_entry("cpu_ratio", &self.cpu_ratio())?;
        map.serialize_entry("above", &self.above())?;
        match self.goal {
            Goal::RatioAtLeast(least) => map.serialize_entry("ratio_at_least", &least)?,
            Goal::AboveAtMost(most) => map.serialize_entry("above_at_most", &most)?,
            Goal::AtMost(most) => map.serialize_entry("at_most", &most)?,
            Goal::None => {}
        }
        map.serialize_entry("met", &self.met())?;
        map.end()
    }
}

/// Everything one run found.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Table {
    rows: Vec<Row>,
    /// Cores that other processes kept busy, in every window that counts.
    pub(crate) others: Series,
}

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether every row that has a goal meets it.
    pub(crate) fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.met().unwrap_or(true))
    }
}

const COLUMNS: [&str; 12] = [
    "measurement",
    "unit",
    "gateway",
    "baseline",
    "ratio (lowest–highest)",
    "target",
    "met",
    "CPU ms/1,000",
    "baseline's",
    "CPU ratio",
    "peak MiB",
    "baseline's",
];

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = COLUMNS.map(str::to_owned);
        let lines: Vec<_> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        for (index, line) in lines.iter().enumerate() {
            f.write_str("|")?;
            for (column, cell) in line.iter().enumerate() {
                write!(f, " {cell:<width$} |", width = width(column))?;
            }
            f.write_str("\n")?;
            if index == 0 {
                f.write_str("|")?;
                for column in 0..COLUMNS.len() {
                    write!(f, "{}|", "-".repeat(width(column) + 2))?;
                }
                f.write_str("\n")?;
            }
        }
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        writeln!(
            f,
            "\nothers: {:.2} of {cores} cores busy (lowest {:.2}, highest {:.2})",
            self.others.median(),
            self.others.lowest(),
            self.others.highest()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let series = Series(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(series.quantile(0.0), 1.0);
        assert_eq!(series.median(), 2.5);
        assert_eq!(series.quantile(1.0), 4.0);
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        let row = Row {
            measurement: "accept".to_owned(),
            unit: "webhooks/s",
            gateway: Side::of(Series(vec![1.0, 20.0, 3.0])),
            baseline: Some(Side::of(Series(vec![2.0, 40.0, 4.0]))),
            goal: Goal::RatioAtLeast(0.5),
        };
        assert_eq!(row.ratio(), Some(Series(vec![0.5, 0.5, 0.75])));
        assert_eq!(row.met(), Some(true));
    }
}
