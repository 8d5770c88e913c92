//! Broken distributors, as a double of the sink with a flaw: the checker finds each of them.

use std::sync::Arc;

use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, PublisherConfirm};
use queuescaler::drain::copy::rabbitmq::connection::Access;
use queuescaler::drain::copy::rabbitmq::properties;
use queuescaler::drain::copy::rabbitmq::source::QueueSource;
use queuescaler::drain::copy::{Limits, Sink, Stop, Trouble, copy};
use queuescaler::drain::distribution::Ordering;
use queuescaler::drain::distribution::queue::QueueDistribution;
use tokio::runtime::Runtime;

use crate::backlog::{Backlog, headers, quorum};
use crate::checker::Verdict;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    None,
    /// It drops each seventh message.
    SkipsSome,
    /// It copies messages without their headers.
    DropsHeaders,
    /// It copies messages without their properties.
    DropsProperties,
    /// It acknowledges before copies are confirmed, and is killed in between.
    AcknowledgesBeforeConfirm,
    /// It does not ask for copies that cannot be routed.
    NotMandatory,
    /// It takes a copy that came back for one that was written.
    IgnoresReturns,
    /// It takes a copy that was refused for one that was written.
    TakesRefusalForSuccess,
    /// It writes some messages twice.
    WritesTwice,
    /// It publishes with the name of the queue as the routing key.
    LosesRoutingKey,
}

struct Double {
    runtime: Arc<Runtime>,
    channel: Channel,
    told: QueueDistribution,
    flaw: Flaw,
    puts: u32,
    confirms: Vec<PublisherConfirm>,
    held: Vec<(String, String, Vec<u8>, BasicProperties)>,
}

impl Double {
    fn send(&mut self, (exchange, key, body, copy): &(String, String, Vec<u8>, BasicProperties)) {
        let mandatory = self.flaw != Flaw::NotMandatory;
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(
            exchange.as_str().into(),
            key.as_str().into(),
            options,
            body,
            copy.clone(),
        );
        self.confirms.push(self.runtime.block_on(sent).unwrap());
    }
}

