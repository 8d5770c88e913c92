//! What is refused at admission, and what only the operator can see: each answer names the field and the way out.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use regex::Regex;
use serde_json::{Value, json};

use crate::support::bench::{Bench, condition};
use crate::support::schema::mistakes;

/// Object, JSON pointers of what is set (null: removed), path and words of the answer.
type Refused = (Value, Vec<(String, Value)>, &'static str, &'static str);

/// A valid object with every field of Kafka and of `steps`.
fn kafka() -> Value {
    let rules =
        json!([{"backlogAbove": 10_000, "addReplicas": 5}, {"backlogBelow": 100, "removeReplicas": 2}]);
    let direction = json!({
        "stabilizationWindowSeconds": 60, "selectPolicy": "Max", "tolerance": "0.1",
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}],
    });
    object(json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"},
        "minReplicas": 1, "maxReplicas": 20, "activationBacklog": 5, "mode": "Active", "pollPeriodSeconds": 5,
        "source": {"kafka": {
            "bootstrapServers": ["kafka.example:9092"], "consumerGroup": "orders", "topics": ["orders"],
            "isolationLevel": "ReadCommitted", "offsetReset": "Earliest",
            "tls": {
                "caSecretRef": {"name": "authority", "key": "ca.crt"}, "insecureSkipVerify": false,
                "clientCertificateSecretRef": {"name": "client"},
            },
            "sasl": {"mechanism": "ScramSha512", "username": "orders", "credentialsSecretRef": {
                "name": "kafka", "usernameKey": "username", "passwordKey": "password",
            }},
        }},
        "policy": {"steps": {"periodSeconds": 60, "rules": rules}},
        "behavior": {"scaleUp": direction, "scaleDown": direction},
        "fallback": {"afterFailedPolls": 3, "replicas": 8},
        "alerts": [{
            "name": "backlog", "backlogAbove": 100_000, "forSeconds": 120, "severity": "Warning", "receivers": ["oncall"],
        }],
        "builtInAlerts": {
            "disabled": ["HotPartition"], "receivers": ["oncall"],
            "severityOverrides": [{"alert": "Stalled", "severity": "Info"}],
        },
        "alertsSilencedUntil": "2026-01-31T18:00:00Z",
    }))
}

/// A valid object with every field of RabbitMQ and `backlogPerReplica`.
fn rabbitmq() -> Value {
    object(json!({
        "scaleTargetRef": {"name": "orders"},
        "maxReplicas": 20,
        "source": {"rabbitmq": {
            "host": "rabbitmq.example", "amqpPort": 5671, "managementUrl": "https://rabbitmq.example:15671",
            "vhost": "/", "queues": ["orders"],
            "credentialsSecretRef": {"name": "rabbitmq", "usernameKey": "username", "passwordKey": "password"},
            "tls": {
                "caSecretRef": {"name": "authority", "key": "ca.crt"}, "insecureSkipVerify": false,
                "clientCertificateSecretRef": {"name": "client"},
            },
        }},
        "policy": {"backlogPerReplica": {"messages": 100}},
    }))
}

/// A valid object with every field of Artemis.
fn artemis() -> Value {
    object(json!({
        "scaleTargetRef": {"name": "orders"},
        "maxReplicas": 20,
        "source": {"artemis": {
            "jolokiaUrls": ["https://artemis.example:8161"], "brokerName": "b0", "queues": ["cid.orders"],
            "address": "orders", "routingType": "Multicast", "missingQueueIsEmpty": true,
            "origin": "http://artemis.example",
            "credentialsSecretRef": {"name": "artemis", "usernameKey": "username", "passwordKey": "password"},
            "tls": {"caSecretRef": {"name": "authority", "key": "ca.crt"}, "insecureSkipVerify": false},
        }},
        "policy": {"backlogPerReplica": {"messages": 100}},
    }))
}

/// A valid object with the fields of ActiveMQ that are needed.
fn activemq() -> Value {
    object(json!({
        "scaleTargetRef": {"name": "orders"},
        "maxReplicas": 20,
        "source": {"activemq": {"jolokiaUrls": ["http://activemq:8161"], "queues": ["orders"]}},
    }))
}

