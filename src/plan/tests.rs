//! Every field that the schema cannot check is refused with its path and the way out; the rest gets its defaults.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::{ScalingPolicy, ScalingPolicyType, SelectPolicy};

mod alerts;

/// A specification without anything optional.
fn kafka() -> Value {
    json!({
        "scaleTargetRef": {"name": "orders-consumer"},
        "maxReplicas": 24,
        "source": {"kafka": {
            "bootstrapServers": ["kafka:9092"], "consumerGroup": "orders", "topics": ["orders"],
        }},
        "policy": {"backlogPerReplica": {"messages": 1000}},
    })
}

fn rabbitmq() -> Value {
    let mut spec = kafka();
    spec["source"] = json!({"rabbitmq": {"host": "rabbitmq", "queues": ["orders"]}});
    spec
}

fn with(mut spec: Value, pointer: &str, value: Value) -> Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[member] = value;
    spec
}

fn plan_of(spec: Value) -> Result<Plan, Invalid> {
    validate(&QueueScaler::new("orders", serde_json::from_value(spec).unwrap()), "shop")
}

fn refused(spec: Value, field: &str, problem: &str) {
    let invalid = plan_of(spec).expect_err(field);
    assert_eq!((invalid.field.as_str(), invalid.problem.as_str()), (field, problem));
}

#[test]
fn what_is_left_out_gets_the_documented_defaults() {
    let scaling = plan_of(kafka()).unwrap().scaling;
    assert_eq!(scaling.bounds, Bounds { min: 1, max: 24 });
    assert_eq!(scaling.poll_period, Duration::from_secs(5));
    assert_eq!((scaling.activation_backlog, scaling.fallback), (0, None));
    let (up, down) = (scaling.behavior.up, scaling.behavior.down);
    assert_eq!((up.window, up.policies.len(), up.tolerance_millis), (Duration::ZERO, 0, 0));
    assert_eq!((down.window, down.select), (Duration::from_secs(300), SelectPolicy::Max));
    let policy = |type_, value| ScalingPolicy { type_, value, period_seconds: 60 };
    let expected = [policy(ScalingPolicyType::Percent, 25), policy(ScalingPolicyType::Pods, 1)];
    assert_eq!(down.policies, expected);
}

#[test]
fn a_partial_behavior_keeps_the_other_defaults() {
    let spec = with(kafka(), "/behavior", json!({"scaleDown": {"stabilizationWindowSeconds": 10}}));
    let down = plan_of(spec).unwrap().scaling.behavior.down;
    assert_eq!((down.window, down.policies.len()), (Duration::from_secs(10), 2));
}

#[test]
fn only_rabbitmq_repeats_its_numbers_within_its_statistics_interval() {
    assert_eq!(plan_of(kafka()).unwrap().scaling.statistics_interval, Duration::ZERO);
    assert_eq!(plan_of(rabbitmq()).unwrap().scaling.statistics_interval, Duration::from_secs(5));
}

