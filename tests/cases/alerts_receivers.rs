//! Receivers that misbehave, that are not allowed, and templates that do not end: nobody else notices.

use std::time::{Duration, Instant};

use queuescaler::api::AlertState;
use serde_json::json;

use crate::support::receivers::{Receivers, backlog_above, webhook};
use crate::support::scaled::Scaled;
use crate::support::sink::{Answer, Sink};

/// Seconds that a busy receiver asks to wait.
const PAUSE: u64 = 4;
/// What answers without end may cost.
const MOST_MEMORY: u64 = 32 << 20;

#[tokio::test]
async fn a6_receivers_that_misbehave_harm_nobody_else() {
    let Some(mut scaled) = Scaled::without_operator("a6").await else { return };
    let elsewhere = Sink::start();
    let answers = [
        ("busy", Answer::Status(429, vec![("retry-after", PAUSE.to_string())], String::new())),
        ("endless", Answer::Endless),
        ("fails", Answer::status(500)),
        ("hangs", Answer::Hang),
        ("redirects", Answer::Status(307, vec![("location", elsewhere.url())], String::new())),
    ];
    let bad = answers.map(|(name, answer)| (name, Sink::answering(answer)));
    let good = Sink::start();
    let all = bad.iter().map(|(name, sink)| webhook(name, &sink.url())).chain([webhook("good", &good.url())]);
    let receivers = Receivers::new(all.collect());
    let operator = receivers.operator(&scaled.bench, "one", &[]);
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    let memory = operator.resident();

    scaled.queue_scaler("orders", backlog_above(250)).await;
    let since = Instant::now();
    scaled.backlog(300).await;
    assert_eq!(good.until_accepted(1).await, ["firing orders"]);
    scaled.bench.until_replicas("orders", 3).await;
    let took = since.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "the good one was notified and replicas were added after {took:?}"
    );
    for (name, sink) in &bad {
        // One that hangs is given up after 10 s, and its next attempt shows that; an endless answer is cut and accepted.
        sink.until(if *name == "endless" { 1 } else { 2 }).await;
        println!("{name}: {:?}", sink.got().iter().map(|got| got.at - since).collect::<Vec<_>>());
    }
    let busy = bad[0].1.got();
    let pause = busy[1].at - busy[0].at;
    assert!(pause >= Duration::from_secs(PAUSE), "tried again after {pause:?}");
    assert!(elsewhere.got().is_empty(), "a redirect was followed");
    let more = operator.resident().saturating_sub(memory);
    assert!(more < MOST_MEMORY, "{more} bytes more");
    // What the kernel holds for both sides, besides the 64 KiB that are read.
    let taken = bad[1].1.endless_bytes();
    assert!(taken < 64 << 20, "{taken} bytes of an answer were taken");

    for (_, sink) in &bad {
        sink.answer(Answer::Accept);
    }
    let everybody = ["busy", "endless", "fails", "good", "hangs", "redirects"];
    scaled.bench.until_alert("orders", "backlog", AlertState::Firing, &everybody).await;
    operator.reads_again().await;
    for sink in bad.iter().map(|(_, sink)| sink).chain([&good]) {
        assert_eq!(sink.accepted(), ["firing orders"]);
    }
    let log = operator.log();
    for words in ["no answer within 10 s", "answers 500", "answers 429", "answers with a redirect (307)"] {
        assert!(log.contains(words), "{words} is not in {log}");
    }
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn s3_receivers_at_refused_addresses_get_no_byte() {
    let Some(mut scaled) = Scaled::without_operator("s3-receivers").await else { return };
    let sink = Sink::start();
    let port = sink.address.port();
    let refused = [
        ("loopback", format!("http://127.0.0.1:{port}/"), "loopback"),
        ("after-dns", format!("http://localhost:{port}/"), "loopback"),
        ("in-one-number", format!("http://2130706433:{port}/"), "loopback"),
        ("link-local", "http://169.254.169.254/latest".to_owned(), "link-local"),
        ("metadata", "http://100.100.100.200/".to_owned(), "metadata"),
    ];
    let receivers = refused.iter().map(|(name, url, _)| webhook(name, url)).collect();
    let receivers = Receivers::new(receivers);
    // The brokers of the test bed are at an address that is no loopback, and that is that of the API server.
    let operator = receivers.operator(&scaled.bench, "one", &["--allow-addresses", "10.0.0.0/8"]);
    scaled.deployment("orders").await;
    scaled.queue_scaler("orders", backlog_above(250)).await;
    scaled.backlog(300).await;
    scaled.bench.until_alert("orders", "backlog", AlertState::Firing, &[]).await;
    for (name, _, why) in &refused {
        // The second attempt is looked up and refused as well.
        let receiver = format!("\"receiver\":\"{name}\"");
        let about = |line: &str| line.contains(&receiver) && line.contains(why);
        operator.until_logged(&format!("about {name} and {why}"), 2, about).await;
    }
    assert!(sink.got().is_empty(), "{:?}", sink.got());

    // What refused them was the policy: the same one is notified where it is allowed.
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
    drop(scaled.bench.operator.take());
    let operator = receivers.operator(&scaled.bench, "one", &[]);
    // Three of them are this sink.
    assert_eq!(sink.until_accepted(3).await, ["firing orders"; 3]);
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a7_secrets_of_receivers_are_shown_nowhere() {
    let Some(mut scaled) = Scaled::without_operator("a7").await else { return };
    let sink = Sink::answering(Answer::Status(
        404,
        vec![("location", "http://127.0.0.1/hidden-location".to_owned())],
        "hidden-answer".to_owned(),
    ));
    let secret = |key: &str| json!({"name": "hidden", "key": key});
    let receivers = Receivers::new(json!([
        {"name": "header", "default": true, "webhook": {
            "urlSecretRef": secret("url"), "authorizationSecretRef": secret("token"), "signingKeySecretRef": secret("signing"),
        }},
        {"name": "closed", "default": true, "slack": {"urlSecretRef": secret("closed")}},
        {"name": "unknown", "default": true, "teams": {"urlSecretRef": secret("unknown")}},
        {"name": "malformed", "default": true, "wecom": {"urlSecretRef": secret("malformed")}},
        {"name": "newline", "default": true, "webhook": {"url": sink.url(), "authorizationSecretRef": secret("newline")}},
        {"name": "basic", "default": true, "alertmanager": {
            "urls": [sink.url()], "username": "oncall", "passwordSecretRef": secret("password"),
        }},
        {"name": "robot", "default": true, "dingtalk": {"urlSecretRef": secret("url"), "signingKeySecretRef": secret("signing")}},
        {"name": "tls", "default": true, "slack": {"urlSecretRef": secret("tls")}},
        {"name": "missing", "default": true, "feishu": {"urlSecretRef": secret("missing")}},
    ]));
    let port = sink.address.port();
    for (key, value) in [
        ("url", format!("{}/hidden-path?access_token=hidden-query", sink.url())),
        ("token", "Bearer hidden-token".to_owned()),
        ("signing", "hidden-signing".to_owned()),
        ("closed", "http://127.0.0.66:9/hidden-path?hidden-query".to_owned()),
        ("unknown", "http://no-such-host.invalid/hidden-path".to_owned()),
        ("malformed", "http://user:hidden-password@:bad/hidden-path".to_owned()),
        ("newline", "Bearer hidden-token\nhidden-header".to_owned()),
        ("password", "hidden-password".to_owned()),
        ("tls", format!("https://127.0.0.1:{port}/hidden-path")),
    ] {
        receivers.secret("hidden", key, &value);
    }
    // Everything that it can log.
    let operator = receivers.operator(&scaled.bench, "one", &["--log", "queuescaler=trace,info"]);
    scaled.deployment("orders").await;
    scaled.queue_scaler("orders", backlog_above(250)).await;
    scaled.backlog(300).await;
    scaled.bench.until_alert("orders", "backlog", AlertState::Firing, &[]).await;
    let names = ["header", "closed", "unknown", "malformed", "newline", "basic", "robot", "tls", "missing"];
    for name in names {
        let failed = format!("queuescaler_notifications_total{{receiver=\"{name}\",result=\"failed\"}}");
        operator.until_at_least(&failed, 2.0).await;
    }
    let got = sink.got();
    let sent = |header: &str| got.iter().any(|got| got.headers.get(header).is_some());
    assert!(got.iter().any(|got| got.target.contains("hidden-path?access_token=hidden-query")), "{got:?}");
    assert!(sent("authorization") && sent("webhook-signature"), "they are used: {got:?}");

    let told = [operator.log(), operator.metrics().await];
    assert!(told.iter().all(|text| !text.contains("hidden-")), "{told:?}");
    // The password is Base64 in a header.
    assert!(told.iter().all(|text| !text.contains("b25jYWxsOmhpZGRlbi1wYXNzd29yZA")), "{told:?}");
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&["hidden-"]).await;
}

