//! Special registers: `%tid.x`, `%laneid`, …

use super::{Decoder, Result};
use crate::ir::{Op, Slot, Special};

fn find(name: &str, member: Option<&str>) -> Option<Special> {
    let axis = |x, y, z| match member {
        Some("x") => Some(x),
        Some("y") => Some(y),
        Some("z") => Some(z),
        _ => None,
    };
    match name {
        "%tid" => return axis(Special::TidX, Special::TidY, Special::TidZ),
        "%ntid" => return axis(Special::NtidX, Special::NtidY, Special::NtidZ),
        "%ctaid" => return axis(Special::CtaidX, Special::CtaidY, Special::CtaidZ),
        "%nctaid" => return axis(Special::NctaidX, Special::NctaidY, Special::NctaidZ),
        "%cluster_ctaid" => return axis(Special::ClusterCtaid(0), Special::ClusterCtaid(1), Special::ClusterCtaid(2)),
        "%cluster_nctaid" => {
            return axis(Special::ClusterNctaid(0), Special::ClusterNctaid(1), Special::ClusterNctaid(2));
        }
        "%clusterid" => return axis(Special::Clusterid(0), Special::Clusterid(1), Special::Clusterid(2)),
        "%nclusterid" => return axis(Special::Nclusterid(0), Special::Nclusterid(1), Special::Nclusterid(2)),
        _ => {}
    }
    if member.is_some() {
        return None;
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NwarpId,
        "%smid" => Special::SmId,
        "%nsmid" => Special::NsmId,
        "%lanemask_eq" => Special::LanemaskEq,
        "%lanemask_lt" => Special::LanemaskLt,
        "%lanemask_le" => Special::LanemaskLe,
        "%lanemask_gt" => Special::LanemaskGt,
        "%lanemask_ge" => Special::LanemaskGe,
        "%clock" => Special::Clock,
        "%clock64" => Special::Clock64,
        "%globaltimer" => Special::GlobalTimer,
        "%dynamic_smem_size" => Special::DynamicSmemSize,
        "%total_smem_size" => Special::TotalSmemSize,
        "%cluster_ctarank" => Special::ClusterCtaRank,
        "%reserved_smem_offset_begin" => Special::Zero,
        "%reserved_smem_offset_end" | "%reserved_smem_offset_cap" => Special::ReservedSmemSize,
        "%aggr_smem_size" => Special::AggregateSmemSize,
        "%cluster_nctarank" => Special::ClusterNctaRank,
        _ => Special::EnvReg(name.strip_prefix("%envreg")?.parse().ok().filter(|&n| n < 32)?),
    })
}

impl<'a> Decoder<'_, 'a> {
    /// A special register's value, read into a temporary.
    pub(super) fn special(&mut self, name: &'a str, member: Option<&'a str>, bytes: usize) -> Result<Slot> {
        if name == "WARP_SZ" && member.is_none() {
            return self.constant(32, bytes);
        }
        let Some(what) = find(name, member) else {
            let full = member.map_or(name.to_owned(), |member| format!("{name}.{member}"));
            return if name.starts_with('%') && self.looks_special(name, member) {
                self.unknown(format!("the special register `{full}`"))
            } else {
                self.undeclared(&full)
            };
        };
        let size = if matches!(what, Special::Clock64 | Special::GlobalTimer) { 8 } else { 4 };
        if size != bytes {
            return self.syntax(format!("`{name}` has {size} bytes where {bytes} are expected"));
        }
        let register = self.temporary(bytes);
        self.aside(|d| {
            let to = d.write(register);
            d.emit(Op::Special { what, d: to })
        })?;
        Ok(self.read(register))
    }

    /// Names that PTX gives to special registers, none of them ending in a register's number except these.
    fn looks_special(&self, name: &str, member: Option<&str>) -> bool {
        member.is_some()
            || !name.ends_with(|end: char| end.is_ascii_digit())
            || ["%envreg", "%pm", "%reserved_smem"].iter().any(|start| name.starts_with(start))
    }

    /// The special register that `mov` reads straight into its destination.
    pub(super) fn special_of(&self, name: &str, member: Option<&str>, bytes: usize) -> Option<Special> {
        let what = find(name, member)?;
        let size = if matches!(what, Special::Clock64 | Special::GlobalTimer) { 8 } else { 4 };
        (size == bytes).then_some(what)
    }
}
