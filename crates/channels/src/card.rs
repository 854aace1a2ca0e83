//! Adaptive Cards (1.4): a request as people see it in Microsoft Teams. What others wrote stands in runs of text, which know no
//! markup, on one line.

use countersign_app::text::one_line;
use serde_json::{Value, json};

use crate::view::{About, View};

/// So many characters of a text are shown, and no more bytes: a card of more than 28 KB is refused.
const TEXT_CHARS_MAX: usize = 1_500;
const TEXT_BYTES_MAX: usize = 2_000;

/// What an answer is called.
pub(crate) const APPROVE: &str = "approve";
pub(crate) const REFUSE: &str = "refuse";
/// The reason of a refusal is written here.
pub(crate) const REASON: &str = "reason";

/// What attaches a card.
pub(crate) const KIND: &str = "application/vnd.microsoft.card.adaptive";

/// Writes what somebody else wrote on one line, and not too long.
pub(crate) fn cut(text: &str) -> String {
    let line = one_line(text);
    let mut cut = String::new();
    for (n, c) in line.chars().enumerate() {
        if n == TEXT_CHARS_MAX || cut.len().saturating_add(c.len_utf8()) > TEXT_BYTES_MAX {
            cut.push('…');
            break;
        }
        cut.push(c);
    }
    cut
}

fn run(text: &str, bold: bool) -> Value {
    let weight = if bold { "Bolder" } else { "Default" };
    json!({ "type": "RichTextBlock", "inlines": [{ "type": "TextRun", "text": cut(text), "weight": weight }] })
}

/// A card of a request; where it waits and `answers` is true, with what answers it.
pub(crate) fn card(view: &View<'_>, answers: bool) -> Value {
    let mut body = vec![run(&view.heading, true)];
    body.extend(view.facts.iter().map(|fact| run(fact, false)));
    body.extend(view.claim.map(|claim| run(&format!("The agent claims: {claim}"), false)));
    body.extend(view.arguments.map(|text| run(&format!("Arguments: {text}"), false)));
    let mut actions = Vec::new();
    if let Some(about) = view.about.as_ref().filter(|_| answers) {
        actions.push(execute(APPROVE, "Approve", "positive", about));
        let input = json!({
            "type": "Input.Text", "id": REASON, "isMultiline": true, "maxLength": 2_000, "isRequired": true,
            "label": "Why? The agent is told.", "errorMessage": "A refusal has a reason.",
        });
        let form = json!({
            "type": "AdaptiveCard", "body": [input], "actions": [execute(REFUSE, "Refuse", "destructive", about)],
        });
        actions.push(json!({ "type": "Action.ShowCard", "title": "Refuse …", "card": form }));
    }
    actions.push(json!({ "type": "Action.OpenUrl", "title": "Look at the request", "url": view.link }));
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": body, "actions": actions,
    })
}

/// The answer is for the very call that was shown.
fn execute(verb: &str, title: &str, style: &str, about: &About) -> Value {
    json!({ "type": "Action.Execute", "verb": verb, "title": title, "style": style, "data": about })
}

/// Attaches a card.
pub(crate) fn attached(card: &Value) -> Value {
    json!([{ "contentType": KIND, "contentUrl": null, "content": card }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_cut_and_stays_on_its_line() {
        assert!(!cut("a\nState: approved").contains('\n'));
        assert_eq!(cut(&"x".repeat(10_000)).chars().count(), TEXT_CHARS_MAX + 1);
        assert!(cut(&"𝄞".repeat(10_000)).len() <= TEXT_BYTES_MAX + 3);
    }
}
