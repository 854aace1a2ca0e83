//! `countersign sql explain`

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::binary::{command, run_with};

const JSON: [&str; 5] = ["sql", "explain", "--dialect", "postgres", "--json"];

#[test]
fn a_statement_is_told_to_people() {
    let ran = run_with(&["sql", "explain", "--dialect", "sqlite", "DELETE FROM billing WHERE id < 7"], b"");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("effect      destructive"), "{}", ran.out);
    assert!(ran.out.contains("writes      billing"), "{}", ran.out);
    assert!(ran.out.contains("because"), "{}", ran.out);

    let piped = run_with(&["sql", "explain", "--dialect", "sqlite"], b"select 1;\nselect 2");
    assert!(piped.out.starts_with("2 statements, together: read"), "{}", piped.out);
}

#[test]
fn what_cannot_be_classified_is_exit_code_1_and_says_where() {
    let ran = run_with(&["sql", "explain", "--dialect", "postgres", "\n  selekt 1"], b"");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("line 2, column 3"), "{}", ran.err);
    assert_eq!(run_with(&["sql", "explain", "--dialect", "oracle", "select 1"], b"").code, 2);
}

#[test]
fn json_takes_a_statement_as_argument_or_from_standard_input() {
    let mut arguments = JSON.to_vec();
    let piped =
        run_with(&arguments, b"\nwith gone as (delete from billing returning *)\nselect * from gone\n");
    arguments.push("with gone as (delete from billing returning *) select * from gone");
    let given = run_with(&arguments, b"");
    for ran in [piped, given] {
        assert_eq!(ran.code, 0, "{}", ran.err);
        let line = ran.lines().remove(0);
        assert_eq!(line["id"], Value::Null);
        assert_eq!(line["effect"], "destructive");
        assert_eq!(line["tables"], json!(["billing"]));
        for key in ["categories", "statements", "functions", "reasons"] {
            assert!(line[key].is_array(), "{key} in {line}");
        }
    }
    let wrong = run_with(&JSON, b"selekt 1");
    assert_eq!(wrong.code, 1);
    assert_eq!(wrong.lines()[0]["error"]["code"], "sql_syntax");
    assert_eq!(wrong.lines()[0]["error"]["position"], 0);
    assert_eq!(run_with(&JSON, b"").lines()[0]["error"]["code"], "sql_empty");
}

#[test]
fn hostile_lines_are_answered_and_the_rest_goes_on() {
    let long = format!("{{\"id\":\"long\",\"sql\":\"select '{}'\"}}\n", "x".repeat(70_000));
    let huge = format!("{{\"id\":\"huge\",\"sql\":\"{}\"}}\n", "x".repeat(1_100_000));
    let deep = format!("{{\"id\":\"deep\",\"sql\":\"select {}1\"}}\n", "(".repeat(20_000));
    let nested = format!("{}\n", "[".repeat(100_000));
    let mut input = Vec::new();
    for line in [
        &b"not json at all\n"[..],
        b"{\"id\":1,\"sql\":\"select 1\"}\n",
        b"\n",
        b"{\"id\":2,\"sql\":\"select 1\",\"sql\":\"drop table x\"}\n",
        b"{\"id\":{\"a\":[3]},\"sql\":\"truncate x\",\"label\":\"more is ignored\"}\r\n",
        b"{\"id\":4}\n",
        b"{\"id\":5,\"sql\":7}\n",
        b"[6]\n",
        b"\xff\xfe\n",
        b"{\"id\":7,\"sql\":\"select \\u0000; drop table x\"}\n",
        b"{\"id\":8,\"sql\":\"select '\\ud800'\"}\n",
        long.as_bytes(),
        huge.as_bytes(),
        deep.as_bytes(),
        nested.as_bytes(),
        b"{\"id\":9,\"sql\":\"\"}\n",
        b"{\"sql\":\"select 2\"}\n",
        b"{\"id\":10,\"sql\":\"delete from x\"}",
    ] {
        input.extend_from_slice(line);
    }
    let ran = run_with(&JSON, &input);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let answers: Vec<(Value, String)> = ran
        .lines()
        .into_iter()
        .map(|line| {
            let word = line["effect"].as_str().or_else(|| line["error"]["code"].as_str()).unwrap();
            (line["id"].clone(), word.to_owned())
        })
        .collect();
    let expected = [
        (json!(null), "json_syntax"),
        (json!(1), "read"),
        (json!(null), "json_duplicate_key"),
        (json!({"a": [3]}), "destructive"),
        (json!(4), "line_form"),
        (json!(5), "line_form"),
        (json!(null), "line_form"),
        (json!(null), "json_utf8"),
        (json!(7), "sql_zero_byte"),
        (json!(null), "json_surrogate"),
        (json!("long"), "sql_too_long"),
        (json!(null), "line_too_long"),
        (json!("deep"), "sql_too_deep"),
        (json!(null), "json_depth"),
        (json!(9), "sql_empty"),
        (json!(null), "read"),
        (json!(10), "destructive"),
    ];
    let expected: Vec<(Value, String)> =
        expected.into_iter().map(|(id, word)| (id, word.to_owned())).collect();
    assert_eq!(answers, expected);
}

#[test]
fn a_statement_that_is_too_long_is_one_answer_and_lines_after_much_else_are_lines() {
    let long = format!("select '{}'", "x\n".repeat(60_000));
    let ran = run_with(&JSON, long.as_bytes());
    assert_eq!((ran.code, ran.lines().len()), (1, 1));
    assert_eq!(ran.lines()[0]["error"]["code"], "sql_too_long");

    let mixed = format!("{}{{\"id\":1,\"sql\":\"select 1\"}}\n", "junk\n".repeat(20_000));
    let ran = run_with(&JSON, mixed.as_bytes());
    assert_eq!((ran.code, ran.lines().len()), (0, 20_001));
    assert_eq!(ran.lines()[20_000]["effect"], "read");
}

/// Each line is answered before the next one is written, so nothing waits for the end of the input.
#[test]
fn lines_are_answered_as_they_come() {
    let mut child = command(&JSON).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for id in 0..3 {
        writeln!(input, "{}", json!({ "id": id, "sql": "select now()" })).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], id);
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}
