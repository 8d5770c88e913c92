//! Metadata with rights, DescribeConfigs, CreateTopics and DeleteTopics of one topic.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::brokers::kafka::configs::setting;
use crate::brokers::kafka::connection::Call;
use crate::brokers::kafka::metadata::TopicId;
use crate::brokers::kafka::wire::{Fields, Malformed};
use crate::brokers::observation::quote;

/// How long a broker waits for the change to arrive everywhere, in milliseconds.
const TIMEOUT: i32 = 8_000;
/// Kind of a resource that has settings.
const TOPIC: i8 = 2;
/// Most bytes of the settings of a topic, with their documentation.
const SETTINGS: usize = 1 << 20;

const TOPIC_ALREADY_EXISTS: i16 = 36;
const UNKNOWN_TOPIC: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity; zero where the broker is too old to report it (before 2.8).
    pub id: TopicId,
    pub(super) error: i16,
    /// Copies of each partition.
    pub replication: i16,
    /// Leader by partition.
    pub(super) leaders: Vec<i32>,
    /// What the user is allowed to do: a bit for each operation. Absent: the broker does not report it.
    rights: Option<i32>,
}

impl TopicFacts {
    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.leaders.len()
    }

    /// The identity in hexadecimal digits.
    #[must_use]
    pub fn id_text(&self) -> String {
        digits(self.id)
    }

    /// Whether the user is allowed this operation. True where the broker does not report it.
    #[must_use]
    pub fn allows(&self, operation: Operation) -> bool {
        operation.is_in(self.rights)
    }
}

/// Operations that rights are for, by their number in `org.apache.kafka.common.acl.AclOperation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To consume, or to be a member of a group.
    Read = 3,
    /// To produce.
    Write = 4,
    /// To delete.
    Delete = 6,
    /// To read settings.
    DescribeConfigs = 10,
}

impl Operation {
    /// Whether it is among these rights.
    pub(super) fn is_in(self, rights: Option<i32>) -> bool {
        rights.is_none_or(|rights| rights & (1 << self as i32) != 0)
    }
}

/// A broker that was not asked, or does not know.
const NO_RIGHTS: i32 = i32::MIN;

/// Reads rights.
pub(super) fn rights(fields: &mut Fields<'_>) -> Result<Option<i32>, Malformed> {
    Ok(Some(fields.i32()?).filter(|rights| *rights != NO_RIGHTS))
}

/// Asks any broker for one topic.
#[derive(Clone)]
pub(super) struct DescribeTopic {
    pub(super) topic: Arc<str>,
}

impl Call for DescribeTopic {
    const KEY: i16 = ApiKey::Metadata as i16;
    type Request = MetadataRequest;
    type Response = MetadataResponse;
    type Answer = TopicFacts;
    const VERSIONS: (i16, i16) = (4, 12);

    fn request(&self, version: i16) -> MetadataRequest {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(&self.topic)));
        MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false)
            .with_include_topic_authorized_operations(version >= 8)
    }

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<TopicFacts, Malformed> {
        fields.i32()?; // throttle time
        for _ in 0..fields.array()? {
            fields.i32()?; // node
            fields.string()?; // host
            fields.i32()?; // port
            fields.nullable_string()?; // rack
            fields.tags()?;
        }
        fields.nullable_string()?; // cluster id
        fields.i32()?; // controller
        let mut facts = TopicFacts {
            name: Arc::clone(&self.topic),
            id: TopicId::default(),
            error: UNKNOWN_TOPIC,
            replication: 0,
            leaders: Vec::new(),
            rights: None,
        };
        for _ in 0..fields.array_up_to(1)? {
            facts.error = fields.i16()?;
            if *fields.string()? != *self.topic {
                return Err(Malformed::Text);
            }
            if version >= 10 {
                facts.id = fields.fixed()?;
            }
            fields.bool()?; // internal
            partitions(&mut fields, version, &mut facts)?;
            if version >= 8 {
                facts.rights = rights(&mut fields)?;
            }
            fields.tags()?;
        }
        Ok(facts)
    }
}

fn partitions(fields: &mut Fields<'_>, version: i16, facts: &mut TopicFacts) -> Result<(), Malformed> {
    let count = fields.array()?;
    let mut leaders = HashMap::new();
    for _ in 0..count {
        fields.i16()?; // error, which says no more than a missing leader
        let partition = fields.i32()?;
        leaders.insert(partition, fields.i32()?);
        if version >= 7 {
            fields.i32()?; // leader epoch
        }
        let replicas = fields.array()?;
        facts.replication = facts.replication.max(i16::try_from(replicas).unwrap_or(i16::MAX));
        fields.skip(replicas * 4)?;
        fields.skip_i32_array()?; // in-sync replicas
        if version >= 5 {
            fields.skip_i32_array()?; // offline replicas
        }
        fields.tags()?;
    }
    let all = (0..i32::try_from(count).unwrap_or(i32::MAX)).map(|partition| leaders.remove(&partition));
    facts.leaders = all.collect::<Option<_>>().ok_or(Malformed::Length)?;
    Ok(())
}