#[test]
fn a_scaling_field_that_cannot_be_used_is_named_with_the_way_out() {
    let one_of = "exactly one of backlogPerReplica, drainTime, steps must be set";
    let cases = [
        ("/maxReplicas", json!(0), "spec.maxReplicas", "is 0, must be 1 or more"),
        ("/minReplicas", json!(-1), "spec.minReplicas", "is -1, must be from 0 to maxReplicas (24)"),
        ("/minReplicas", json!(25), "spec.minReplicas", "is 25, must be from 0 to maxReplicas (24)"),
        ("/activationBacklog", json!(-1), "spec.activationBacklog", "is -1, must be 0 or more"),
        ("/pollPeriodSeconds", json!(0), "spec.pollPeriodSeconds", "is 0, must be from 1 to 3600 seconds"),
        ("/pollPeriodSeconds", json!(-5), "spec.pollPeriodSeconds", "is -5, must be from 1 to 3600 seconds"),
        (
            "/pollPeriodSeconds",
            json!(3601),
            "spec.pollPeriodSeconds",
            "is 3601, must be from 1 to 3600 seconds",
        ),
        (
            "/fallback",
            json!({"afterFailedPolls": 0, "replicas": 6}),
            "spec.fallback.afterFailedPolls",
            "is 0, must be 1 or more",
        ),
        (
            "/fallback",
            json!({"replicas": 0}),
            "spec.fallback.replicas",
            "is 0, must be from 1 to maxReplicas (24)",
        ),
        (
            "/fallback",
            json!({"replicas": 25}),
            "spec.fallback.replicas",
            "is 25, must be from 1 to maxReplicas (24)",
        ),
        ("/policy", json!({}), "spec.policy", one_of),
        (
            "/policy",
            json!({"backlogPerReplica": {"messages": 1}, "steps": {"rules": []}}),
            "spec.policy",
            one_of,
        ),
        (
            "/policy",
            json!({"backlogPerReplica": {"messages": 0}}),
            "spec.policy.backlogPerReplica.messages",
            "is 0, must be 1 or more",
        ),
        ("/policy", json!({"drainTime": {}, "steps": {"rules": []}}), "spec.policy", one_of),
        (
            "/policy",
            json!({"drainTime": {"targetSeconds": 0}}),
            "spec.policy.drainTime.targetSeconds",
            "is 0, must be from 1 to 86400 seconds",
        ),
        (
            "/policy",
            json!({"drainTime": {"maxAgeSeconds": 86401}}),
            "spec.policy.drainTime.maxAgeSeconds",
            "is 86401, must be from 1 to 86400 seconds",
        ),
        (
            "/policy",
            json!({"drainTime": {"headroomPercent": -1}}),
            "spec.policy.drainTime.headroomPercent",
            "is -1, must be from 0 to 1000 percent",
        ),
        (
            "/policy",
            json!({"drainTime": {"serviceRate": {"perReplicaPerMinute": 0}}}),
            "spec.policy.drainTime.serviceRate.perReplicaPerMinute",
            "is 0, must be 1 or more",
        ),
        (
            "/policy",
            json!({"drainTime": {"serviceRate": {"messageSeconds": 86401}}}),
            "spec.policy.drainTime.serviceRate.messageSeconds",
            "is 86401, must be from 1 to 86400 seconds",
        ),
        (
            "/policy",
            json!({"drainTime": {"serviceRate": {}}}),
            "spec.policy.drainTime.serviceRate",
            "exactly one of messageSeconds, perReplicaPerMinute must be set",
        ),
        (
            "/policy",
            json!({"drainTime": {"serviceRate": {"perReplicaPerMinute": 1, "messageSeconds": 60}}}),
            "spec.policy.drainTime.serviceRate",
            "exactly one of messageSeconds, perReplicaPerMinute must be set",
        ),
        (
            "/policy",
            json!({"steps": {"periodSeconds": 0, "rules": []}}),
            "spec.policy.steps.periodSeconds",
            "is 0, must be from 1 to 86400 seconds",
        ),
    ];
    for (pointer, value, field, problem) in cases {
        refused(with(kafka(), pointer, value), field, problem);
    }
}

#[test]
fn without_a_policy_a_backlog_is_to_be_gone_in_300_s() {
    let default =
        DrainTime { target: Duration::from_secs(300), max_age: None, hint: None, headroom_percent: 30 };
    let mut spec = kafka();
    spec.as_object_mut().unwrap().remove("policy");
    assert_eq!(plan_of(spec).unwrap().scaling.policy, Policy::DrainTime(default));
    let given = json!({"drainTime": {"targetSeconds": 60, "maxAgeSeconds": 30, "headroomPercent": 0,
        "serviceRate": {"perReplicaPerMinute": 120}}});
    let expected = DrainTime {
        target: Duration::from_secs(60),
        max_age: Some(Duration::from_secs(30)),
        hint: Some(ServiceRateHint::PerMinute(120)),
        headroom_percent: 0,
    };
    assert_eq!(plan_of(with(kafka(), "/policy", given)).unwrap().scaling.policy, Policy::DrainTime(expected));
}

