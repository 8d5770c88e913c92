//! What the fake cluster answers to each request.

use super::*;

impl State {
    pub(super) fn answer(&mut self, node: i32, mut frame: Bytes) -> Option<BytesMut> {
        let header = decode_request_header_from_buffer(&mut frame).unwrap();
        let key = ApiKey::try_from(header.request_api_key).unwrap();
        let version = header.request_api_version;
        self.requests.push((node, key));
        if self.silent.contains(&node) || self.unanswered.contains(&key) {
            return None;
        }
        let mut body = BytesMut::new();
        if version > self.newest(key) {
            assert_eq!(key, ApiKey::ApiVersions, "version {version} of {key:?} was not offered");
            ApiVersionsResponse::default().with_error_code(35).encode(&mut body, 0).unwrap();
        } else {
            self.body(node, key, version, frame, &mut body);
        }
        if let Some(millis) = self.throttled.get(&(node, key)) {
            body[..4].copy_from_slice(&millis.to_be_bytes());
        }
        let mut answer = BytesMut::new();
        let mut head = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(header.correlation_id)
            .encode(&mut head, key.response_header_version(version))
            .unwrap();
        answer.put_u32(u32::try_from(head.len() + body.len()).unwrap());
        answer.put(head);
        answer.put(body);
        Some(answer)
    }

    fn newest(&self, key: ApiKey) -> i16 {
        let spoken = match key {
            ApiKey::ApiVersions => 3,
            ApiKey::Metadata => 12,
            ApiKey::ListOffsets => 6,
            ApiKey::FindCoordinator => 4,
            ApiKey::OffsetFetch => 8,
            ApiKey::DescribeGroups => 5,
            ApiKey::DescribeConfigs => 4,
            ApiKey::DescribeLogDirs => 4,
            ApiKey::Fetch => 17,
            ApiKey::Produce => 8,
            ApiKey::SaslHandshake => 1,
            ApiKey::SaslAuthenticate => 2,
            other => panic!("{other:?} is not served here"),
        };
        self.newest.get(&key).copied().unwrap_or(spoken)
    }

