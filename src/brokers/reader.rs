//! The seam between the polling of sessions and the brokers: one reader per broker cluster and credentials.

use std::sync::Arc;

use tokio::time::Instant;

use super::observation::Recalled;
use super::{Problem, Reading};

/// Reads the backlog of many interests of one broker cluster, in as few requests as the broker allows.
///
/// A reader owns the connections to its cluster. It connects when it needs to, keeps what works and reconnects what
/// broke; a later `read` needs no help to recover.
pub trait Reader: Send + 'static {
    /// What one `QueueScaler` wants to know.
    type Interest: Send + Sync + 'static;
    /// What the reader remembers of an interest from one poll to the next, and loses with it. It begins with what an
    /// earlier process found out.
    type Memory: Default + From<Recalled> + Send + 'static;

    /// One poll: one reading per interest, in their order.
    ///
    /// A broker that does not answer before the deadline makes the readings that need it incomplete; it does not
    /// delay the others beyond the deadline.
    ///
    /// # Errors
    /// The cluster as a whole cannot be read: nothing is reachable, or the credentials are refused. The session backs
    /// off on it.
    fn read(
        &mut self,
        due: &mut [&mut Watched<Self::Interest, Self::Memory>],
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Reading>, Problem>> + Send;
}

/// An interest and what the reader remembers of it.
#[derive(Debug)]
pub struct Watched<I, M> {
    /// What is wanted.
    pub interest: Arc<I>,
    /// What the reader remembers.
    pub memory: M,
}

/// A reader that could not be made, because its certificates cannot be used, say, answers every poll with the reason.
impl<R: Reader> Reader for Result<R, Problem> {
    type Interest = R::Interest;
    type Memory = R::Memory;

    async fn read(
        &mut self,
        due: &mut [&mut Watched<R::Interest, R::Memory>],
        deadline: Instant,
    ) -> Result<Vec<Reading>, Problem> {
        match self {
            Ok(reader) => reader.read(due, deadline).await,
            Err(problem) => Err(problem.clone()),
        }
    }
}
