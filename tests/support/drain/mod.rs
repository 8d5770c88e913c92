//! Shows that a drain loses nothing, after Jepsen's total-queue: producers keep a history of what they wrote, outside of
//! whatever is tested; what readers see afterwards is compared with it.

pub mod checker;
pub mod distributor;
pub mod history;
pub mod load;
pub mod topics;
