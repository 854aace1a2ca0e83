//! An answer of the gate is written here as a tool's result.

use countersign_app::answer::{ChangedBody, answer_json, timestamp};
use countersign_gate::{Answer, Pending};
use countersign_rules::{Code, Refusal};
use rmcp::model::{CallToolResult, ContentBlock, ErrorData, JsonObject, MetaObject};
use serde_json::{Value, json};

use super::{Refusals, tools::AWAIT};

/// Returns the result for the agent. Only a performed call has the tool's own reply; everything else is the one
/// JSON form of an answer. Waiting is no error.
pub(super) fn result(answer: &Answer, refusals: Refusals) -> CallToolResult {
    match answer {
        Answer::Done(done) => {
            let mut meta = JsonObject::new();
            meta.insert("countersign/call".into(), json!(done.call));
            if let Some(approval) = &done.approval {
                meta.insert("countersign/approval".into(), json!(approval));
            }
            if done.repeated {
                meta.insert("countersign/repeated".into(), json!(true));
            }
            let mut result = performed(&done.reply);
            if let Some(changed) = &done.changed {
                let changed = json!(ChangedBody::from(changed));
                // Models read the content and not what stands beside it.
                let said = format!("People changed this call before it was performed, to: {changed}");
                result.content.push(ContentBlock::text(said));
                meta.insert("countersign/changed".into(), changed);
            }
            result.with_meta(Some(MetaObject::from(meta)))
        }
        Answer::Pending(pending) => CallToolResult::structured(waiting(answer, pending)),
        Answer::Refused(_) => match refusals {
            Refusals::Error => CallToolResult::structured_error(answer_json(answer)),
            Refusals::Text => CallToolResult::structured(answer_json(answer)),
        },
    }
}

/// Returns the result for a refusal that belongs to no call.
pub(super) fn refused(refusal: Refusal, refusals: Refusals) -> CallToolResult {
    result(&Answer::Refused(countersign_gate::Refused::new(None, None, refusal)), refusals)
}

/// Returns the error of the protocol for a tool that does not exist for this agent, with the recorded refusal
/// as data; `None` for any other answer.
pub(super) fn unknown_tool(answer: &Answer) -> Option<ErrorData> {
    match answer {
        Answer::Refused(refused) if refused.refusal.code == Code::UnknownTool => {
            Some(ErrorData::invalid_params(refused.refusal.message.clone(), Some(answer_json(answer))))
        }
        Answer::Done(_) | Answer::Pending(_) | Answer::Refused(_) => None,
    }
}

fn performed(reply: &Value) -> CallToolResult {
    upstream_result(reply).unwrap_or_else(|| CallToolResult::structured(reply.clone()))
}

/// Reads the reply of an upstream MCP server, which is a tool's result already: its content may hold images and
/// sounds, which a text would spoil.
fn upstream_result(reply: &Value) -> Option<CallToolResult> {
    let members = reply.as_object()?;
    let known = members.keys().all(|key| matches!(key.as_str(), "content" | "structuredContent" | "isError"));
    if !known || !members.get("content").is_some_and(Value::is_array) {
        return None;
    }
    let content: Vec<ContentBlock> = serde_json::from_value(members.get("content")?.clone()).ok()?;
    let mut result = CallToolResult::success(content);
    result.structured_content = members.get("structuredContent").cloned();
    result.is_error = Some(members.get("isError").and_then(Value::as_bool).unwrap_or(false));
    Some(result)
}

/// Returns a pending answer that names the tool to go on with.
fn waiting(answer: &Answer, pending: &Pending) -> Value {
    let mut form = answer_json(answer);
    if let Some(next) = form.get_mut("next") {
        let approval = &pending.approval;
        let how = format!(
            "call `{AWAIT}` with {{\"approval\": \"{approval}\"}} to wait for it, as often as needed, or repeat \
             the very same call, which finds the same request; do not try another way to the same effect"
        );
        *next = Value::String(format!("{}: {how}", standing(pending)));
    }
    form
}

/// Says where a request stands, in a few words for people and models.
pub(super) fn standing(pending: &Pending) -> String {
    let approval = &pending.approval;
    if pending.state.is_granted() {
        return format!("people have approved request `{approval}`, and the call is being performed");
    }
    let groups: Vec<String> =
        pending.of.iter().map(|ask| format!("{} of `{}`", ask.quorum, ask.group)).collect();
    let until = timestamp(pending.expires_ms).map(|at| format!(" until {at}")).unwrap_or_default();
    let changed = if pending.changed.is_some() { "people have changed the call (`changed`); " } else { "" };
    format!("{changed}nothing was done yet: request `{approval}` waits for {}{until}", groups.join(" and "))
}