impl Sink<QueueSource> for Double {
    fn begin(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn put(&mut self, record: &&Delivery) -> Result<u64, Trouble> {
        self.puts += 1;
        let mut copy = properties::of_copy(record, &self.told.run);
        match self.flaw {
            Flaw::DropsHeaders => copy = copy.with_headers(FieldTable::default()),
            Flaw::DropsProperties => {
                copy = BasicProperties::default().with_headers(copy.headers().clone().unwrap());
            }
            _ => {}
        }
        let exchange = self.told.temporary.name(self.puts % self.told.temporary.queues);
        let key = match self.flaw {
            Flaw::LosesRoutingKey => exchange.clone(),
            _ => record.routing_key.to_string(),
        };
        let message = (exchange, key, record.data.clone(), copy);
        match self.flaw {
            Flaw::SkipsSome if self.puts.is_multiple_of(7) => {}
            Flaw::AcknowledgesBeforeConfirm => self.held.push(message),
            Flaw::WritesTwice if self.puts.is_multiple_of(50) => {
                self.send(&message);
                self.send(&message);
            }
            _ => self.send(&message),
        }
        Ok(1)
    }

    fn settle(&mut self, source: &mut QueueSource) -> Result<(), Trouble> {
        if self.flaw == Flaw::AcknowledgesBeforeConfirm {
            source.commit()?;
            let held = std::mem::take(&mut self.held);
            if self.puts > 200 {
                // Killed here: these were never sent.
                source.close()?;
                return Err(Trouble::Fatal("killed".to_owned()));
            }
            held.iter().for_each(|message| self.send(message));
        }
        for confirm in std::mem::take(&mut self.confirms) {
            let confirmation = self.runtime.block_on(confirm).unwrap();
            if confirmation.is_nack() {
                assert_eq!(self.flaw, Flaw::TakesRefusalForSuccess);
            }
            if confirmation.take_message().is_some() {
                assert_eq!(self.flaw, Flaw::IgnoresReturns);
            }
        }
        source.commit()
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
}

/// What the checker finds about a copy with this flaw into four queues, the last of which can be missing or full.
async fn verdict_of(flaw: Flaw) -> Option<Verdict> {
    let name = format!("{flaw:?}").to_lowercase();
    let mut backlog = Backlog::new(&name, quorum()).await?;
    backlog.bind().await;
    let message = |number: usize| {
        let properties = BasicProperties::default().with_message_id(format!("m{number}").into());
        (format!("key.{}", number % 20), vec![b'x'; 64], properties)
    };
    backlog.write_all((0..700).map(message).collect()).await;
    backlog.provision(3, FieldTable::default()).await;
    match flaw {
        Flaw::NotMandatory | Flaw::IgnoresReturns => backlog.exchange(3).await,
        Flaw::TakesRefusalForSuccess => {
            let full = headers(&[
                ("x-queue-type", AMQPValue::LongString("classic".into())),
                ("x-max-length", AMQPValue::LongInt(5)),
                ("x-overflow", AMQPValue::LongString("reject-publish".into())),
            ]);
            backlog.provision_one(3, full).await;
        }
        _ => backlog.provision_one(3, FieldTable::default()).await,
    }
    let told = backlog.distribution(Ordering::None, 4);
    // The loop blocks its thread and has a runtime of its own, as in the program.
    let copied = std::thread::spawn(move || copy_with(flaw, told));
    tokio::task::spawn_blocking(move || copied.join().unwrap()).await.unwrap();
    let queues = if matches!(flaw, Flaw::NotMandatory | Flaw::IgnoresReturns) { 3 } else { 4 };
    let verdict = backlog.verdict(queues).await;
    backlog.end().await;
    Some(verdict)
}

fn copy_with(flaw: Flaw, told: QueueDistribution) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = Arc::new(runtime.unwrap());
    let access = Arc::new(Access::read(&told.amqp).unwrap());
    let connection = runtime.block_on(access.open("double")).unwrap();
    let channel = runtime.block_on(connection.create_channel()).unwrap();
    runtime.block_on(channel.confirm_select(ConfirmSelectOptions::default())).unwrap();
    let (queue, cut) = (told.source.queue.clone(), told.source.messages);
    let mut source = QueueSource::open(Arc::clone(&runtime), access, &queue, cut, 200).unwrap();
    let mut double = Double { runtime, channel, told, flaw, puts: 0, confirms: Vec::new(), held: Vec::new() };
    let limits = Limits { records: 100, ..Limits::default() };
    let mut copied = 0;
    let end = copy(&mut source, &mut double, &limits, &Stop::default(), &mut copied);
    assert_eq!(end.is_err(), flaw == Flaw::AcknowledgesBeforeConfirm, "{end:?}");
    source.close().unwrap();
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn d19_a_double_without_a_flaw_is_clean() {
    let Some(verdict) = verdict_of(Flaw::None).await else { return };
    verdict.assert_clean(700);
}

#[tokio::test(flavor = "multi_thread")]
async fn d19_messages_that_are_lost_are_found() {
    for flaw in [
        Flaw::SkipsSome,
        Flaw::AcknowledgesBeforeConfirm,
        Flaw::NotMandatory,
        Flaw::IgnoresReturns,
        Flaw::TakesRefusalForSuccess,
    ] {
        let Some(verdict) = verdict_of(flaw).await else { return };
        assert!(verdict.lost.len() >= 90, "{flaw:?}: {} lost", verdict.lost.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d19_messages_that_are_changed_or_doubled_are_found() {
    let Some(verdict) = verdict_of(Flaw::DropsProperties).await else { return };
    assert_eq!(verdict.mutated.len(), 700);
    let verdict = verdict_of(Flaw::LosesRoutingKey).await.unwrap();
    assert_eq!(verdict.mutated.len(), 700);
    // Without its headers a message has no identity.
    let verdict = verdict_of(Flaw::DropsHeaders).await.unwrap();
    assert_eq!((verdict.unexpected.len(), verdict.lost.len()), (700, 700));
    let verdict = verdict_of(Flaw::WritesTwice).await.unwrap();
    assert_eq!((verdict.duplicates, verdict.unmarked.len()), (14, 14));
}
