//! The `queuescaler` program.

fn main() {}
