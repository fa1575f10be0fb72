//! Who takes part with workers.

use std::time::Duration;

use super::{fibra_workers, kanal_workers, smol_workers, tokio_workers};

/// One scheduler with workers and one kind of channel, and the rows on it. Each takes a size and returns an answer.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// The name in the third column.
    pub name: &'static str,
    /// See [`Row::OneToOne`](crate::workers::Row::OneToOne).
    pub one_to_one: fn(u64) -> u64,
    /// See [`Row::Pipeline`](crate::workers::Row::Pipeline).
    pub pipeline: fn(u64) -> u64,
    /// See [`Row::Commstime`](crate::workers::Row::Commstime).
    pub commstime: fn(u64) -> u64,
    /// See [`Row::Ring`](crate::workers::Row::Ring).
    pub ring: fn(u64) -> u64,
    /// See [`Row::Pairs`](crate::workers::Row::Pairs).
    pub pairs: fn(u64) -> u64,
    /// See [`Row::Bytes`](crate::workers::Row::Bytes).
    pub bytes: fn(u64) -> u64,
    /// See [`Row::RoundTrip`](crate::workers::Row::RoundTrip).
    pub round_trip: fn(u64) -> u64,
    /// See [`Row::Spawn`](crate::workers::Row::Spawn).
    pub spawn_batches: fn(u64) -> u64,
    /// See [`Row::SpawnMillion`](crate::workers::Row::SpawnMillion).
    pub spawn_all: fn(u64) -> u64,
    /// See [`Row::Skynet`](crate::workers::Row::Skynet).
    pub skynet: fn(u64) -> u64,
    /// See [`Row::Stages`](crate::workers::Row::Stages).
    pub stages: fn(u64) -> u64,
    /// See [`Row::Hog`](crate::workers::Row::Hog).
    pub hog: fn(u64) -> u64,
    /// See [`Row::FanOut`](crate::workers::Row::FanOut).
    pub fan_out: fn(u64) -> u64,
    /// See [`Row::Idle`](crate::workers::Row::Idle) and [`Row::Job`](crate::workers::Row::Job): how many fibres wait, and for how long.
    pub outside: fn(u64, Duration) -> u64,
}

macro_rules! runtime {
    ($name:literal, $module:ident) => {
        Runtime {
            name: $name,
            one_to_one: $module::one_to_one,
            pipeline: $module::pipeline,
            commstime: $module::commstime,
            ring: $module::ring,
            pairs: $module::pairs,
            bytes: $module::bytes,
            round_trip: $module::round_trip,
            spawn_batches: $module::spawn_batches,
            spawn_all: $module::spawn_all,
            skynet: $module::skynet,
            stages: $module::stages,
            hog: $module::hog,
            fan_out: $module::fan_out,
            outside: $module::outside,
        }
    };
}

/// Everybody; the others are compared with the first.
pub const RUNTIMES: [Runtime; 4] = [
    runtime!("fibra", fibra_workers),
    runtime!("tokio", tokio_workers),
    runtime!("kanal", kanal_workers),
    runtime!("smol", smol_workers),
];
