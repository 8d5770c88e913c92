//! How fast a distributor copies the backlog of a queue: 200,000 messages of 200 bytes from a quorum queue to 10, against
//! the broker's own shovel, which moves the same messages to one quorum queue and acknowledges on confirm, too.

use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::rabbitmq::access::RabbitMqAccess;
use queuescaler::brokers::rabbitmq::admin::{Kind, RabbitMqAdmin};
use queuescaler::drain::distribution::Ordering;
use queuescaler::drain::distribution::queue::{
    AmqpConnection, QueueDistribution, SourceQueue, TemporaryQueues,
};
use serde_json::json;

use super::brokers::RabbitMq;
use super::distributor::{NOWHERE, distribute, kill, start};
use super::fleet;
use super::support::kafka_reading::unique;
use super::support::rabbitmq_admin::{credentials, host_and_port};
use super::table::{Table, seconds};

const SIZE: usize = 200;
const QUEUES: u32 = 10;
const VHOST: &str = "/";
/// Messages that are sent before their confirms are awaited.
const AT_ONCE: usize = 5000;
const RESTARTS: usize = 5;
/// No copy arrives any more if none has come for so long.
const SETTLED: Duration = Duration::from_millis(500);

pub async fn measure(rabbitmq: &RabbitMq, table: &mut Table) {
    let messages = fleet::part(200_000);
    let connection = Connection::connect(&rabbitmq.amqp, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let what = format!("{messages} messages of {SIZE} B, quorum queues");
    let rate = |time: Duration| messages as f64 / time.as_secs_f64();

    let shovelled = shovel(rabbitmq, &channel, messages).await;
    table.row(format!("shovel of the broker, on-confirm, {what}"), format!("{:.0}/s", rate(shovelled)), "");

    let source = fill(&channel, messages).await;
    let told = distribution(rabbitmq, &source, messages).await;
    let (copied, memory, outcome) = tokio::task::block_in_place(|| distribute(&told));
    assert_eq!(outcome.copied, u64::try_from(messages).unwrap(), "{outcome:?}");
    let share = shovelled.as_secs_f64() / copied.as_secs_f64();
    let measured = format!("{:.0}/s, {share:.2} of the shovel", rate(copied));
    table.row(
        format!("drain: copy of the same to {QUEUES} queues by one distributor"),
        measured,
        "≥ the shovel",
    );
    table.row("drain: memory of a distributor of a queue", format!("{memory:.0} MiB at most"), "≤ 128 MiB");

    let source = fill(&channel, messages).await;
    let mut told = distribution(rabbitmq, &source, messages).await;
    told.max_bytes_per_second = Some(400_000);
    let mut sample = Vec::new();
    for _ in 0..RESTARTS {
        sample.push(restart(&channel, &told).await);
    }
    sample.sort_unstable();
    let measured = format!(
        "{} median, {} worst of {RESTARTS}",
        seconds(sample[RESTARTS / 2]),
        seconds(sample[RESTARTS - 1])
    );
    table.row("drain: killed distributor of a queue, from its restart to the first batch", measured, "≤ 3 s");
    connection.close(200, "done".into()).await.unwrap();
}

/// Declares a quorum queue with so many messages.
async fn fill(channel: &Channel, messages: usize) -> String {
    let queue = declare(channel, "backlog").await;
    let mut confirms = Vec::new();
    for number in 1..=messages {
        let (options, properties) =
            (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
        let sent =
            channel.basic_publish("".into(), queue.as_str().into(), options, &[b'x'; SIZE], properties);
        confirms.push(sent.await.unwrap());
        if number % AT_ONCE == 0 || number == messages {
            for confirm in confirms.drain(..) {
                assert!(confirm.await.unwrap().is_ack(), "publishing to {queue}");
            }
        }
    }
    queue
}

async fn declare(channel: &Channel, name: &str) -> String {
    let queue = unique(name);
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), durable, arguments).await.unwrap();
    queue
}

