//! Special registers, and the rarer forms of packing.

use super::block::{Cta, Env};
use super::registers::{Registers, halves};
use super::warp::Warp;
use crate::ir::{Op, Slot, Special};
use crate::profile::Profile;

pub(super) fn read(env: &Env<'_>, cta: &Cta<'_>, warp: &mut Warp<'_>, active: u32, what: Special, d: Slot) {
    let launch = env.launch;
    let lane = |f: fn(u32) -> u32| std::array::from_fn(|l| f(l as u32));
    let same = |x: u32| [x; 32];
    let warps = launch.block.iter().map(|&n| n as u64).product::<u64>().div_ceil(32) as u32;
    let row = match what {
        Special::TidX => warp.thread[0],
        Special::TidY => warp.thread[1],
        Special::TidZ => warp.thread[2],
        Special::NtidX => same(launch.block[0]),
        Special::NtidY => same(launch.block[1]),
        Special::NtidZ => same(launch.block[2]),
        Special::CtaidX => same(cta.block[0]),
        Special::CtaidY => same(cta.block[1]),
        Special::CtaidZ => same(cta.block[2]),
        Special::NctaidX => same(launch.grid[0]),
        Special::NctaidY => same(launch.grid[1]),
        Special::NctaidZ => same(launch.grid[2]),
        Special::LaneId => lane(|l| l),
        Special::WarpId => same(warp.index as u32),
        Special::NwarpId => same(warps),
        Special::SmId => same((cta.linear % env.profile.multiprocessors.max(1) as u64) as u32),
        Special::NsmId => same(env.profile.multiprocessors),
        Special::LanemaskEq => lane(|l| 1 << l),
        Special::LanemaskLt => lane(|l| (1 << l) - 1),
        Special::LanemaskLe => lane(|l| u32::MAX >> (31 - l)),
        Special::LanemaskGt => lane(|l| !(u32::MAX >> (31 - l))),
        Special::LanemaskGe => lane(|l| u32::MAX << l),
        Special::Clock => same(cta.issued as u32),
        Special::Clock64 | Special::GlobalTimer => {
            warp.registers.put_wide(d, active, &[cta.issued; 32]);
            return;
        }
        Special::DynamicSmemSize => same(launch.dynamic_shared as u32),
        Special::TotalSmemSize => same(env.shared_bytes as u32),
        Special::AggregateSmemSize => same((env.shared_bytes + Profile::SHARED_RESERVED) as u32),
        Special::ClusterCtaRank => same(cta.rank),
        Special::ClusterNctaRank => same(launch.cluster.iter().product()),
        Special::ClusterCtaid(axis) => same(cta.block[axis as usize % 3] % launch.cluster[axis as usize % 3]),
        Special::ClusterNctaid(axis) => same(launch.cluster[axis as usize % 3]),
        Special::Clusterid(axis) => same(cta.block[axis as usize % 3] / launch.cluster[axis as usize % 3]),
        Special::Nclusterid(axis) => same(launch.grid[axis as usize % 3] / launch.cluster[axis as usize % 3]),
        Special::IsExplicitCluster => same((launch.cluster != [1, 1, 1]) as u32),
        Special::Zero => same(0),
        Special::EnvReg(1) => same((launch.workspace >> 32) as u32),
        Special::EnvReg(2) => same(launch.workspace as u32),
        Special::EnvReg(_) => same(0),
        Special::ReservedSmemSize => same(Profile::SHARED_RESERVED as u32),
    };
    warp.registers.put(d, active, &row);
}

/// Parts to a whole and back; what is undefined moves along.
pub(super) fn pack(r: &mut Registers<'_>, active: u32, op: &Op) {
    match op {
        Op::Pack32x2 { d, parts: [low, high] } => {
            let (x, y) = (r.narrow(*low), r.narrow(*high));
            let out = std::array::from_fn(|l| x[l] as u64 | (y[l] as u64) << 32);
            let undef = [r.undefined(*low), r.undefined(*high)];
            r.put_wide_partly(*d, active, &out, undef);
        }
        Op::Unpack32x2 { d: [low, high], a } => {
            let (x, undef) = (*r.wide(*a), r.undefined_wide(*a));
            if let Some(low) = low {
                r.put_partly(*low, active, &x.map(|x| x as u32), undef[0]);
            }
            if let Some(high) = high {
                r.put_partly(*high, active, &x.map(|x| (x >> 32) as u32), undef[1]);
            }
        }
        Op::Pack16x4 { d, parts } => {
            let mut out = [0; 32];
            for (i, &part) in parts.iter().enumerate() {
                let x = r.narrow(part);
                (0..32).for_each(|l| out[l] |= (x[l] as u64 & 0xffff) << (16 * i));
            }
            let low = parts.map(|part| r.undefined(part) & 0xffff_ffff);
            r.put_wide_partly(*d, active, &out, [low[0] | low[1] << 32, low[2] | low[3] << 32]);
        }
        Op::Unpack16x4 { d, a } => {
            let (x, undef) = (*r.wide(*a), r.undefined_wide(*a));
            for (i, slot) in d.iter().enumerate() {
                if let Some(slot) = slot {
                    let half = undef[i / 2] >> (32 * (i % 2));
                    r.put_partly(*slot, active, &x.map(|x| (x >> (16 * i)) as u32 & 0xffff), halves(half as u32));
                }
            }
        }
        Op::Pack8x2 { d, parts: [low, high] } => {
            let (x, y) = (r.narrow(*low), r.narrow(*high));
            let out = std::array::from_fn(|l| (x[l] & 0xff) | (y[l] & 0xff) << 8);
            let undef = r.undefined(*low) as u32 | r.undefined(*high) as u32;
            r.put_partly(*d, active, &out, halves(undef));
        }
        Op::Unpack8x2 { d: [low, high], a } => {
            let (x, undef) = (*r.narrow(*a), halves(r.undefined(*a) as u32));
            if let Some(low) = low {
                r.put_partly(*low, active, &x.map(|x| x & 0xff), undef);
            }
            if let Some(high) = high {
                r.put_partly(*high, active, &x.map(|x| x >> 8 & 0xff), undef);
            }
        }
        _ => {}
    }
}