#[test]
fn a_job_of_minutes_can_be_told() {
    let given = json!({"drainTime": {"serviceRate": {"messageSeconds": 600}}});
    let Policy::DrainTime(policy) = plan_of(with(kafka(), "/policy", given)).unwrap().scaling.policy else {
        panic!("another policy")
    };
    assert_eq!(policy.hint, Some(ServiceRateHint::Message(Duration::from_secs(600))));
    assert!((policy.hint.unwrap().per_second() - 1.0 / 600.0).abs() < 1e-12);
    assert!((ServiceRateHint::PerMinute(120).per_second() - 2.0).abs() < 1e-12);
}

#[test]
fn a_step_rule_that_cannot_be_used_is_named_by_its_place() {
    let threshold = "exactly one of backlogAbove, backlogBelow must be set";
    let change = "exactly one of addReplicas, removeReplicas must be set";
    let cases = [
        (json!({"addReplicas": 5}), "", threshold),
        (json!({"backlogAbove": 1, "backlogBelow": 1, "addReplicas": 5}), "", threshold),
        (json!({"backlogAbove": -1, "addReplicas": 5}), ".backlogAbove", "is -1, must be 0 or more"),
        (json!({"backlogBelow": 0, "addReplicas": 5}), ".backlogBelow", "is 0, must be 1 or more"),
        (json!({"backlogAbove": 1}), "", change),
        (json!({"backlogAbove": 1, "addReplicas": 0}), ".addReplicas", "is 0, must be 1 or more"),
        (json!({"backlogAbove": 1, "removeReplicas": -2}), ".removeReplicas", "is -2, must be 1 or more"),
        (json!({"backlogAbove": 1, "addReplicas": 5, "removeReplicas": 2}), "", change),
    ];
    for (rule, member, problem) in cases {
        let good = json!({"backlogAbove": 1, "addReplicas": 5});
        let spec = with(kafka(), "/policy", json!({"steps": {"rules": [good, rule]}}));
        refused(spec, &format!("spec.policy.steps.rules[1]{member}"), problem);
    }
}

#[test]
fn a_behavior_field_that_cannot_be_used_is_named_with_the_way_out() {
    let tolerance = "must be a ratio from 0 to 1, such as 0.1 or \"100m\"";
    let policy = |value: i32, period: i32| json!({"policies": [{"type": "Pods", "value": value, "periodSeconds": period}]});
    let cases = [
        (
            json!({"stabilizationWindowSeconds": 3601}),
            "stabilizationWindowSeconds",
            "is 3601, must be from 0 to 3600 seconds",
        ),
        (
            json!({"stabilizationWindowSeconds": -1}),
            "stabilizationWindowSeconds",
            "is -1, must be from 0 to 3600 seconds",
        ),
        (policy(0, 60), "policies[0].value", "is 0, must be 1 or more"),
        (policy(1, 0), "policies[0].periodSeconds", "is 0, must be from 1 to 1800 seconds"),
        (policy(1, 1801), "policies[0].periodSeconds", "is 1801, must be from 1 to 1800 seconds"),
        (json!({"tolerance": "1.5"}), "tolerance", tolerance),
        (json!({"tolerance": "1001m"}), "tolerance", tolerance),
        (json!({"tolerance": "-0.1"}), "tolerance", tolerance),
        (json!({"tolerance": "NaN"}), "tolerance", tolerance),
        (json!({"tolerance": "10%"}), "tolerance", tolerance),
        (json!({"tolerance": ""}), "tolerance", tolerance),
        (json!({"tolerance": 2}), "tolerance", tolerance),
        (json!({"tolerance": -1}), "tolerance", tolerance),
    ];
    for direction in ["scaleUp", "scaleDown"] {
        for (rules, member, problem) in &cases {
            let spec = with(kafka(), "/behavior", json!({direction: rules}));
            refused(spec, &format!("spec.behavior.{direction}.{member}"), problem);
        }
    }
}

