//! FindCoordinator: who coordinates consumer groups.

use std::sync::Arc;

use kafka_protocol::messages::{ApiKey, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::connection::Call;
use super::describe::names;
use super::wire::{Fields, Malformed};

/// From this version on, one request can ask for the coordinators of many groups.
const MANY_KEYS: i16 = 4;

/// Asks who coordinates these groups.
#[derive(Clone)]
pub(super) struct FindCoordinator {
    pub(super) groups: Vec<Arc<str>>,
}

/// The coordinator of one group, or an error code.
pub(super) struct Coordinator {
    pub(super) group: String,
    pub(super) node: Result<i32, i16>,
}

impl Call for FindCoordinator {
    const KEY: i16 = ApiKey::FindCoordinator as i16;
    type Request = FindCoordinatorRequest;
    type Response = FindCoordinatorResponse;
    type Answer = Vec<Coordinator>;
    const VERSIONS: (i16, i16) = (1, MANY_KEYS);

    fn request(&self, version: i16) -> FindCoordinatorRequest {
        let mut keys = self.groups.iter().map(|group| StrBytes::from_string(group.to_string()));
        if version >= MANY_KEYS {
            FindCoordinatorRequest::default().with_coordinator_keys(keys.collect())
        } else {
            FindCoordinatorRequest::default().with_key(keys.next().unwrap_or_default())
        }
    }

    fn split(calls: &[Self], version: i16) -> Option<Vec<Self>> {
        let each = || {
            calls.iter().flat_map(|call| &call.groups).map(|group| Self { groups: vec![Arc::clone(group)] })
        };
        (version < MANY_KEYS).then(|| each().collect())
    }

    fn limit(&self) -> usize {
        // Group, host, and an error message.
        4096 + self.groups.iter().map(|group| group.len() + 1024).sum::<usize>()
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<Coordinator>, Malformed> {
        fields.i32()?; // throttle time
        if version < MANY_KEYS {
            let error = fields.i16()?;
            fields.nullable_string()?; // error message
            let node = fields.i32()?;
            fields.string()?; // host
            fields.i32()?; // port
            let node = if error == 0 { Ok(node) } else { Err(error) };
            let group = self.groups.first().map(ToString::to_string).unwrap_or_default();
            return Ok(vec![Coordinator { group, node }]);
        }
        let asked = names(&self.groups);
        let mut coordinators = Vec::new();
        for _ in 0..fields.array_up_to(asked.len())? {
            let group = fields.string()?.to_owned();
            let node = fields.i32()?;
            fields.string()?; // host
            fields.i32()?; // port
            let error = fields.i16()?;
            fields.nullable_string()?; // error message
            fields.tags()?;
            if asked.contains(group.as_str()) {
                coordinators
                    .push(Coordinator { group, node: if error == 0 { Ok(node) } else { Err(error) } });
            }
        }
        Ok(coordinators)
    }
}
