//! What is sent: each form is what its service documents (`documented/`), with our content in it.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::*;
use crate::receivers::config::SecretKey;
use crate::receivers::forms::{Refused, Request, Secrets};
use crate::receivers::message::{Message, Setting};

fn setting() -> Setting {
    Setting { runbook_url: "https://docs.example/alerts.md".into(), cluster: "eu".into() }
}

fn now() -> Timestamp {
    "2026-01-31T18:00:10Z".parse().unwrap()
}

/// The requests of a receiver with this form. Every Secret has the same value.
fn requests(form: &str, notices: &[Notice], secret: &str) -> Vec<Vec<Request>> {
    let file = format!("receivers: [{{name: r, {form}}}]");
    let receiver = ReceiversFile::parse(&file).unwrap().receivers.remove(0);
    let mut secrets = Secrets::default();
    for SecretKey { name, key } in receiver.form.secrets() {
        secrets.insert(SecretKey { name, key }, SecretString::from(format!("{secret}\n")));
    }
    let notices: Vec<&Notice> = notices.iter().collect();
    let message = Message::of(notices[0], &notices, &setting());
    receiver.form.requests(&notices, &message, &setting(), &secrets, now()).unwrap()
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// What `ours` has that the documented example has not, or has as another type.
fn difference(ours: &Value, documented: &Value, path: &str) -> Vec<String> {
    match (ours, documented) {
        (Value::Object(_), Value::Object(_)) if path.ends_with("custom_details") => Vec::new(),
        (Value::Object(ours), Value::Object(documented)) => {
            let names_are_free = documented.keys().eq(["name"]);
            let documented = |key| {
                let key = if names_are_free { "name" } else { key };
                documented.get(key)
            };
            let fields = ours.iter().flat_map(|(key, value)| match documented(key) {
                Some(example) => difference(value, example, &format!("{path}.{key}")),
                None => vec![format!("{path}.{key} is not documented")],
            });
            fields.collect()
        }
        (Value::Array(ours), Value::Array(documented)) => {
            let item = |value| difference(value, &documented[0], &format!("{path}[]"));
            ours.iter().flat_map(item).collect()
        }
        (Value::String(_), Value::String(_)) | (Value::Number(_), Value::Number(_)) => Vec::new(),
        (Value::Bool(_), Value::Bool(_)) => Vec::new(),
        _ => vec![format!("{path}: {ours} is not like {documented}")],
    }
}

const KEY: &str = "SecretRef: {name: a, key: b}";

#[test]
fn each_form_is_what_its_service_documents() {
    let required = [
        ("slack", format!("slack: {{url{KEY}}}"), include_str!("documented/slack.json"), vec!["/text"]),
        (
            "pagerduty",
            format!("pagerduty: {{routingKey{KEY}}}"),
            include_str!("documented/pagerduty.json"),
            vec!["/routing_key", "/event_action", "/payload/summary", "/payload/source", "/payload/severity"],
        ),
        (
            "teams",
            format!("teams: {{url{KEY}}}"),
            include_str!("documented/teams.json"),
            vec![
                "/type",
                "/attachments/0/contentType",
                "/attachments/0/content/type",
                "/attachments/0/content/version",
            ],
        ),
        (
            "dingtalk",
            format!("dingtalk: {{url{KEY}, signingKey{KEY}}}"),
            include_str!("documented/dingtalk.json"),
            vec!["/msgtype", "/markdown/title", "/markdown/text"],
        ),
        (
            "feishu",
            format!("feishu: {{url{KEY}, signingKey{KEY}}}"),
            include_str!("documented/feishu.json"),
            vec!["/timestamp", "/sign", "/msg_type", "/content/text"],
        ),
        (
            "wecom",
            format!("wecom: {{url{KEY}}}"),
            include_str!("documented/wecom.json"),
            vec!["/msgtype", "/markdown/content"],
        ),
        (
            "alertmanager",
            "alertmanager: {urls: ['http://a']}".to_owned(),
            include_str!("documented/alertmanager.json"),
            vec!["/0/labels/alertname", "/0/startsAt", "/0/endsAt", "/0/annotations/summary"],
        ),
    ];
    for (name, form, documented, fields) in required {
        let documented: Value = serde_json::from_str(documented).unwrap();
        for notice in [notice("orders"), resolved(&notice("orders")), unreadable("orders")] {
            let requests = requests(&form, std::slice::from_ref(&notice), "https://example.com/?t=1");
            let ours = body(&requests[0][0]);
            assert_eq!(difference(&ours, &documented, name), Vec::<String>::new());
            assert_eq!(requests[0][0].content_type, "application/json");
            let is_resolve = ours["event_action"] == "resolve";
            for field in fields.iter().filter(|field| !is_resolve || !field.contains("payload")) {
                let value = ours.pointer(field).unwrap_or_else(|| panic!("{name} misses {field}: {ours}"));
                assert!(!value.as_str().unwrap_or_default().is_empty(), "{name}: {field} is empty");
            }
        }
    }
}

#[test]
fn a_title_suits_a_lock_screen_and_the_text_has_what_to_do() {
    let message = Message::of(&notice("orders"), &[&notice("orders")], &setting());
    assert_eq!(message.title, "[Critical] eu shop/orders: backlog above 1,000");
    let expected = "What: backlog 1,001, above 1,000\n\
                    Since: 2026-01-31T18:00:00Z\n\
                    Operator: somebody ran queuescaler receivers test\n\
                    Next: nothing\n\
                    See: kubectl describe qs -n shop orders\n\
                    Runbook: https://docs.example/alerts.md#backlogabove";
    assert_eq!(message.text, expected);
    let over = resolved(&notice("orders"));
    let message = Message::of(&over, &[&over], &Setting::default());
    assert_eq!(message.title, "[Resolved] shop/orders: backlog above 1,000");
    assert!(message.text.starts_with("Resolved at 2026-01-31T18:30:00Z; it began at 2026-01-31T18:00:00Z"));
}

#[test]
fn objects_of_one_broker_are_one_message_that_names_ten() {
    let all: Vec<_> = (0..500).map(|n| unreadable(&format!("orders-{n:03}"))).collect();
    let all: Vec<_> = all.iter().collect();
    let message = Message::of(all[0], &all, &Setting::default());
    let title = "[Critical] Kafka kafka.shop.svc:9092: backlog cannot be read (500 QueueScalers)";
    assert_eq!(message.title, title);
    assert_eq!((message.count, message.alerts.len()), (500, 10));
    assert!(message.text.starts_with("QueueScalers: shop/orders-000, "), "{}", message.text);
    assert!(message.text.contains("shop/orders-009 and 490 more\n"), "{}", message.text);
    assert!(!message.text.contains("orders-010"));
}

#[test]
fn a_signed_message_of_a_group_that_has_grown_is_another_one() {
    let form = "webhook: {url: 'https://a/', signingKeySecretRef: {name: s, key: k}}";
    let id = |names: &[&str]| {
        let notices: Vec<_> = names.iter().map(|name| unreadable(name)).collect();
        let request = requests(form, &notices, "key").remove(0).remove(0);
        let header = request.headers.iter().find(|(name, _)| *name == "webhook-id").unwrap();
        header.1.expose_secret().to_owned()
    };
    assert_eq!(id(&["a", "b"]), id(&["a", "b"]), "sent again");
    assert_ne!(id(&["a", "b"]), id(&["a"]));
    assert_ne!(id(&["a", "b"]), id(&["a", "c"]));
}

#[test]
fn alertmanager_gets_every_alert_and_every_instance_is_sent_it() {
    let all: Vec<_> = (0..500).map(|n| unreadable(&format!("orders-{n}"))).collect();
    let requests = requests("alertmanager: {urls: ['http://a:9093/', 'https://b/am']}", &all, "x");
    let urls: Vec<_> = requests[0].iter().map(|request| request.url.expose_secret().to_owned()).collect();
    assert_eq!(urls, ["http://a:9093/api/v2/alerts", "https://b/am/api/v2/alerts"]);
    let sent = requests.iter().map(|chunk| body(&chunk[0]).as_array().unwrap().len());
    assert_eq!(sent.collect::<Vec<_>>(), [256, 244]);
    let first = &body(&requests[0][0])[0];
    let labels = json!({
        "alertname": "QueueScalerSourceUnreadable", "alert": "SourceUnreadable", "namespace": "shop",
        "queuescaler": "orders-0", "severity": "critical", "broker": "Kafka kafka.shop.svc:9092", "cluster": "eu",
    });
    assert_eq!(first["labels"], labels);
    assert_eq!(
        (&first["startsAt"], &first["endsAt"]),
        (&json!("2026-01-31T18:00:00Z"), &json!("2026-01-31T18:05:10Z"))
    );
}

#[test]
fn the_end_of_an_alert_has_the_same_labels_and_its_time() {
    let form = "alertmanager: {urls: ['http://a']}";
    let sent = |notice: Notice| body(&requests(form, &[notice], "x")[0][0])[0].clone();
    let (firing, over) = (sent(notice("orders")), sent(resolved(&notice("orders"))));
    assert_eq!(firing["labels"], over["labels"], "else it is another alert");
    assert_eq!(firing["labels"]["alertname"], "QueueScalerRule");
    assert_eq!(over["endsAt"], "2026-01-31T18:30:00Z");
}

#[test]
fn begin_and_end_have_one_key_for_services_that_fold_them() {
    let form = format!("pagerduty: {{routingKey{KEY}}}");
    let sent = |notice: Notice| body(&requests(&form, &[notice], "key")[0][0]);
    let (begin, end) = (sent(notice("orders")), sent(resolved(&notice("orders"))));
    assert_eq!((&begin["event_action"], &end["event_action"]), (&json!("trigger"), &json!("resolve")));
    assert_eq!(begin["dedup_key"], "eu/shop/orders/backlog");
    assert_eq!(begin["dedup_key"], end["dedup_key"]);
    assert_eq!(begin["routing_key"], "key", "the line break at the end of a Secret is no part of it");
    let long = sent(notice(&"o".repeat(300)));
    assert_eq!(long["dedup_key"].as_str().unwrap().len(), 64);
}

// The expected values are from Python: hmac.new(key, text, sha256), as both services document it.
#[test]
fn robots_are_signed_as_documented() {
    let signed = |form: String, at: Timestamp| {
        let file = format!("receivers: [{{name: r, {form}}}]");
        let receiver = ReceiversFile::parse(&file).unwrap().receivers.remove(0);
        let mut secrets = Secrets::default();
        let mut put = |key: &str, value: &str| {
            secrets.insert(SecretKey { name: "a".into(), key: key.into() }, SecretString::from(value));
        };
        put("u", "https://robot.example/send?access_token=x");
        put("k", if form.starts_with("feishu") { "demo" } else { "SECtest" });
        let notice = notice("orders");
        let message = Message::of(&notice, &[&notice], &Setting::default());
        let mut requests =
            receiver.form.requests(&[&notice], &message, &Setting::default(), &secrets, at).unwrap();
        requests.remove(0).remove(0)
    };
    let keys = "{urlSecretRef: {name: a, key: u}, signingKeySecretRef: {name: a, key: k}}";
    let at = Timestamp::from_millisecond(1_577_262_236_757).unwrap();
    let dingtalk = signed(format!("dingtalk: {keys}"), at);
    assert_eq!(
        dingtalk.url.expose_secret(),
        "https://robot.example/send?access_token=x&timestamp=1577262236757\
         &sign=Za%2Fne6w2koB8B4ROVlgTNd%2FX%2B%2FFbyDpZrXLz57xNZSA%3D"
    );
    let feishu = body(&signed(format!("feishu: {keys}"), Timestamp::from_second(1_599_360_473).unwrap()));
    assert_eq!(
        (&feishu["timestamp"], &feishu["sign"]),
        (&json!("1599360473"), &json!("l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="))
    );
}

#[test]
fn a_robot_reports_its_errors_in_the_body() {
    let file = format!("receivers: [{{name: r, wecom: {{url{KEY}}}}}]");
    let form = ReceiversFile::parse(&file).unwrap().receivers.remove(0).form;
    assert_eq!(form.accepted(br#"{"errcode":0,"errmsg":"ok"}"#), Ok(()));
    assert_eq!(form.accepted(br#"{"StatusCode":0,"StatusMessage":"success"}"#), Ok(()));
    let limited = form.accepted(br#"{"errcode":45009,"errmsg":"api freq out of limit"}"#);
    assert!(matches!(limited, Err(Refused::Later(_, Some(pause))) if pause == Duration::from_secs(60)));
    let refused = form.accepted(br#"{"errcode":40058,"errmsg":"invalid\nmessage"}"#).unwrap_err();
    assert_eq!(refused.to_string(), "the robot refuses the message (code 40058: invalid\\nmessage)");
    assert!(matches!(form.accepted(b"<html>"), Err(Refused::Later(_, None))));
}

#[test]
fn texts_are_cut_where_a_service_ends_them() {
    let long = Notice { message: "語".repeat(3000), ..notice("orders") };
    let requests = requests(&format!("wecom: {{url{KEY}}}"), &[long], "https://example.com");
    let content = body(&requests[0][0])["markdown"]["content"].as_str().unwrap().to_owned();
    assert!(content.len() <= 4096 && content.contains('…'), "{} bytes", content.len());
}

#[test]
fn names_cannot_end_a_string_or_begin_a_command() {
    let evil = Notice { message: "\"}<!channel> & {{ title }}".into(), ..notice("orders") };
    let slack = body(&requests(&format!("slack: {{url{KEY}}}"), std::slice::from_ref(&evil), "x")[0][0]);
    assert!(slack["attachments"][0]["text"].as_str().unwrap().contains("&lt;!channel&gt; &amp; {{ title }}"));
    let template = r#"webhook: {url: 'http://a', template: '{"text": {{ alerts[0].message }}}'}"#;
    let webhook = body(&requests(template, &[evil], "x")[0][0]);
    assert_eq!(webhook, json!({"text": "\"}<!channel> & {{ title }}"}));
}

#[test]
fn the_default_body_of_a_webhook_fits_the_schema() {
    let schema = include_str!("../../../docs/receivers.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let all: Vec<_> = (0..12).map(|n| unreadable(&format!("orders-{n}"))).collect();
    for notices in [vec![notice("orders")], vec![resolved(&notice("orders"))], all] {
        let sent = body(&requests("webhook: {url: 'http://a'}", &notices, "x")[0][0]);
        assert_eq!(faults(&sent, &schema, &schema, "$"), Vec::<String>::new(), "{sent}");
    }
    let mut wrong = body(&requests("webhook: {url: 'http://a'}", &[notice("orders")], "x")[0][0]);
    wrong["status"] = json!("burning");
    wrong["more"] = json!(1);
    wrong.as_object_mut().unwrap().remove("id");
    assert_eq!(faults(&wrong, &schema, &schema, "$").len(), 3);
}

/// What a value has that a JSON Schema forbids: the keywords that ours uses.
fn faults(value: &Value, schema: &Value, root: &Value, path: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return faults(value, root.pointer(reference.trim_start_matches('#')).unwrap(), root, path);
    }
    let mut found = Vec::new();
    let type_ = match value {
        Value::String(_) => "string",
        Value::Number(_) => "integer",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        _ => "other",
    };
    if schema["type"] != type_ {
        found.push(format!("{path} is a {type_}"));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        found.push(format!("{path} is {value}"));
    }
    if schema["format"] == "date-time" && value.as_str().unwrap().parse::<Timestamp>().is_err() {
        found.push(format!("{path} is no time"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            found.push(format!("{path} misses {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => found.extend(faults(inner, schema, root, &format!("{path}.{name}"))),
            None => found.push(format!("{path}.{name} is unknown")),
        }
    }
    let items = value.as_array().into_iter().flatten();
    let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
    for (place, item) in items.enumerate() {
        if place as u64 >= most {
            found.push(format!("{path} is too long"));
        }
        found.extend(faults(item, &schema["items"], root, &format!("{path}[{place}]")));
    }
    found
}