#[test]
fn a_tolerance_is_a_ratio_in_every_form_that_a_quantity_has() {
    let cases = [("0", 0), ("1", 1000), ("0.1", 100), (".5", 500), ("100m", 100), ("1000m", 1000)];
    for (text, millis) in cases {
        let spec = with(kafka(), "/behavior", json!({"scaleUp": {"tolerance": text}}));
        assert_eq!(plan_of(spec).unwrap().scaling.behavior.up.tolerance_millis, millis, "{text}");
    }
    for (number, millis) in [(json!(1), 1000), (json!(0), 0), (json!(0.1), 100), (json!(0.05), 50)] {
        let spec = with(kafka(), "/behavior", json!({"scaleUp": {"tolerance": number}}));
        assert_eq!(plan_of(spec).unwrap().scaling.behavior.up.tolerance_millis, millis, "{number}");
    }
}

#[test]
fn tokens_come_from_a_url_without_credentials() {
    let source = |oauth: Value| {
        let sasl =
            json!({"mechanism": "OAuthBearer", "credentialsSecretRef": {"name": "client"}, "oauth": oauth});
        json!({"bootstrapServers": ["kafka:9092"], "consumerGroup": "g", "topics": ["orders"], "sasl": sasl})
    };
    let plan = |oauth: Value| {
        let given: crate::api::Kafka = serde_json::from_value(source(oauth)).unwrap();
        super::source::validate_kafka(&given, "shop")
    };
    let known =
        plan(json!({"tokenUrl": "https://login/token", "extensions": {"logicalCluster": "lkc-1"}})).unwrap();
    assert_eq!(known.sasl.unwrap().oauth.unwrap().token_url, "https://login.shop.svc/token");
    for (oauth, field, problem) in [
        (json!({"tokenUrl": "login/token"}), "tokenUrl", "is not a URL"),
        (json!({"tokenUrl": "ftp://login/token"}), "tokenUrl", "must begin with http:// or https://"),
        (json!({"tokenUrl": "https://me:it@login/token"}), "tokenUrl", "must not contain credentials"),
        (
            json!({"tokenUrl": "https://login", "extensions": {"auth": "x"}}),
            "extensions[\"auth\"]",
            "is no extension",
        ),
        (
            json!({"tokenUrl": "https://login", "extensions": {"a-b": "x"}}),
            "extensions[\"a-b\"]",
            "letters only",
        ),
        (
            json!({"tokenUrl": "https://login", "extensions": {"a": "x\u{1}y"}}),
            "extensions[\"a\"]",
            "visible ASCII",
        ),
    ] {
        let invalid = plan(oauth).unwrap_err().to_string();
        assert!(invalid.contains(&format!("spec.source.kafka.sasl.oauth.{field}")), "{invalid}");
        assert!(invalid.contains(problem), "{invalid}");
    }
    let mut without = source(json!(null));
    without["sasl"].as_object_mut().unwrap().remove("oauth");
    let given: crate::api::Kafka = serde_json::from_value(without).unwrap();
    let invalid = super::source::validate_kafka(&given, "shop").unwrap_err().to_string();
    assert!(invalid.contains("is needed with mechanism OAuthBearer"), "{invalid}");
}

#[test]
fn a_kafka_field_that_cannot_be_used_is_named_with_the_way_out() {
    let topics = "exactly one of topics (not empty), topicPattern must be set";
    let cases = [
        ("/bootstrapServers", json!([]), ".bootstrapServers", "at least one broker as host:port is needed"),
        (
            "/bootstrapServers",
            json!(["PLAINTEXT://kafka:9092"]),
            ".bootstrapServers[0]",
            "\"PLAINTEXT://kafka:9092\" must be host:port without PLAINTEXT://; set tls or sasl instead of another scheme",
        ),
        (
            "/bootstrapServers",
            json!(["kafka-0:9092,kafka-1:9092"]),
            ".bootstrapServers[0]",
            "\"kafka-0:9092,kafka-1:9092\" must be one broker; make each one an item of the list",
        ),
        (
            "/bootstrapServers",
            json!(["kafka:9092", "kafka"]),
            ".bootstrapServers[1]",
            "\"kafka\" must be host:port with a port from 1 to 65535",
        ),
        (
            "/bootstrapServers",
            json!(["kafka:65536"]),
            ".bootstrapServers[0]",
            "\"kafka:65536\" must be host:port with a port from 1 to 65535",
        ),
        (
            "/bootstrapServers",
            json!([":9092"]),
            ".bootstrapServers[0]",
            "\":9092\" must be host:port with a port from 1 to 65535",
        ),
        ("/consumerGroup", json!(""), ".consumerGroup", "must not be empty"),
        ("/topics", json!([]), "", topics),
        ("/topics", Value::Null, "", topics),
        ("/topicPattern", json!("^orders"), "", topics),
    ];
    for (member, value, field, problem) in cases {
        let spec = with(kafka(), &format!("/source/kafka{member}"), value);
        refused(spec, &format!("spec.source.kafka{field}"), problem);
    }
}