async fn ready(channel: &Channel, queue: &str) -> usize {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    declared.unwrap().message_count() as usize
}

/// Has the broker's shovel move as many messages to a queue. The time until all are there.
async fn shovel(rabbitmq: &RabbitMq, channel: &Channel, messages: usize) -> Duration {
    let (source, destination) = (fill(channel, messages).await, declare(channel, "shovelled").await);
    let name = unique("shovel");
    let value = json!({
        "src-protocol": "amqp091", "src-uri": "amqp://", "src-queue": source, "src-prefetch-count": 1000,
        "dest-protocol": "amqp091", "dest-uri": "amqp://", "dest-queue": destination, "ack-mode": "on-confirm",
    });
    let url = format!("{}/api/parameters/shovel/%2F/{name}", rabbitmq.management);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.put(&url).basic_auth(&rabbitmq.user, Some(&rabbitmq.password));
    let began = Instant::now();
    let answer = request.json(&json!({ "value": value })).send().await.unwrap();
    assert!(answer.status().is_success(), "{:?}", answer.text().await);
    while ready(channel, &destination).await < messages {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let deleted = client.delete(&url).basic_auth(&rabbitmq.user, Some(&rabbitmq.password)).send().await;
    assert!(deleted.unwrap().status().is_success(), "the shovel stays");
    took
}

/// What a distributor is to copy, into temporary queues that are there.
async fn distribution(rabbitmq: &RabbitMq, source: &str, messages: usize) -> QueueDistribution {
    let temporary = TemporaryQueues { prefix: format!("{source}.drain.{}.", unique("run")), queues: QUEUES };
    let (host, port) = host_and_port(&rabbitmq.amqp);
    let access = RabbitMqAccess {
        host: host.clone(),
        amqp_port: port,
        management_url: Some(rabbitmq.management.clone()),
        credentials: credentials(&rabbitmq.user, &rabbitmq.password),
        tls: None,
    };
    let admin = RabbitMqAdmin::new(&access, &AddressPolicy::default()).unwrap();
    let names: Vec<_> = (0..QUEUES).map(|number| temporary.name(number)).collect();
    let kind = Kind { dead_letters: None, single_active_consumer: false, delivery_limit: None };
    assert_eq!(admin.create(VHOST, &names, &kind).await.unwrap(), None);
    // The files outlive the measurement: the system removes them.
    let folder = tempfile::tempdir().unwrap().keep();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    };
    QueueDistribution {
        run: unique("run"),
        amqp: AmqpConnection {
            host,
            port,
            vhost: VHOST.to_owned(),
            username_file: file("username", &rabbitmq.user),
            password_file: file("password", &rabbitmq.password),
            tls: None,
        },
        source: SourceQueue {
            queue: source.to_owned(),
            messages: u64::try_from(messages).unwrap(),
            bytes: Some(u64::try_from(messages * SIZE).unwrap()),
        },
        temporary,
        ordering: Ordering::None,
        key_header: None,
        max_bytes_per_second: None,
    }
}

/// Kills a distributor during its copy. The time from the start of the next one until the temporary queues get more.
async fn restart(channel: &Channel, told: &QueueDistribution) -> Duration {
    let copied = async || {
        let mut all = 0;
        for number in 0..QUEUES {
            all += ready(channel, &told.temporary.name(number)).await;
        }
        all
    };
    let await_more = async |than: usize| {
        while copied().await <= than {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let before = copied().await;
    let first = start(told, NOWHERE);
    await_more(before).await;
    kill(first);
    // What the killed one had sent still arrives.
    let mut before = copied().await;
    loop {
        tokio::time::sleep(SETTLED).await;
        let now = copied().await;
        if now == before {
            break;
        }
        before = now;
    }
    let began = Instant::now();
    let second = start(told, NOWHERE);
    await_more(before).await;
    let took = began.elapsed();
    kill(second);
    took
}
