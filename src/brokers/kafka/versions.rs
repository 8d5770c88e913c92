//! Which versions of which requests a broker knows. Pure.

use std::collections::HashMap;

use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::connection::{CLIENT, Call};
use super::wire::{Fields, Malformed};

/// Asks for the versions.
#[derive(Clone)]
pub(super) struct ApiVersions;

/// What a broker answers to a version that it does not know.
const UNSUPPORTED_VERSION: i16 = 35;

impl ApiVersions {
    /// What can be asked before anything is known: this question, in one version of it.
    pub(super) fn only(version: i16) -> HashMap<i16, (i16, i16)> {
        HashMap::from([(ApiKey::ApiVersions as i16, (version, version))])
    }
}

impl Call for ApiVersions {
    const KEY: i16 = ApiKey::ApiVersions as i16;
    type Request = ApiVersionsRequest;
    type Response = ApiVersionsResponse;
    /// Lowest and highest version by request; absent when the broker does not know this version of the question.
    type Answer = Option<HashMap<i16, (i16, i16)>>;
    const VERSIONS: (i16, i16) = (0, 3);
    /// It stands at the end, where nobody is throttled yet.
    const THROTTLE_SINCE: Option<i16> = None;

    fn request(&self, _version: i16) -> ApiVersionsRequest {
        ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
    }

    fn limit(&self) -> usize {
        64 * 1024
    }

    fn answer(&self, mut fields: Fields<'_>, _version: i16) -> Result<Self::Answer, Malformed> {
        if fields.i16()? == UNSUPPORTED_VERSION {
            return Ok(None);
        }
        let mut versions = HashMap::new();
        for _ in 0..fields.array()? {
            versions.insert(fields.i16()?, (fields.i16()?, fields.i16()?));
            fields.tags()?;
        }
        Ok(Some(versions))
    }
}