#[test]
fn a_rabbitmq_field_that_cannot_be_used_is_named_with_the_way_out() {
    let queues = "exactly one of queues (not empty), queuePattern must be set";
    let credentials = "must not contain credentials; name a Secret in credentialsSecretRef";
    let cases = [
        ("/amqpPort", json!(0), ".amqpPort", "must be from 1 to 65535"),
        ("/amqpPort", json!(65_536), ".amqpPort", "must be from 1 to 65535"),
        ("/queues", json!([]), "", queues),
        ("/queuePattern", json!("^orders"), "", queues),
        ("/managementUrl", json!("ftp://rabbitmq"), ".managementUrl", "must begin with http:// or https://"),
        ("/managementUrl", json!("http://user@rabbitmq"), ".managementUrl", credentials),
        ("/managementUrl", json!("http://:secret@rabbitmq"), ".managementUrl", credentials),
        (
            "/managementUrl",
            json!("http://rabbitmq:15672/?a=b"),
            ".managementUrl",
            "must end with the path, without ? or #",
        ),
        ("/managementUrl", json!("rabbitmq"), ".managementUrl", "is not a URL: relative URL without a base"),
    ];
    for (member, value, field, problem) in cases {
        let spec = with(rabbitmq(), &format!("/source/rabbitmq{member}"), value);
        refused(spec, &format!("spec.source.rabbitmq{field}"), problem);
    }
    let spec =
        with(rabbitmq(), "/source", json!({"rabbitmq": {"host": "rabbitmq", "queuePattern": "^orders"}}));
    refused(
        spec,
        "spec.source.rabbitmq.queuePattern",
        "needs managementUrl, because AMQP cannot list queues",
    );
}

#[test]
fn exactly_one_source_is_needed() {
    let problem = "exactly one of activemq, artemis, kafka, pulsar, rabbitmq, rocketmq must be set";
    refused(with(kafka(), "/source", json!({})), "spec.source", problem);
    let both = json!({"kafka": kafka()["source"]["kafka"], "rabbitmq": rabbitmq()["source"]["rabbitmq"]});
    refused(with(kafka(), "/source", both), "spec.source", problem);
}

#[test]
fn a_pattern_that_is_none_is_refused_and_a_huge_one_too() {
    for pattern in ["(", "a)|(b", "*", r"(\w{100}){100}{100}"] {
        let kafka_source = json!({
            "bootstrapServers": ["kafka:9092"], "consumerGroup": "orders", "topicPattern": pattern,
        });
        let invalid = plan_of(with(kafka(), "/source", json!({"kafka": kafka_source}))).expect_err(pattern);
        assert_eq!(invalid.field, "spec.source.kafka.topicPattern");
        assert!(invalid.problem.starts_with("is not a regular expression: "), "{}", invalid.problem);
    }
}

#[test]
fn a_pattern_matches_whole_names() {
    let source = json!({"kafka": {
        "bootstrapServers": ["kafka:9092"], "consumerGroup": "orders", "topicPattern": "orders|returns",
    }});
    let Source::Kafka(kafka) = plan_of(with(kafka(), "/source", source)).unwrap().source else {
        panic!("not a Kafka source")
    };
    let topics = kafka.interest.topics;
    for (name, matches) in
        [("orders", true), ("returns", true), ("orders-dead", false), ("my-returns", false)]
    {
        assert_eq!(topics.matches(name), matches, "{name}");
    }
}