    fn body(&mut self, node: i32, key: ApiKey, version: i16, mut frame: Bytes, body: &mut BytesMut) {
        match key {
            ApiKey::ApiVersions => self.versions().encode(body, version),
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(&mut frame, version).unwrap();
                assert!(!request.allow_auto_topic_creation, "reading must not create topics");
                self.metadata(request).encode(body, version)
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(&mut frame, version).unwrap();
                self.offsets(node, request).encode(body, version)
            }
            ApiKey::DescribeConfigs => {
                let request = DescribeConfigsRequest::decode(&mut frame, version).unwrap();
                self.configs(request).encode(body, version)
            }
            ApiKey::DescribeLogDirs => {
                let request = DescribeLogDirsRequest::decode(&mut frame, version).unwrap();
                self.log_dirs(request).encode(body, version)
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(&mut frame, version).unwrap();
                self.records(node, request).encode(body, version)
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut frame, version).unwrap();
                self.append(request).encode(body, version)
            }
            ApiKey::FindCoordinator => {
                let request = FindCoordinatorRequest::decode(&mut frame, version).unwrap();
                self.coordinator(version, request).encode(body, version)
            }
            ApiKey::OffsetFetch => {
                let request = OffsetFetchRequest::decode(&mut frame, version).unwrap();
                self.fetch(node, version, request).encode(body, version)
            }
            ApiKey::DescribeGroups => {
                let request = DescribeGroupsRequest::decode(&mut frame, version).unwrap();
                let group = |id: GroupId| {
                    let group = DescribedGroup::default().with_group_state(text("Empty"));
                    let member = |bytes: &usize| {
                        DescribedGroupMember::default().with_member_metadata(vec![0; *bytes].into())
                    };
                    let members = self.subscriptions.get(id.as_str()).map(member).into_iter().collect();
                    group.with_group_id(id).with_members(members)
                };
                DescribeGroupsResponse::default()
                    .with_groups(request.groups.into_iter().map(group).collect())
                    .encode(body, version)
            }
            ApiKey::SaslHandshake => {
                SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN")]).encode(body, version)
            }
            ApiKey::SaslAuthenticate => {
                let request = SaslAuthenticateRequest::decode(&mut frame, version).unwrap();
                self.authenticate(node, &request.auth_bytes).encode(body, version)
            }
            other => panic!("{other:?} is not served here"),
        }
        .unwrap();
    }

    /// Takes one record for each partition.
    fn append(&mut self, request: ProduceRequest) -> ProduceResponse {
        let topic = |asked: TopicProduceData| {
            let topic = self.topics.get_mut(asked.name.as_str()).unwrap();
            let partition = |partition: &PartitionProduceData| {
                PartitionProduceResponse::default().with_index(partition.index).with_base_offset(topic.end)
            };
            let partitions = asked.partition_data.iter().map(partition).collect();
            topic.end += 1;
            TopicProduceResponse::default().with_name(asked.name).with_partition_responses(partitions)
        };
        ProduceResponse::default().with_responses(request.topic_data.into_iter().map(topic).collect())
    }

    fn versions(&self) -> ApiVersionsResponse {
        let keys = [
            ApiKey::ApiVersions,
            ApiKey::Metadata,
            ApiKey::Produce,
            ApiKey::ListOffsets,
            ApiKey::FindCoordinator,
            ApiKey::OffsetFetch,
            ApiKey::DescribeGroups,
            ApiKey::DescribeConfigs,
            ApiKey::DescribeLogDirs,
            ApiKey::Fetch,
            ApiKey::SaslHandshake,
            ApiKey::SaslAuthenticate,
        ];
        let version =
            |key: ApiKey| ApiVersion::default().with_api_key(key as i16).with_max_version(self.newest(key));
        ApiVersionsResponse::default().with_api_keys(keys.map(version).to_vec())
    }

    fn authenticate(&self, node: i32, message: &Bytes) -> SaslAuthenticateResponse {
        let password = message.rsplit(|byte| *byte == 0).next().unwrap();
        let is_wrong = self.password.as_ref().is_some_and(|right| right.as_bytes() != password);
        if is_wrong || self.refusing.contains(&node) {
            let echo = format!("no such password: {}", String::from_utf8_lossy(password));
            return SaslAuthenticateResponse::default()
                .with_error_code(SASL_AUTHENTICATION_FAILED)
                .with_error_message(Some(StrBytes::from_string(echo)));
        }
        SaslAuthenticateResponse::default().with_session_lifetime_ms(self.session_lifetime)
    }

    fn metadata(&mut self, request: MetadataRequest) -> MetadataResponse {
        let broker = |(node, port): (i32, &u16)| {
            let (host, port) =
                self.advertised.get(&node).cloned().unwrap_or_else(|| ("127.0.0.1".to_owned(), *port));
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(node))
                .with_host(StrBytes::from_string(host))
                .with_port(port.into())
        };
        let names = match request.topics {
            None => self.topics.keys().cloned().collect(),
            Some(topics) => {
                topics.into_iter().map(|topic| topic.name.unwrap().to_string()).collect::<Vec<_>>()
            }
        };
        self.asked_topics.extend(names.iter().cloned());
        let believed = self.believed_leaders.pop_front();
        let topic = |name: String| {
            let found = self.topics.get(&name);
            let leaders = |topic: &Topic| believed.clone().unwrap_or_else(|| topic.leaders.clone());
            let partition = |(index, leader): (i32, &i32)| {
                MetadataResponsePartition::default()
                    .with_partition_index(index)
                    .with_leader_id(BrokerId(*leader))
                    .with_replica_nodes(vec![BrokerId(0), BrokerId(1)])
            };
            MetadataResponseTopic::default()
                .with_is_internal(name.starts_with("__"))
                .with_name(Some(TopicName(StrBytes::from_string(name))))
                .with_error_code(found.map_or(UNKNOWN_TOPIC, |topic| topic.error))
                .with_partitions(
                    found
                        .map(|topic| (0..).zip(&leaders(topic)).map(partition).collect())
                        .unwrap_or_default(),
                )
        };
        MetadataResponse::default()
            .with_brokers((0..).zip(&self.ports).map(broker).collect())
            .with_topics(names.into_iter().map(topic).collect())
    }

    fn offsets(&self, node: i32, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topic = |asked: kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
            let found = self.topics.get(asked.name.as_str());
            let partition = |asked: kafka_protocol::messages::list_offsets_request::ListOffsetsPartition| {
                let answer =
                    ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                let Some(topic) = found else { return answer.with_error_code(UNKNOWN_TOPIC) };
                if topic.leaders[usize::try_from(asked.partition_index).unwrap()] != node {
                    return answer.with_error_code(NOT_LEADER);
                }
                answer.with_offset(if asked.timestamp == -2 { topic.start } else { topic.end })
            };
            let unasked = |(index, offset): &(i32, i64)| {
                ListOffsetsPartitionResponse::default().with_partition_index(*index).with_offset(*offset)
            };
            let of_others = |(index, _): &&(i32, i64)| {
                let leader = found.and_then(|topic| topic.leaders.get(usize::try_from(*index).unwrap()));
                leader.is_none_or(|leader| *leader != node)
            };
            let unasked = self.unasked_offsets.iter().filter(of_others).map(unasked);
            ListOffsetsTopicResponse::default()
                .with_name(asked.name.clone())
                .with_partitions(asked.partitions.into_iter().map(partition).chain(unasked).collect())
        };
        ListOffsetsResponse::default().with_topics(request.topics.into_iter().map(topic).collect())
    }

    fn home(&self, group: &str) -> i32 {
        self.coordinators.get(group).copied().unwrap_or(0)
    }

    fn coordinator(&self, version: i16, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
        let error = |group: &str| {
            self.group_errors.get(group).copied().filter(|error| *error == GROUP_AUTHORIZATION_FAILED)
        };
        if version < 4 {
            return FindCoordinatorResponse::default()
                .with_error_code(error(&request.key).unwrap_or(0))
                .with_node_id(BrokerId(self.home(&request.key)));
        }
        let coordinator = |group: StrBytes| {
            Coordinator::default()
                .with_error_code(error(&group).unwrap_or(0))
                .with_node_id(BrokerId(self.home(&group)))
                .with_key(group)
        };
        FindCoordinatorResponse::default()
            .with_coordinators(request.coordinator_keys.into_iter().map(coordinator).collect())
    }

    fn committed(&self, group: &str, topic: &str, partition: i32) -> i64 {
        let key = (group.to_owned(), topic.to_owned(), partition);
        self.commits.get(&key).copied().unwrap_or(-1)
    }

    fn fetch(&self, node: i32, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let error = |group: &str| {
            let moved = (self.home(group) != node).then_some(NOT_COORDINATOR);
            moved.or(self.group_errors.get(group).copied()).unwrap_or(0)
        };
        if version < 8 {
            let group = request.group_id;
            let topic = |asked: offset_fetch_request::OffsetFetchRequestTopic| {
                let partition = |index| {
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(self.committed(&group, &asked.name, index))
                        .with_metadata(Some(text("words")))
                };
                OffsetFetchResponseTopic::default()
                    .with_partitions(asked.partition_indexes.into_iter().map(partition).collect())
                    .with_name(asked.name.clone())
            };
            return OffsetFetchResponse::default()
                .with_error_code(error(&group))
                .with_topics(request.topics.into_iter().flatten().map(topic).collect());
        }
        let group = |asked: offset_fetch_request::OffsetFetchRequestGroup| {
            let topic = |topic: offset_fetch_request::OffsetFetchRequestTopics| {
                let partition = |index| {
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(self.committed(&asked.group_id, &topic.name, index))
                };
                OffsetFetchResponseTopics::default()
                    .with_partitions(topic.partition_indexes.into_iter().map(partition).collect())
                    .with_name(topic.name.clone())
            };
            OffsetFetchResponseGroup::default()
                .with_error_code(error(&asked.group_id))
                .with_topics(asked.topics.into_iter().flatten().map(topic).collect())
                .with_group_id(asked.group_id.clone())
        };
        OffsetFetchResponse::default().with_groups(request.groups.into_iter().map(group).collect())
    }
}
