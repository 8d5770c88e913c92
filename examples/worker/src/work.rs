//! The work on one message: it takes time, and a permit of the shared database, if there is one.

use crate::database::Database;
use crate::pace::{Pace, parse_rate};

/// The cost of a message.
#[derive(clap::Args, Debug)]
#[group(skip)] // its name would be that of the arguments it is part of
pub struct Args {
    /// Messages per second that this process can do, 0 for no limit
    #[arg(long, env = "RATE", default_value = "0", value_parser = parse_rate)]
    rate: f64,

    /// Take a permit for each message from the `worker limit` at this address, which all consumers share
    #[arg(long, env = "DATABASE", value_name = "HOST:PORT")]
    database: Option<String>,
}

/// The time and the database of one consumer.
pub struct Work {
    pace: Pace,
    database: Option<Database>,
}

impl Work {
    pub fn new(args: &Args) -> Self {
        Self { pace: Pace::new(args.rate), database: args.database.clone().map(Database::at) }
    }

    /// Works on one message.
    pub async fn do_one(&mut self) {
        self.pace.next().await;
        if let Some(database) = &mut self.database {
            database.permit().await;
        }
    }
}
