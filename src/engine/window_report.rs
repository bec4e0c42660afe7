//! What a photo in windows takes, told without computing it.

use serde::Serialize;

use super::whole::{WholeOptions, window_shape};
use super::window_tables;
use crate::checkpoint::Checkpoint;
use crate::device::DeviceChoice;
use crate::device::cuda::GpuLimits;
use crate::error::Result;
use crate::model::config::Config;
use crate::model::weights::Loader;
use crate::model::{Model, Outputs};
use crate::ops::Element;
use crate::plan;
use crate::plan_report::{PlanReport, report};
use crate::protocol::Protocol;
use crate::protocol::strips::Layout;

/// What a photo in windows takes.
#[derive(Clone, Debug, Serialize)]
pub struct WindowReport {
    /// In their order.
    pub scales: Vec<ScaleReport>,
    /// Windows of all scales; those at the seams of strips as often as they are computed.
    pub windows: usize,
    /// Of these, computed again at seams.
    pub repeated: usize,
    /// Of the network: windows, and mirrored ones.
    pub passes: usize,
    /// Strips of columns.
    pub strips: usize,
    /// (height, width) of what is handed out.
    pub out: [usize; 2],
    /// Of all passes, and what is made of their sums.
    pub gflop: f64,
    /// Of the sums of windows.
    pub sums_bytes: u64,
    /// Channels of these: labels, or those of unit vectors, which are summed up where there are more labels and no head block.
    pub sums_channels: usize,
    /// One pass of a window, and then the rows that are handed out at once.
    pub plan: PlanReport,
}

/// A scale of a photo.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleReport {
    /// Times the base.
    pub scale: f64,
    /// Of the photo at this scale, pixels.
    pub height: usize,
    /// As `height`.
    pub width: usize,
    /// Windows in a column.
    pub windows_down: usize,
    /// Windows in a row.
    pub windows_across: usize,
}

/// Plans a photo of (height, width) in a protocol's windows, as [`plan`](crate::plan_report::plan) does a frame.
///
/// # Errors
/// As there; [`Error::Size`](crate::Error::Size) for a protocol without windows or of which none can be cut;
/// [`Error::Memory`](crate::Error::Memory) where a column's sums take more than is allowed.
pub fn plan_windows(
    checkpoint: &Checkpoint,
    config: &Config,
    (protocol, photo, options): (&Protocol, (usize, usize), WholeOptions),
    labels: usize,
    device: DeviceChoice,
    gpu: Option<GpuLimits>,
) -> Result<WindowReport> {
    let mut loader = Loader::shapes(checkpoint);
    let model = Model::load(config, &mut loader)?;
    let channels = model.window_channels(protocol.stage, labels);
    let layout = Layout::new(protocol, photo, channels, options.memory)?;
    let shape = window_shape(protocol, &layout, photo, Outputs::MASK, Element::F32, &[options.batch.unwrap_or(1)]);
    let bank = model.window_bank_shape(labels);
    let is_gpu = gpu.is_some() || matches!(device, DeviceChoice::Cuda(_));
    let value_bytes = if is_gpu { 2 } else { 4 };
    let (plan, io) = plan::record(value_bytes, &[], |d| model.forward_windows(d, &shape, Some(bank)));
    let gflop =
        |steps: std::ops::Range<usize>| plan.steps[steps].iter().map(|step| step.op.flop() as f64 / 1e9).sum::<f64>();
    let passes = layout.windows() * window_tables::flip(protocol).passes();
    let batch = io.passes[0].batch;
    let of_passes = passes as f64 / batch as f64 * gflop(io.passes[0].steps.clone());
    let stripes = layout.strips.len() * layout.out.0.div_ceil(layout.stripe);
    let scales = layout.grids.iter().map(|grid| ScaleReport {
        scale: grid.scale,
        height: grid.height.scaled,
        width: grid.width.scaled,
        windows_down: grid.height.count,
        windows_across: grid.width.count,
    });
    Ok(WindowReport {
        scales: scales.collect(),
        windows: layout.windows(),
        repeated: layout.repeated(),
        passes,
        strips: layout.strips.len(),
        out: [layout.out.0, layout.out.1],
        gflop: of_passes + stripes as f64 * gflop(io.finish.clone()),
        sums_bytes: (4 * layout.pixels() * channels.summed) as u64,
        sums_channels: channels.summed,
        plan: report(&loader, plan, is_gpu, gpu)?,
    })
}