#[cfg(test)]
mod tests {
    use countersign_gate::{Changed, Done, Refused};
    use countersign_rules::{ApprovalId, ApprovalState, AskOf, CallId, GroupName, PolicyId};

    use super::*;

    fn pending() -> Pending {
        Pending {
            call: CallId::parse("call-1").unwrap(),
            approval: ApprovalId::parse("apr-1").unwrap(),
            state: ApprovalState::Waiting,
            of: vec![AskOf {
                group: GroupName::parse("dba").unwrap(),
                quorum: 2,
                deadline_ms: 1,
                because: None,
                policy: PolicyId::parse("default:deletes").unwrap(),
                rehearse: false,
                step_up: None,
                grant: None,
                shared: false,
            }],
            reach: None,
            expires_ms: 1_767_225_600_000,
            changed: None,
            repeated: false,
        }
    }

    #[test]
    fn a_wait_is_no_error_and_names_what_to_do() {
        let result = result(&Answer::Pending(pending()), Refusals::Error);
        assert_eq!(result.is_error, Some(false));
        let form = result.structured_content.unwrap();
        assert_eq!(form["status"], "pending");
        let next = form["next"].as_str().unwrap();
        assert!(next.contains("countersign_await") && next.contains("apr-1"), "{next}");
        assert!(next.contains("2 of `dba` until 2026-01-01T00:00:00.000Z"), "{next}");
    }

    #[test]
    fn a_refusal_is_an_error_that_the_agent_reads() {
        let refusal = Refusal::new(Code::DeniedByPolicy, "forbidden").help("do not");
        let answer = Answer::Refused(Refused::new(None, None, refusal));
        let error = result(&answer, Refusals::Error);
        assert_eq!(error.is_error, Some(true));
        assert_eq!(error.structured_content.as_ref().unwrap()["code"], "R004");
        let text = result(&answer, Refusals::Text);
        assert_eq!(text.is_error, Some(false));
        assert_eq!((text.content, text.structured_content), (error.content, error.structured_content));
    }

    #[test]
    fn a_reply_is_given_as_it_is_and_an_upstream_s_content_as_content() {
        let done = |reply| {
            let done = Done {
                call: CallId::parse("call-1").unwrap(),
                approval: None,
                reply,
                rows: 1,
                changed: Some(Changed { arguments: json!({ "to": 4 }), why: Some("fewer".into()) }),
                repeated: true,
            };
            result(&Answer::Done(done), Refusals::Text)
        };
        let rows = done(json!({ "rows": [1] }));
        assert_eq!(rows.structured_content, Some(json!({ "rows": [1] })));
        assert_eq!(rows.content[0].as_text().unwrap().text, r#"{"rows":[1]}"#);
        let meta = rows.meta.unwrap();
        assert_eq!(
            (&meta["countersign/call"], &meta["countersign/repeated"]),
            (&json!("call-1"), &json!(true))
        );
        // What people changed is said to the model as well, behind the result.
        let changed = json!({ "arguments": { "to": 4 }, "because": "fewer" });
        assert_eq!(meta["countersign/changed"], changed);
        assert!(rows.content[1].as_text().unwrap().text.ends_with(&changed.to_string()));
        let image =
            done(json!({ "content": [{ "type": "image", "data": "AA==", "mimeType": "image/png" }] }));
        assert!(image.content[0].as_image().is_some());
        assert_eq!(image.structured_content, None);
        // A reply of one's own that only looks like it stays what it is.
        let own = done(json!({ "content": "x" }));
        assert_eq!(own.structured_content, Some(json!({ "content": "x" })));
        // An upstream's own error is no refusal of ours.
        assert_eq!(done(json!({ "content": [], "isError": true })).is_error, Some(true));
    }

    #[test]
    fn an_unknown_tool_is_an_error_of_the_protocol() {
        let answer =
            Answer::Refused(Refused::new(None, None, Refusal::new(Code::UnknownTool, "no tool `x`")));
        let error = unknown_tool(&answer).unwrap();
        assert_eq!(error.code.0, -32602);
        assert_eq!(error.data.unwrap()["code"], "R001");
        assert!(unknown_tool(&Answer::Pending(pending())).is_none());
    }
}