#[test]
fn an_exclude_pattern_leaves_whole_names_out() {
    let source = json!({"rabbitmq": {
        "host": "rabbitmq", "managementUrl": "http://rabbitmq:15672", "queuePattern": "orders.*",
        "queueExcludePattern": r".*\.dead|orders\.retry",
    }});
    let Source::RabbitMq(rabbitmq) = plan_of(with(kafka(), "/source", source)).unwrap().source else {
        panic!("not a RabbitMQ source")
    };
    let queues = rabbitmq.interest.queues;
    for (name, matches) in [
        ("orders", true),
        ("orders.eu", true),
        ("orders.dead", false),
        ("orders.retry", false),
        ("orders.retry.2", true),
        ("invoices", false),
    ] {
        assert_eq!(queues.matches(name), matches, "{name}");
    }
    assert_eq!(queues.to_string(), r"pattern ^(?:orders.*)$ without ^(?:.*\.dead|orders\.retry)$");
}

#[test]
fn an_exclude_pattern_needs_a_pattern_and_is_a_regular_expression() {
    let rabbitmq = |members: serde_json::Value| {
        let mut source = json!({"host": "rabbitmq", "managementUrl": "http://rabbitmq:15672"});
        source.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        with(kafka(), "/source", json!({"rabbitmq": source}))
    };
    for (members, problem) in [
        (json!({"queues": ["a"], "queueExcludePattern": "b"}), "needs queuePattern"),
        (json!({"queuePattern": "a", "queueExcludePattern": "("}), "is not a regular expression: "),
    ] {
        let invalid = plan_of(rabbitmq(members)).unwrap_err();
        assert_eq!(invalid.field, "spec.source.rabbitmq.queueExcludePattern");
        assert!(invalid.problem.starts_with(problem), "{}", invalid.problem);
    }
}

#[test]
fn an_escaped_vhost_and_an_address_with_api_get_a_hint() {
    let rabbitmq = |member: &str, value: &str| {
        let mut source =
            json!({"host": "rabbitmq", "managementUrl": "http://rabbitmq:15672", "queues": ["a"]});
        source[member] = json!(value);
        plan_of(with(kafka(), "/source", json!({"rabbitmq": source})))
    };
    for (member, value, hint) in [
        ("vhost", "%2F", "write / instead"),
        ("vhost", "%2f", "write / instead"),
        ("managementUrl", "http://rabbitmq:15672/api", "without /api"),
        ("managementUrl", "http://rabbitmq:15672/base/api/", "without /api"),
    ] {
        let invalid = rabbitmq(member, value).unwrap_err();
        assert_eq!(invalid.field, format!("spec.source.rabbitmq.{member}"));
        assert!(invalid.problem.contains(hint), "{}", invalid.problem);
    }
    assert!(rabbitmq("vhost", "a%2Fb").is_ok());
    assert!(rabbitmq("managementUrl", "http://rabbitmq:15672/apis").is_ok());
}

#[test]
fn a_host_without_a_dot_is_a_service_of_the_objects_namespace() {
    let Source::Kafka(source) = plan_of(kafka()).unwrap().source else { panic!("not a Kafka source") };
    assert_eq!(source.bootstrap, ["kafka.shop.svc:9092"]);

    // (given, completed)
    let urls = [
        ("http://rabbitmq:15672", "http://rabbitmq.shop.svc:15672"),
        ("https://rabbitmq.queues:15671/base/", "https://rabbitmq.queues:15671/base"),
        ("http://[::1]:15672", "http://[::1]:15672"),
        ("http://10.0.0.7:15672", "http://10.0.0.7:15672"),
        ("http://localhost:15672", "http://localhost:15672"),
    ];
    for (given, completed) in urls {
        let spec = with(rabbitmq(), "/source/rabbitmq/managementUrl", json!(given));
        let Source::RabbitMq(source) = plan_of(spec).unwrap().source else { panic!("not RabbitMQ") };
        assert_eq!(source.management_url.as_deref(), Some(completed));
        assert_eq!(source.host, "rabbitmq.shop.svc");
    }
}

