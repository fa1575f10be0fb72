//! Who takes part in the network workloads, with one thread ([`ALL`]) and with workers ([`RUNTIMES`]); a file each.
#![allow(unused_mut, reason = "the text is everybody's; some endpoints are used through `&mut`, some through `&`")]

pub(crate) mod calls;
mod embassy;
mod embassy_executor;
mod fibra;
mod fibra_workers;
mod floor;
mod floor_executor;
mod futures_intrusive;
mod kanal;
mod kanal_workers;
mod region;
mod runtime;
mod smol_workers;
mod steps;
mod tokio;
mod tokio_workers;

pub use runtime::{RUNTIMES, Runtime};

/// One scheduler with one kind of channel, and the workloads on it. Each takes a size and returns an answer.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// The name in the second column.
    pub name: &'static str,
    /// See [`Workload::OneToOne`](crate::Workload::OneToOne).
    pub one_to_one: fn(u64) -> u64,
    /// See [`Workload::Pipeline`](crate::Workload::Pipeline).
    pub pipeline: fn(u64) -> u64,
    /// See [`Workload::Commstime`](crate::Workload::Commstime).
    pub commstime: fn(u64) -> u64,
    /// See [`Workload::Ring`](crate::Workload::Ring).
    pub ring: fn(u64) -> u64,
    /// See [`Workload::Spawn`](crate::Workload::Spawn).
    pub spawn: fn(u64) -> u64,
    /// See [`Workload::Bytes`](crate::Workload::Bytes).
    pub bytes: fn(u64) -> u64,
    /// See [`Workload::Skynet`](crate::Workload::Skynet).
    pub skynet: fn(u64) -> u64,
}

macro_rules! network {
    ($name:literal, $module:ident) => {
        Network {
            name: $name,
            one_to_one: $module::one_to_one,
            pipeline: $module::pipeline,
            commstime: $module::commstime,
            ring: $module::ring,
            spawn: $module::spawn_batches,
            bytes: $module::bytes,
            skynet: $module::skynet,
        }
    };
}

/// Everybody, fibra first: the others are compared with it.
pub const ALL: [Network; 7] = [
    network!("fibra", fibra),
    network!("fibra-steps", steps),
    network!("floor", floor),
    network!("embassy", embassy),
    network!("kanal", kanal),
    network!("tokio", tokio),
    network!("futures-intrusive", futures_intrusive),
];