/// A valid object with every field of Pulsar.
fn pulsar() -> Value {
    object(json!({
        "scaleTargetRef": {"name": "orders"},
        "maxReplicas": 20,
        "source": {"pulsar": {
            "adminUrls": ["https://pulsar.example:8443"], "topics": ["persistent://public/default/orders"],
            "subscription": "workers", "subscriptionType": "KeyShared", "batching": "Enabled",
            "tokenSecretRef": {"name": "pulsar", "key": "token"},
            "tls": {"caSecretRef": {"name": "authority", "key": "ca.crt"}, "insecureSkipVerify": false},
        }},
        "policy": {"backlogPerReplica": {"messages": 100}},
    }))
}

/// Every field of the source of RocketMQ.
fn rocketmq() -> Value {
    object(json!({
        "scaleTargetRef": {"name": "orders"},
        "maxReplicas": 20,
        "source": {"rocketmq": {
            "nameServers": ["names.example:9876"], "topic": "orders", "consumerGroup": "workers",
            "consumeType": "Pop", "popInvisibleSeconds": 60, "brokers": ["broker-a"],
            "credentialsSecretRef": {"name": "rocketmq", "usernameKey": "username", "passwordKey": "password"},
            "tls": {"caSecretRef": {"name": "authority", "key": "ca.crt"}, "insecureSkipVerify": false},
        }},
        "policy": {"backlogPerReplica": {"messages": 100}},
    }))
}

/// An `emergencyDrain` whose template has these fields.
fn emergency_drain(template: Value) -> Value {
    json!({"whenEstimatedDrainAboveSeconds": 3600, "start": "Automatic", "template": template})
}

fn object(spec: Value) -> Value {
    json!({
        "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueScaler",
        "metadata": {"name": "orders"}, "spec": spec,
    })
}

/// What the API server would say to a new object. It keeps none.
async fn admission(bench: &Bench, object: &Value) -> Result<(), String> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("queuescaler.io", "v1alpha1", "QueueScaler"));
    let api: Api<DynamicObject> = Api::namespaced_with(bench.client.clone(), &bench.namespace, &kind);
    let name = object["metadata"]["name"].as_str().unwrap();
    let parameters = PatchParams::apply("test").force().validation_strict().dry_run();
    api.patch(name, &parameters, &Patch::Apply(object)).await.map(|_| ()).map_err(|error| error.to_string())
}

async fn definition(bench: &Bench) -> Value {
    let definitions: Api<CustomResourceDefinition> = Api::all(bench.client.clone());
    let definition = definitions.get("queuescalers.queuescaler.io").await.unwrap();
    let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    serde_json::to_value(schema).unwrap()
}

