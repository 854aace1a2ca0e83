//! `countersign approvals levels`

use countersign_app::{
    level::{LevelBody, LevelsBody, REQUESTS_MAX},
    text::{grouped, span},
};

use super::{
    Outcome, Output,
    client::{Connect, cell},
};

/// Shows service levels.
pub(super) async fn show(days: u32, connect: &Connect, out: &Output) -> Outcome {
    let body: LevelsBody = connect.client()?.get(&format!("/v1/service-levels?days={days}")).await?;
    out.value(&body);
    if out.json() {
        return Ok(());
    }
    let mut rows = vec![row("all requests", &body.all)];
    rows.extend(body.groups.iter().map(|of| row(&format!("group {}", of.group), &of.level)));
    rows.extend(body.tools.iter().map(|of| row(&format!("tool {}", of.tool), &of.level)));
    out.table(
        &["of", "asked", "answered", "expired", "waiting", "in time", "median", "95 %", "of answers"],
        rows,
    );
    out.line("");
    out.table(
        &["person", "tool", "effect", "answers", "approved", "median"],
        body.reviewers.iter().map(|of| {
            vec![
                of.person.clone(),
                of.tool.clone(),
                of.effect.as_str().to_owned(),
                grouped(of.answered),
                percent(Some(of.approved_share)),
                cell(of.median_ms.map(span)),
            ]
        }),
    );
    out.line("");
    let since = body.since.as_deref().map(|at| out.moment(at)).unwrap_or_default();
    out.text(&format!(
        "Requests since {since}. In time is of those answered or expired; median and 95 % are of answers alone. \
         {} superseded, which are not counted.",
        grouped(body.superseded)
    ));
    if body.cut {
        let most = u64::try_from(REQUESTS_MAX).unwrap_or(u64::MAX);
        out.note(format!("there were more: the newest {} requests are counted", grouped(most)));
    }
    Ok(())
}

fn row(of: &str, level: &LevelBody) -> Vec<String> {
    vec![
        of.to_owned(),
        grouped(level.asked),
        grouped(level.answered),
        grouped(level.expired),
        grouped(level.waiting),
        percent(level.within_deadline),
        cell(level.median_ms.map(span)),
        cell(level.p95_ms.map(span)),
        grouped(level.timed),
    ]
}

/// A share of one, in hundredths; never 100 where one is missing.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}
