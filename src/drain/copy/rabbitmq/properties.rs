//! The properties of a copy: all of the message, but for what the broker would refuse or act on.
//!
//! | of the message | of the copy | why |
//! |---|---|---|
//! | `user_id` | header [`USER_ID`] | the broker refuses a name that is not the connection's (`check_user_id_header`) |
//! | header `CC`, `BCC` | header [`CC`], [`BCC`] | the broker would publish to these queues once more |
//! | `delivery_mode` | 2, and header [`TRANSIENT`] if it was not | a copy must be on disk before the message is acknowledged |
//! | exchange | header [`EXCHANGE`] | the copy has that of its temporary queue; the routing key stays |
//!
//! Besides, each copy has the header [`RUN`], and [`MAYBE_DUPLICATE`] if the source has delivered the message before: then
//! a distributor or a consumer that was killed may have had it. `expiration` stays, and begins anew.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};

/// Names the run.
pub const RUN: &str = "x-drain-run";
/// The exchange that the message was published to.
pub const EXCHANGE: &str = "x-drain-exchange";
/// The message was delivered before.
pub const MAYBE_DUPLICATE: &str = "x-drain-maybe-duplicate";
/// The validated user who published it.
pub const USER_ID: &str = "x-drain-user-id";
/// Further routing keys of the message.
pub const CC: &str = "x-drain-cc";
/// Further routing keys of the message, which consumers do not see.
pub const BCC: &str = "x-drain-bcc";
/// The message was not to survive a restart of the broker.
pub const TRANSIENT: &str = "x-drain-transient";

const PERSISTENT: u8 = 2;

/// The properties of the copy of a message.
#[must_use]
pub fn of_copy(delivery: &Delivery, run: &str) -> BasicProperties {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let properties = &delivery.properties;
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        let name = match name.as_str() {
            "CC" => CC.into(),
            "BCC" => BCC.into(),
            _ => name.clone(),
        };
        headers.insert(name, value.clone());
    }
    headers.insert(RUN.into(), text(run));
    headers.insert(EXCHANGE.into(), text(delivery.exchange.as_str()));
    if delivery.redelivered {
        headers.insert(MAYBE_DUPLICATE.into(), AMQPValue::Boolean(true));
    }
    if let Some(user) = properties.user_id() {
        headers.insert(USER_ID.into(), text(user.as_str()));
    }
    if *properties.delivery_mode() != Some(PERSISTENT) {
        headers.insert(TRANSIENT.into(), AMQPValue::Boolean(true));
    }
    let mut copy = BasicProperties::default().with_headers(headers).with_delivery_mode(PERSISTENT);
    macro_rules! keep {
        ($($name:ident $with:ident),*) => {
            $(if let Some(value) = properties.$name().clone() {
                copy = copy.$with(value);
            })*
        };
    }
    keep!(
        content_type with_content_type,
        content_encoding with_content_encoding,
        priority with_priority,
        correlation_id with_correlation_id,
        reply_to with_reply_to,
        expiration with_expiration,
        message_id with_message_id,
        timestamp with_timestamp,
        kind with_type,
        app_id with_app_id,
        cluster_id with_cluster_id
    );
    copy
}

/// The key of a message whose order is kept: the value of a header, or the routing key. Absent: it has none.
#[must_use]
pub fn key(delivery: &Delivery, header: Option<&str>) -> Option<Vec<u8>> {
    let Some(header) = header else { return Some(delivery.routing_key.as_str().as_bytes().to_vec()) };
    match delivery.properties.headers().as_ref()?.inner().get(header)? {
        AMQPValue::LongString(text) => Some(text.as_bytes().to_vec()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes().to_vec()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice().to_vec()),
        // Numbers: their digits are as good as any.
        value => serde_json::to_vec(value).ok(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    fn delivery(properties: BasicProperties, redelivered: bool) -> Delivery {
        let mut delivery =
            Delivery::mock(7, "events".into(), "order.created".into(), redelivered, b"body".to_vec());
        delivery.properties = properties;
        delivery
    }

    fn header<'h>(properties: &'h BasicProperties, name: &str) -> Option<&'h AMQPValue> {
        properties.headers().as_ref()?.inner().get(name)
    }

    fn rich() -> BasicProperties {
        let mut headers = FieldTable::default();
        headers
            .insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString("other".into())].into()));
        headers.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::default()));
        headers.insert("customer".into(), AMQPValue::LongLongInt(42));
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("gzip".into())
            .with_headers(headers)
            .with_delivery_mode(1)
            .with_priority(4)
            .with_correlation_id("c".into())
            .with_reply_to("answers".into())
            .with_expiration("60000".into())
            .with_message_id("m".into())
            .with_timestamp(1_700_000_000)
            .with_type("created".into())
            .with_user_id("shop".into())
            .with_app_id("app".into())
            .with_cluster_id("cluster".into())
    }

    #[test]
    fn a_copy_has_every_property_but_those_that_the_broker_acts_on() {
        let copy = of_copy(&delivery(rich(), false), "run");
        let without = |properties: &BasicProperties| {
            let bare = properties.clone().with_headers(FieldTable::default()).with_delivery_mode(2);
            format!("{:?}", bare.with_user_id("".into()))
        };
        assert_eq!(without(&copy), without(&rich()));
        assert_eq!((copy.user_id().as_ref(), *copy.delivery_mode()), (None, Some(2)));
        assert_eq!(header(&copy, "customer"), Some(&AMQPValue::LongLongInt(42)));
        assert!(header(&copy, "x-death").is_some());
        assert!(header(&copy, "CC").is_none() && header(&copy, CC).is_some());
        for (name, value) in [(USER_ID, "shop"), (RUN, "run"), (EXCHANGE, "events")] {
            assert_eq!(header(&copy, name), Some(&AMQPValue::LongString(value.into())), "{name}");
        }
        assert_eq!(header(&copy, TRANSIENT), Some(&AMQPValue::Boolean(true)));
        assert_eq!(header(&copy, MAYBE_DUPLICATE), None);
    }

    #[test]
    fn a_message_without_properties_gets_no_others() {
        let bare = BasicProperties::default().with_delivery_mode(2);
        let copy = of_copy(&delivery(bare, true), "run");
        let names: Vec<_> =
            copy.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(names, [EXCHANGE, MAYBE_DUPLICATE, RUN]);
        let nothing = BasicProperties::default().with_headers(copy.headers().clone().unwrap());
        assert_eq!(copy, nothing.with_delivery_mode(2));
    }

    #[test]
    fn the_key_is_the_routing_key_or_a_header() {
        let delivery = delivery(rich(), false);
        assert_eq!(key(&delivery, None).as_deref(), Some(b"order.created".as_slice()));
        assert_eq!(key(&delivery, Some("absent")), None);
        let number = key(&delivery, Some("customer")).unwrap();
        assert!(String::from_utf8(number).unwrap().contains("42"));
    }
}