#[tokio::test]
async fn s11_every_bound_is_enforced_with_the_path_of_the_field() {
    let Some(bench) = Bench::without_operator("bounds").await else { return };
    let schema = definition(&bench).await;
    let mut tried = 0;
    let mut wrong = Vec::new();
    for valid in [kafka(), rabbitmq(), pulsar(), rocketmq()] {
        admission(&bench, &valid).await.unwrap();
        for mistake in mistakes(&schema, &valid) {
            tried += 1;
            match admission(&bench, &mistake.object).await {
                Err(message) if names(&message, &mistake.path) => {}
                answer => wrong.push(format!("{} ({}): {answer:?}", mistake.path, mistake.what)),
            }
        }
    }
    assert!(tried > 150, "only {tried} mistakes: did the schema move?");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a message names the field at this path. The API server names an item of a set by its value, one of a map by its
/// key, and one without a key by its number.
fn names(message: &str, path: &str) -> bool {
    let item = r"(\[[^\]]*\])?";
    let pattern = regex::escape(path).replace(r"\[0\]", item);
    let without_key = path.rsplit_once("[0].").map(|(list, _)| format!("{list}: element 0"));
    Regex::new(&pattern).unwrap().is_match(message) || without_key.is_some_and(|list| message.contains(&list))
}

#[tokio::test]
async fn a_policy_may_be_left_out() {
    let Some(bench) = Bench::without_operator("no-policy").await else { return };
    let mut without = kafka();
    without["spec"].as_object_mut().unwrap().remove("policy");
    admission(&bench, &without).await.unwrap();
    without["spec"]["policy"] = json!({"drainTime": {}});
    admission(&bench, &without).await.unwrap();
    let consumer = json!({"env": [{"name": "TOPIC", "value": "$(TEMP_TOPIC)"}]});
    without["spec"]["emergencyDrain"] = emergency_drain(json!({"parallelism": 4, "consumer": consumer}));
    admission(&bench, &without).await.unwrap();
}

#[tokio::test]
async fn every_rule_across_fields_is_enforced_with_path_and_fix() {
    let Some(bench) = Bench::without_operator("rules").await else { return };
    let (k, r) = ("/spec/source/kafka", "/spec/source/rabbitmq");
    let table: Vec<Refused> = vec![
        (
            kafka(),
            vec![("/spec/minReplicas".into(), json!(21))],
            "spec.minReplicas",
            "must not be above maxReplicas",
        ),
        (
            kafka(),
            vec![("/spec/fallback/replicas".into(), json!(21))],
            "spec.fallback.replicas",
            "must not be above maxReplicas",
        ),
        (
            kafka(),
            vec![("/spec/source/rabbitmq".into(), rabbitmq()["spec"]["source"]["rabbitmq"].clone())],
            "spec.source",
            "exactly one of activemq, artemis, kafka, pulsar, rabbitmq, rocketmq",
        ),
        (
            rabbitmq(),
            vec![
                (format!("{r}/deadLetterQueues"), json!(["orders.dead"])),
                (format!("{r}/managementUrl"), Value::Null),
            ],
            "spec.source.rabbitmq.deadLetterQueues",
            "deadLetterQueues needs managementUrl",
        ),
        (
            artemis(),
            vec![("/spec/source/activemq".into(), activemq()["spec"]["source"]["activemq"].clone())],
            "spec.source",
            "exactly one of activemq, artemis, kafka, pulsar, rabbitmq, rocketmq",
        ),
        (
            artemis(),
            vec![("/spec/source/artemis/address".into(), Value::Null)],
            "spec.source.artemis.address",
            "routingType Multicast needs address",
        ),
        (
            artemis(),
            vec![("/spec/source/artemis/queues".into(), json!(["orders::cid.orders"]))],
            "spec.source.artemis.queues",
            "the part before ::",
        ),
        (
            activemq(),
            vec![("/spec/source/activemq/queues".into(), json!(["orders.*"]))],
            "spec.source.activemq.queues",
            "make each queue an item of its own",
        ),
        (
            activemq(),
            vec![("/spec/source/activemq/jolokiaUrls".into(), json!(["http://user:password@activemq:8161"]))],
            "spec.source.activemq.jolokiaUrls[0]",
            "should match",
        ),
        (
            activemq(),
            vec![("/spec/probe".into(), json!({}))],
            "spec.probe",
            "probe needs source.kafka or source.rabbitmq",
        ),
        (
            pulsar(),
            vec![("/spec/source/pulsar/adminUrls".into(), json!(["http://pulsar:8080/admin/v2/"]))],
            "spec.source.pulsar.adminUrls",
            "the address without /admin",
        ),
        (
            pulsar(),
            vec![(
                "/spec/source/pulsar/topics".into(),
                json!(["persistent://public/default/orders-partition-3"]),
            )],
            "spec.source.pulsar.topics",
            "without -partition-",
        ),
        (
            pulsar(),
            vec![("/spec/source/pulsar/topics".into(), json!(["orders"]))],
            "spec.source.pulsar.topics[0]",
            "should match",
        ),
        (
            pulsar(),
            vec![("/spec/probe".into(), json!({}))],
            "spec.probe",
            "probe needs source.kafka or source.rabbitmq",
        ),
        (
            pulsar(),
            vec![("/spec/emergencyDrain".into(), emergency_drain(json!({})))],
            "spec.emergencyDrain",
            "needs exactly one of source.kafka.topics or source.rabbitmq.queues",
        ),
        (
            rocketmq(),
            vec![("/spec/source/rocketmq/topic".into(), json!("%RETRY%workers"))],
            "spec.source.rocketmq.topic",
            "its retry topics are read with it",
        ),
        (
            rocketmq(),
            vec![("/spec/source/rocketmq/consumeType".into(), json!("Pull"))],
            "spec.source.rocketmq.popInvisibleSeconds",
            "popInvisibleSeconds needs consumeType Pop",
        ),
        (
            rocketmq(),
            vec![("/spec/source/rocketmq/nameServers".into(), json!(["a:9876;b:9876"]))],
            "spec.source.rocketmq.nameServers[0]",
            "should match",
        ),
        (
            rocketmq(),
            vec![("/spec/probe".into(), json!({}))],
            "spec.probe",
            "probe needs source.kafka or source.rabbitmq",
        ),
        (
            rocketmq(),
            vec![("/spec/emergencyDrain".into(), emergency_drain(json!({})))],
            "spec.emergencyDrain",
            "needs exactly one of source.kafka.topics or source.rabbitmq.queues",
        ),
        (
            artemis(),
            vec![("/spec/emergencyDrain".into(), emergency_drain(json!({})))],
            "spec.emergencyDrain",
            "needs exactly one of source.kafka.topics or source.rabbitmq.queues",
        ),
        (
            kafka(),
            vec![("/spec/source/kafka".into(), Value::Null)],
            "spec.source",
            "exactly one of activemq, artemis, kafka, pulsar, rabbitmq, rocketmq",
        ),
        (
            kafka(),
            vec![(format!("{k}/topicPattern"), json!("orders.*"))],
            "spec.source.kafka",
            "exactly one of topics, topicPattern",
        ),
        (
            kafka(),
            vec![(format!("{k}/bootstrapServers"), json!(["PLAINTEXT://kafka:9092"]))],
            "spec.source.kafka.bootstrapServers",
            "host:port without a scheme",
        ),
        (
            kafka(),
            vec![(format!("{k}/bootstrapServers"), json!(["kafka-0:9092,kafka-1:9092"]))],
            "spec.source.kafka.bootstrapServers",
            "an item of its own",
        ),
        (
            kafka(),
            vec![(format!("{k}/bootstrapServers"), json!(["kafka:9092", "kafka"]))],
            "spec.source.kafka.bootstrapServers",
            "must be host:port",
        ),
        (
            kafka(),
            vec![(format!("{k}/topics"), Value::Null)],
            "spec.source.kafka",
            "exactly one of topics, topicPattern",
        ),
        (
            rabbitmq(),
            vec![(format!("{r}/queuePattern"), json!("orders.*"))],
            "spec.source.rabbitmq",
            "exactly one of queues, queuePattern",
        ),
        (
            rabbitmq(),
            vec![(format!("{r}/queues"), Value::Null)],
            "spec.source.rabbitmq",
            "exactly one of queues, queuePattern",
        ),
        (
            kafka(),
            vec![(format!("{k}/topicExcludePattern"), json!("orders-dead"))],
            "spec.source.kafka.topicExcludePattern",
            "topicExcludePattern needs topicPattern",
        ),
        (
            rabbitmq(),
            vec![(format!("{r}/queueExcludePattern"), json!("orders-dead"))],
            "spec.source.rabbitmq.queueExcludePattern",
            "queueExcludePattern needs queuePattern",
        ),
        (
            rabbitmq(),
            vec![
                (format!("{r}/managementUrl"), Value::Null),
                (format!("{r}/deadLetterQueues"), json!(["orders.dead"])),
            ],
            "spec.source.rabbitmq.deadLetterQueues",
            "needs managementUrl, because AMQP does not count",
        ),
        (
            rabbitmq(),
            vec![(format!("{r}/vhost"), json!("%2F"))],
            "spec.source.rabbitmq.vhost",
            "write / instead of %2F",
        ),
        (
            rabbitmq(),
            vec![(format!("{r}/managementUrl"), json!("http://rabbitmq.example:15672/api/"))],
            "spec.source.rabbitmq.managementUrl",
            "without /api",
        ),
        (
            rabbitmq(),
            vec![
                (format!("{r}/queues"), Value::Null),
                (format!("{r}/queuePattern"), json!("o.*")),
                (format!("{r}/managementUrl"), Value::Null),
            ],
            "spec.source.rabbitmq.queuePattern",
            "needs managementUrl, because AMQP cannot list",
        ),
        (
            rabbitmq(),
            vec![(format!("{r}/credentialsSecretRef"), Value::Null)],
            "spec.source.rabbitmq.managementUrl",
            "needs credentialsSecretRef",
        ),
        (
            kafka(),
            vec![("/spec/policy/backlogPerReplica".into(), json!({"messages": 1}))],
            "spec.policy",
            "exactly one of backlogPerReplica, drainTime, steps",
        ),
        (
            kafka(),
            vec![("/spec/policy/drainTime".into(), json!({}))],
            "spec.policy",
            "exactly one of backlogPerReplica, drainTime, steps",
        ),
        (
            kafka(),
            vec![("/spec/policy/steps".into(), Value::Null)],
            "spec.policy",
            "exactly one of backlogPerReplica, drainTime, steps",
        ),
        (
            kafka(),
            vec![("/spec/policy".into(), json!({"drainTime": {"serviceRate": {}}}))],
            "spec.policy.drainTime.serviceRate",
            "exactly one of messageSeconds, perReplicaPerMinute",
        ),
        (
            kafka(),
            vec![(
                "/spec/policy".into(),
                json!({"drainTime": {"serviceRate": {"perReplicaPerMinute": 6, "messageSeconds": 10}}}),
            )],
            "spec.policy.drainTime.serviceRate",
            "exactly one of messageSeconds, perReplicaPerMinute",
        ),
        (
            kafka(),
            vec![("/spec/policy/steps/rules/0/backlogBelow".into(), json!(5))],
            "spec.policy.steps.rules[0]",
            "exactly one of backlogAbove, backlogBelow",
        ),
        (
            kafka(),
            vec![("/spec/policy/steps/rules/1/backlogBelow".into(), Value::Null)],
            "spec.policy.steps.rules[1]",
            "exactly one of backlogAbove, backlogBelow",
        ),
        (
            kafka(),
            vec![("/spec/policy/steps/rules/0/removeReplicas".into(), json!(5))],
            "spec.policy.steps.rules[0]",
            "exactly one of addReplicas, removeReplicas",
        ),
        (
            kafka(),
            vec![("/spec/policy/steps/rules/1/removeReplicas".into(), Value::Null)],
            "spec.policy.steps.rules[1]",
            "exactly one of addReplicas, removeReplicas",
        ),
        (
            kafka(),
            vec![("/spec/alerts/0/atMaxReplicas".into(), json!({}))],
            "spec.alerts[0]",
            "exactly one of backlogAbove, oldestMessageAgeAboveSeconds",
        ),
        (
            kafka(),
            vec![("/spec/alerts/0/backlogAbove".into(), Value::Null)],
            "spec.alerts[0]",
            "exactly one of backlogAbove, oldestMessageAgeAboveSeconds",
        ),
        (
            kafka(),
            vec![("/spec/minReplicas".into(), json!(0)), ("/spec/probe".into(), json!({}))],
            "spec.probe",
            "probe needs minReplicas of 1 or more",
        ),
        (
            kafka(),
            vec![
                (format!("{k}/topics"), Value::Null),
                (format!("{k}/topicPattern"), json!("o.*")),
                ("/spec/probe".into(), json!({})),
            ],
            "spec.probe",
            "it writes only to topics that are named",
        ),
        (
            rabbitmq(),
            vec![
                ("/spec/probe".into(), json!({})),
                (format!("{r}/queues"), Value::Null),
                (format!("{r}/queuePattern"), json!("o.*")),
            ],
            "spec.probe",
            "it writes only to queues that are named",
        ),
        (
            rabbitmq(),
            vec![("/spec/probe".into(), json!({})), (format!("{r}/managementUrl"), Value::Null)],
            "spec.probe",
            "AMQP does not count acknowledgements",
        ),
        (
            kafka(),
            vec![
                ("/spec/alerts/0/backlogAbove".into(), Value::Null),
                ("/spec/alerts/0/probeDelayAboveSeconds".into(), json!(60)),
            ],
            "spec.alerts",
            "probeDelayAboveSeconds needs spec.probe",
        ),
        (
            kafka(),
            vec![
                (format!("{k}/topics"), json!(["orders", "returns"])),
                ("/spec/emergencyDrain".into(), emergency_drain(json!({}))),
            ],
            "spec.emergencyDrain",
            "needs exactly one of source.kafka.topics or source.rabbitmq.queues",
        ),
        (
            rabbitmq(),
            vec![
                (format!("{r}/queues"), json!(["orders", "returns"])),
                ("/spec/emergencyDrain".into(), emergency_drain(json!({}))),
            ],
            "spec.emergencyDrain",
            "needs exactly one of source.kafka.topics or source.rabbitmq.queues",
        ),
        (
            kafka(),
            vec![("/spec/emergencyDrain".into(), emergency_drain(json!({"live": "Concurrent"})))],
            "spec.emergencyDrain.template.live",
            "live Concurrent needs ordering None",
        ),
        (
            kafka(),
            vec![(
                "/spec/emergencyDrain".into(),
                emergency_drain(json!({"consumer": {"deploymentRef": {"name": "prepared"}, "args": ["a"]}})),
            )],
            "spec.emergencyDrain.template.consumer.deploymentRef",
            "leave the other fields out",
        ),
        (
            kafka(),
            vec![("/metadata/name".into(), json!("n".repeat(64)))],
            "metadata.name",
            "at most 63 characters",
        ),
        (
            kafka(),
            vec![("/metadata/name".into(), json!("n".repeat(254)))],
            "metadata.name",
            "no more than 253",
        ),
    ];
    for (valid, changes, path, words) in &table {
        let mut object = valid.clone();
        changes.iter().for_each(|(pointer, value)| set(&mut object, pointer, value));
        let message = admission(&bench, &object).await.expect_err(words);
        assert!(message.contains(&format!("{path}:")) && message.contains(words), "{path}: {message}");
    }
    let longest = {
        let mut object = kafka();
        set(&mut object, "/metadata/name", &json!("n".repeat(63)));
        object
    };
    admission(&bench, &longest).await.unwrap();

    // No rule of the definition is missing here.
    let schema = definition(&bench).await;
    let mut rules = Vec::new();
    messages_of_rules(&schema, &mut rules);
    let untested: Vec<_> =
        rules.iter().filter(|rule| !table.iter().any(|(.., words)| rule.contains(words))).collect();
    assert!(rules.len() >= 9 && untested.is_empty(), "without a test: {untested:?}");
}

#[tokio::test]
async fn what_the_schema_does_not_know_is_refused_in_every_object() {
    let Some(bench) = Bench::without_operator("unknown").await else { return };
    for valid in [kafka(), rabbitmq(), pulsar(), rocketmq()] {
        let mut objects = Vec::new();
        pointers_of_objects(&valid["spec"], "/spec", &mut objects);
        assert!(objects.len() > 5);
        for pointer in objects {
            let mut object = valid.clone();
            set(&mut object, &format!("{pointer}/namespace"), &json!("kube-system"));
            let message = admission(&bench, &object).await.expect_err(&pointer);
            assert!(message.contains("namespace"), "{pointer}: {message}");
        }
    }
}

#[tokio::test]
async fn what_admission_cannot_check_makes_the_object_invalid() {
    let Some(mut bench) = Bench::start("invalid").await else { return };
    let (k, r) = ("/spec/source/kafka", "/spec/source/rabbitmq");
    let table: Vec<Refused> = vec![
        (
            kafka(),
            vec![(format!("{k}/topics"), Value::Null), (format!("{k}/topicPattern"), json!("orders-("))],
            "spec.source.kafka.topicPattern",
            "is not a regular expression",
        ),
        (
            kafka(),
            vec![(format!("{k}/topics"), Value::Null), (format!("{k}/topicPattern"), json!("a)|(b"))],
            "spec.source.kafka.topicPattern",
            "is not a regular expression",
        ),
        (
            kafka(),
            vec![
                (format!("{k}/topics"), Value::Null),
                (format!("{k}/topicPattern"), json!("((a{1000}){1000}){1000}")),
            ],
            "spec.source.kafka.topicPattern",
            "size limit",
        ),
        (
            kafka(),
            vec![(format!("{k}/bootstrapServers"), json!(["kafka.example:65536"]))],
            "spec.source.kafka.bootstrapServers[0]",
            "a port from 1 to 65535",
        ),
        (
            kafka(),
            vec![(format!("{k}/bootstrapServers"), json!(["kafka.example:9092", "kafka.example:0"]))],
            "spec.source.kafka.bootstrapServers[1]",
            "a port from 1 to 65535",
        ),
        (
            rabbitmq(),
            vec![(format!("{r}/queues"), Value::Null), (format!("{r}/queuePattern"), json!("[z-a]"))],
            "spec.source.rabbitmq.queuePattern",
            "is not a regular expression",
        ),
        (
            rabbitmq(),
            vec![(format!("{r}/managementUrl"), json!("https://rabbitmq.example:99999"))],
            "spec.source.rabbitmq.managementUrl",
            "is not a URL",
        ),
        (
            kafka(),
            vec![("/spec/behavior/scaleUp/tolerance".into(), json!("9999m"))],
            "spec.behavior.scaleUp.tolerance",
            "from 0 to 1",
        ),
    ];
    for (number, (valid, changes, field, words)) in table.iter().enumerate() {
        let name = format!("invalid-{number}");
        // Outside of the bounds, so that the least attention would change it.
        bench.deployment(&name, 50).await;
        let before = bench.api::<Deployment>().get(&name).await.unwrap();
        let mut object = valid.clone();
        changes.iter().for_each(|(pointer, value)| set(&mut object, pointer, value));
        object["spec"]["scaleTargetRef"]["name"] = json!(name);
        bench.queue_scaler(&name, object["spec"].clone()).await;
        let object = bench.until_condition(&name, "Ready", "False", "SpecInvalid").await;
        let (_, _, message) = condition(&object, "Ready").unwrap();
        assert!(message.starts_with(&format!("{field}: ")) && message.contains(words), "{message}");
        let after = bench.api::<Deployment>().get(&name).await.unwrap();
        assert_eq!(bench.replicas(&name).await, 50);
        assert_eq!(before.metadata.generation, after.metadata.generation);
        bench.warned(&name, &["SpecInvalid"]).await;
    }
    bench.is_sound(&[]).await;

    // A corrected object is served at once.
    let mut corrected = kafka();
    corrected["spec"]["scaleTargetRef"]["name"] = json!("invalid-0");
    bench.queue_scaler("invalid-0", corrected["spec"].clone()).await;
    bench.until_replicas("invalid-0", 20).await;
}

/// Sets what a JSON pointer names, or removes it for null.
fn set(object: &mut Value, pointer: &str, value: &Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => drop(parent.remove(name)),
        value => drop(parent.insert(name.to_owned(), value.clone())),
    }
}

fn messages_of_rules(schema: &Value, found: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.push(rule["message"].as_str().unwrap().to_owned());
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.for_each(|(_, property)| messages_of_rules(property, found));
    if schema["items"].is_object() {
        messages_of_rules(&schema["items"], found);
    }
}

fn pointers_of_objects(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(pointer.to_owned());
            fields
                .iter()
                .for_each(|(name, field)| pointers_of_objects(field, &format!("{pointer}/{name}"), found));
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, item)| pointers_of_objects(item, &format!("{pointer}/{index}"), found)),
        _ => {}
    }
}
