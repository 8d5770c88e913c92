//! The administrator's file: what is read, and what is refused with the way out.

use super::*;

#[test]
fn a_file_of_all_forms_is_read_with_its_defaults() {
    let secret = "SecretRef: {name: a, key: b}";
    let forms = [
        "alertmanager: {urls: ['http://a:9093', 'https://b/prefix']}".to_owned(),
        "webhook: {url: 'https://example.com/hook'}".to_owned(),
        format!("slack: {{url{secret}}}"),
        format!("pagerduty: {{routingKey{secret}}}"),
        format!("teams: {{url{secret}}}"),
        format!("dingtalk: {{url{secret}, signingKey{secret}}}"),
        format!("feishu: {{url{secret}}}"),
        format!("wecom: {{url{secret}}}"),
    ];
    let list: String =
        forms.iter().enumerate().map(|(n, form)| format!("- {{name: r{n}, {form}}}\n")).collect();
    let file = ReceiversFile::parse(&format!("cluster: eu\nreceivers:\n{list}")).unwrap();
    assert_eq!((file.cluster.as_str(), file.receivers.len()), ("eu", forms.len()));
    let webhook = &file.receivers[1];
    assert_eq!((webhook.repeat().as_secs(), webhook.send_resolved, webhook.default), (14_400, true, false));
    assert!(webhook.allows("any"));
    assert_eq!(file.receivers[0].repeat().as_secs(), 60, "Alertmanager is sent each alert again");
    assert!(ReceiversFile::parse("{}").unwrap().receivers.is_empty());
}

#[test]
fn namespaces_are_an_allow_list() {
    let file = "receivers: [{name: r, namespaces: [shop], webhook: {url: 'http://a'}}]";
    let receiver = ReceiversFile::parse(file).unwrap().receivers.remove(0);
    assert!(receiver.allows("shop") && !receiver.allows("shop2") && !receiver.allows(""));
}

#[test]
fn a_mistake_is_named_with_the_receiver_and_the_way_out() {
    let webhook = "webhook: {url: 'http://a'}";
    let table = [
        ("name: r", "exactly one of alertmanager, webhook"),
        ("name: r, webhook: {url: 'http://a'}, wecom: {urlSecretRef: {name: a, key: b}}", "exactly one of"),
        ("name: r, webhok: {url: 'http://a'}", "unknown field `webhok`"),
        ("name: r, webhook: {uri: 'http://a'}", "unknown field `uri`"),
        ("name: r, webhook: {}", "exactly one of webhook.url, webhook.urlSecretRef"),
        ("name: r, webhook: {url: 'ftp://a'}", "must be http://… or https://…"),
        ("name: r, webhook: {url: 'http://user:secret@a'}", "must have no credentials"),
        ("name: r, webhook: {url: 'a b'}", "webhook.url"),
        ("name: r, webhook: {url: 'http://a', contentType: \"a\\nb\"}", "must be a media type"),
        ("name: r, alertmanager: {urls: []}", "1 to 8 addresses"),
        ("name: r, alertmanager: {urls: ['http://a'], username: u}", "needs username and passwordSecretRef"),
        ("name: r, slack: {urlSecretRef: {name: .., key: b}}", "the name of a Secret"),
        ("name: r, slack: {urlSecretRef: {name: a/b, key: b}}", "the name of a Secret"),
        ("name: r, slack: {urlSecretRef: {name: a, key: ../b}}", "the key of a Secret"),
        ("name: r, slack: {urlSecretRef: {name: a, key: /etc/passwd}}", "the key of a Secret"),
        ("name: r, slack: {urlSecretRef: {name: a, key: b, namespace: c}}", "unknown field `namespace`"),
        ("name: r, repeatSeconds: 59, webhook: {url: 'http://a'}", "from 60 to 604800"),
        ("name: Upper, webhook: {url: 'http://a'}", "lower-case letters"),
    ];
    for (receiver, words) in table {
        let problem = ReceiversFile::parse(&format!("receivers: [{{{receiver}}}]")).unwrap_err();
        assert!(problem.0.contains(words), "{receiver}: {problem}");
        assert!(!problem.0.contains("secret@"), "{problem}");
    }
    let twice = format!("receivers: [{{name: r, {webhook}}}, {{name: r, {webhook}}}]");
    assert!(ReceiversFile::parse(&twice).unwrap_err().0.contains("used twice"));
}

#[test]
fn a_template_is_tried_when_the_file_is_read_and_is_bounded() {
    let table = [
        ("{{ titel }}", "undefined"),
        ("{% for %}", "the template fails"),
        ("{{ \"text\" }}: {{ title }}", "makes no JSON"),
        ("{\"text\": \"{{ title }}\"}", "makes no JSON"),
        ("{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}", "fuel"),
        ("{{ 'x' * 100000000 }}", "the template fails"),
        (
            "{% set ns = namespace(t='xxxxxxxxxxxxxxxx') %}{% for a in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
            "fuel",
        ),
        ("{% include '/etc/passwd' %}", "the template fails"),
    ];
    for (template, words) in table {
        let template = template.replace('\'', "''");
        let file = format!("receivers: [{{name: r, webhook: {{url: 'http://a', template: '{template}'}}}}]");
        let problem = ReceiversFile::parse(&file).unwrap_err().0;
        assert!(problem.contains(words), "{template}: {problem}");
    }
    let good = r#"{"text": {{ title }}, "names": {{ alerts | map(attribute="name") | list }}}"#;
    let file = format!("receivers: [{{name: r, webhook: {{url: 'http://a', template: '{good}'}}}}]");
    ReceiversFile::parse(&file).unwrap();
}

/// The receivers of each `alerting` in the YAML blocks of a document.
fn alerting(text: &str) -> Vec<String> {
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let values = blocks.map(|block| {
        // In a list the blocks are indented.
        let indent = block.len() - block.trim_start().len();
        let lines: Vec<_> = block.lines().map(|line| line.get(indent..).unwrap_or_default()).collect();
        serde_yaml::from_str::<serde_json::Value>(&lines.join("\n")).unwrap()
    });
    let given = values.filter_map(|value| value.get("alerting").cloned());
    given.map(|alerting| serde_yaml::to_string(&alerting).unwrap()).collect()
}

#[test]
fn examples_of_documents_and_chart_can_be_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = alerting(&fs::read_to_string(root.join("docs/receivers.md")).unwrap());
    assert!(documents.len() >= 3, "only {} found", documents.len());
    let rendered = fs::read_to_string(root.join("tests/chart/golden/full.yaml")).unwrap();
    let maps = serde_yaml::Deserializer::from_str(&rendered).filter_map(|document| {
        let value = <serde_json::Value as serde::Deserialize>::deserialize(document).unwrap();
        value["data"]["receivers.yaml"].as_str().map(str::to_owned)
    });
    let chart: Vec<_> = maps.collect();
    assert_eq!(chart.len(), 1);
    for text in documents.iter().chain(&chart) {
        let file = ReceiversFile::parse(text).unwrap_or_else(|problem| panic!("{problem} in\n{text}"));
        assert!(!file.receivers.is_empty());
    }
}