#[tokio::test]
async fn a8_a_template_that_loops_or_grows_is_cut_with_an_error() {
    let Some(mut scaled) = Scaled::without_operator("a8").await else { return };
    let (sink, good) = (Sink::start(), Sink::start());
    let templated = |template: &str| {
        json!({"name": "cut", "default": true, "webhook": {
            "url": sink.url(), "contentType": "text/plain", "template": template,
        }})
    };
    // One that shows only with an alert that is no test.
    let loops = "{% if alerts[0].alert != 'test' %}{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}{% endif %}";
    let receivers = Receivers::new(json!([templated(loops), webhook("good", &good.url())]));
    let operator = receivers.operator(&scaled.bench, "one", &[]);
    scaled.deployment("orders").await;
    scaled.queue_scaler("orders", backlog_above(250)).await;
    let memory = operator.resident();
    let since = Instant::now();
    scaled.backlog(300).await;
    scaled.bench.until_alert("orders", "backlog", AlertState::Firing, &["good"]).await;
    operator.wait_for_log("the template fails");
    let took = since.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");

    // Those that show at once keep the whole list from being used, and the receivers before stay.
    let grows = "{% set ns = namespace(text='x') %}{% for i in range(64) %}{% set ns.text = ns.text ~ ns.text %}{% endfor %}{{ ns.text }}";
    for (template, words) in [(grows, "the template fails"), ("{{ nobody }}", "undefined")] {
        receivers.write(json!([templated(template), webhook("other", &good.url())]));
        let line = operator.wait_for_log("cannot use the receivers file");
        assert!(line.contains("receiver cut: ") && line.contains(words), "{line}");
    }
    assert_eq!(operator.metric("queuescaler_receivers_valid").await, 0.0);
    let more = operator.resident().saturating_sub(memory);
    assert!(more < MOST_MEMORY, "{more} bytes more");
    assert!(sink.got().is_empty(), "nothing is sent by halves");
    scaled.queue_scaler("orders", json!({})).await;
    assert_eq!(good.until_accepted(2).await, ["firing orders", "resolved orders"]);
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}
