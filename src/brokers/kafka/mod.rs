//! placeholder until merge
use super::access::KafkaAccess;
use super::address::AddressPolicy;
use super::reader::*;
use super::*;
use crate::plan::KafkaInterest;
use tokio::time::Instant;
pub struct KafkaReader;
impl KafkaReader {
    pub fn new(_: KafkaAccess, _: AddressPolicy) -> Self {
        Self
    }
}
impl Reader for KafkaReader {
    type Interest = KafkaInterest;
    type Memory = ();
    async fn read(
        &mut self,
        _: &mut [&mut Watched<KafkaInterest, ()>],
        _: Instant,
    ) -> Result<Vec<Reading>, Problem> {
        Ok(vec![])
    }
}
