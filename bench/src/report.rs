//! The tables that are printed.

/// The median of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A row beside its targets: what was measured, what is acceptable, what is excellent.
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) acceptable: f64,
    pub(crate) excellent: f64,
    /// Whether more is better.
    pub(crate) more: bool,
}

impl Target {
    fn word(&self) -> &'static str {
        let meets = |bound: f64| if self.more { self.measured >= bound } else { self.measured <= bound };
        match (meets(self.excellent), meets(self.acceptable)) {
            (true, _) => "excellent",
            (false, true) => "acceptable",
            (false, false) => "NOT MET",
        }
    }
}

/// A table of targets, as Markdown.
pub(crate) fn targets(rows: &[Target]) -> String {
    let mut text = String::from("| what | measured | acceptable | excellent | |\n|---|---|---|---|---|\n");
    for row in rows {
        let sign = if row.more { "≥" } else { "≤" };
        text.push_str(&format!(
            "| {} | {:.2} | {sign} {} | {sign} {} | {} |\n",
            row.what,
            row.measured,
            row.acceptable,
            row.excellent,
            row.word()
        ));
    }
    text
}