/// Asks any broker for all settings of one topic.
#[derive(Clone)]
pub(super) struct DescribeSettings {
    pub(super) topic: Arc<str>,
}

impl Call for DescribeSettings {
    const KEY: i16 = ApiKey::DescribeConfigs as i16;
    type Request = DescribeConfigsRequest;
    type Response = DescribeConfigsResponse;
    type Answer = Result<HashMap<String, String>, i16>;
    const VERSIONS: (i16, i16) = (1, 3);

    fn request(&self, _version: i16) -> DescribeConfigsRequest {
        let topic = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string(self.topic.to_string()))
            .with_configuration_keys(None);
        DescribeConfigsRequest::default().with_resources(vec![topic])
    }

    fn limit(&self) -> usize {
        SETTINGS
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Self::Answer, Malformed> {
        fields.i32()?; // throttle time
        let mut settings = HashMap::new();
        for _ in 0..fields.array_up_to(1)? {
            let error = fields.i16()?;
            fields.nullable_string()?; // error message
            fields.skip(1)?; // kind of resource
            fields.string()?; // name
            if error != 0 {
                return Ok(Err(error));
            }
            for _ in 0..fields.array()? {
                let (name, value) = setting(&mut fields, version)?;
                settings.extend(value.map(|value| (name.to_owned(), value.to_owned())));
                fields.tags()?;
            }
            fields.tags()?;
        }
        Ok(Ok(settings))
    }
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i16,
    /// Settings.
    pub settings: Vec<(String, String)>,
}

/// What came of creating a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It exists now, or can be created.
    Created,
    /// There is one of this name.
    Exists,
    /// It cannot be created.
    Refused {
        /// The broker's error code.
        error: i16,
        /// What the broker says.
        message: String,
    },
}

/// Creates a topic.
#[derive(Clone)]
pub(super) struct CreateTopic {
    pub(super) topic: NewTopic,
    pub(super) only_check: bool,
}

impl Call for CreateTopic {
    const KEY: i16 = ApiKey::CreateTopics as i16;
    type Request = CreateTopicsRequest;
    type Response = CreateTopicsResponse;
    type Answer = Created;
    const VERSIONS: (i16, i16) = (2, 7);

    fn request(&self, _version: i16) -> CreateTopicsRequest {
        let NewTopic { name, partitions, replication, settings } = &self.topic;
        let setting = |(name, value): &(String, String)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        };
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(*partitions)
            .with_replication_factor(*replication)
            .with_configs(settings.iter().map(setting).collect());
        CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(TIMEOUT)
            .with_validate_only(self.only_check)
    }

    fn limit(&self) -> usize {
        SETTINGS
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Created, Malformed> {
        fields.i32()?; // throttle time
        fields.array_up_to(1)?;
        if *fields.string()? != *self.topic.name {
            return Err(Malformed::Text);
        }
        if version >= 7 {
            fields.skip(16)?; // topic id
        }
        let error = fields.i16()?;
        let message = quote(fields.nullable_string()?.unwrap_or_default());
        // What follows are the settings, which are read back anyway.
        Ok(match error {
            0 => Created::Created,
            TOPIC_ALREADY_EXISTS => Created::Exists,
            error => Created::Refused { error, message },
        })
    }
}

/// What came of deleting a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, or was not there.
    Deleted,
    /// It cannot be deleted.
    Refused {
        /// The broker's error code.
        error: i16,
        /// What the broker says.
        message: String,
    },
}

/// Deletes a topic.
#[derive(Clone)]
pub(super) struct DeleteTopic {
    pub(super) name: Arc<str>,
    pub(super) id: TopicId,
}

impl Call for DeleteTopic {
    const KEY: i16 = ApiKey::DeleteTopics as i16;
    type Request = DeleteTopicsRequest;
    type Response = DeleteTopicsResponse;
    type Answer = Deleted;
    /// From 6 on by identity.
    const VERSIONS: (i16, i16) = (1, 6);

    fn request(&self, version: i16) -> DeleteTopicsRequest {
        let request = DeleteTopicsRequest::default().with_timeout_ms(TIMEOUT);
        if version < 6 {
            return request.with_topic_names(vec![topic_name(&self.name)]);
        }
        let topic = DeleteTopicState::default();
        let topic = if self.id == TopicId::default() {
            topic.with_name(Some(topic_name(&self.name)))
        } else {
            // The codec's type of an identity is read from its digits.
            topic.with_name(None).with_topic_id(digits(self.id).parse().unwrap_or_default())
        };
        request.with_topics(vec![topic])
    }

    fn limit(&self) -> usize {
        64 * 1024
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Deleted, Malformed> {
        fields.i32()?; // throttle time
        fields.array_up_to(1)?;
        fields.nullable_string()?; // name
        if version >= 6 {
            fields.skip(16)?; // topic id
        }
        let error = fields.i16()?;
        let message = if version >= 5 { fields.nullable_string()?.unwrap_or_default() } else { "" };
        Ok(match error {
            0 | UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID => Deleted::Deleted,
            error => Deleted::Refused { error, message: quote(message) },
        })
    }
}

fn digits(id: TopicId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