#[test]
fn the_amqp_port_follows_tls() {
    for (tls, port) in [(Value::Null, 5672), (json!({}), 5671)] {
        let spec = with(rabbitmq(), "/source/rabbitmq/tls", tls);
        let Source::RabbitMq(source) = plan_of(spec).unwrap().source else { panic!("not RabbitMQ") };
        assert_eq!(source.amqp_port, port);
    }
}

#[test]
fn names_are_sorted_and_not_repeated() {
    let spec = |queues: Value| {
        let Source::RabbitMq(source) =
            plan_of(with(rabbitmq(), "/source/rabbitmq/queues", queues)).unwrap().source
        else {
            panic!("not RabbitMQ")
        };
        source.interest
    };
    assert_eq!(spec(json!(["b", "a", "b"])), spec(json!(["a", "b"])));
}

#[test]
fn an_invalid_field_reads_as_a_sentence() {
    let invalid = plan_of(with(kafka(), "/maxReplicas", json!(0))).unwrap_err();
    assert_eq!(invalid.to_string(), "spec.maxReplicas: is 0, must be 1 or more");
}

/// The time between two probes of a partition. Absent: none is sent.
fn probe_of(spec: Value) -> Option<Duration> {
    match plan_of(spec).unwrap().source {
        Source::Kafka(kafka) => kafka.interest.probe,
        Source::RabbitMq(rabbitmq) => rabbitmq.interest.probe,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_probe_is_sent_by_an_active_object_only() {
    assert_eq!(probe_of(kafka()), None);
    assert_eq!(probe_of(with(kafka(), "/probe", json!({}))), Some(Duration::from_secs(60)));
    let often = with(kafka(), "/probe", json!({"periodSeconds": 10}));
    assert_eq!(probe_of(often.clone()), Some(Duration::from_secs(10)));
    for mode in ["DryRun", "Paused"] {
        assert_eq!(probe_of(with(often.clone(), "/mode", json!(mode))), None, "{mode}");
    }
    let source = plan_of(often).unwrap().source.without_probe();
    assert_eq!(source, plan_of(kafka()).unwrap().source);
}

#[test]
fn a_probe_that_cannot_be_is_refused_with_the_way_out() {
    let probe = |spec| with(spec, "/probe", json!({"periodSeconds": 9}));
    refused(probe(kafka()), "spec.probe.periodSeconds", "is 9, must be from 10 to 86400 seconds");
    let problem = "needs minReplicas of 1 or more, because its messages would start and keep replicas";
    refused(with(probe(kafka()), "/minReplicas", json!(0)), "spec.probe", problem);
    let mut pattern = with(kafka(), "/probe", json!({}));
    let kafka = pattern["source"]["kafka"].as_object_mut().unwrap();
    kafka.remove("topics");
    kafka.insert("topicPattern".into(), json!("o.*"));
    let problem = "needs source.kafka.topics, because it writes only to topics that are named";
    refused(pattern, "spec.probe", problem);
    let mut queues = with(rabbitmq(), "/probe", json!({}));
    let problem = "needs source.rabbitmq.managementUrl, because AMQP does not count acknowledgements";
    refused(queues.clone(), "spec.probe", problem);
    let fields = queues["source"]["rabbitmq"].as_object_mut().unwrap();
    fields.insert("managementUrl".into(), json!("http://rabbitmq:15672"));
    assert_eq!(probe_of(queues.clone()), Some(Duration::from_secs(60)));
    let fields = queues["source"]["rabbitmq"].as_object_mut().unwrap();
    fields.remove("queues");
    fields.insert("queuePattern".into(), json!("o.*"));
    let problem = "needs source.rabbitmq.queues, because it writes only to queues that are named";
    refused(queues, "spec.probe", problem);
}

#[test]
fn the_same_servers_in_another_order_are_one_broker() {
    let address = |servers: Value| {
        let plan = plan_of(with(kafka(), "/source/kafka/bootstrapServers", servers)).unwrap();
        plan.source.broker_address()
    };
    assert_eq!(
        address(json!(["b.example.com:9092", "A.example.com:9092"])),
        "a.example.com:9092,b.example.com:9092"
    );
    assert_eq!(
        address(json!(["a.example.com:9092", "b.example.com:9092"])),
        "a.example.com:9092,b.example.com:9092"
    );
}
