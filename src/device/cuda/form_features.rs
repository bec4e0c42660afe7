//! Host side of kernels/form_features.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::resized::Resizing;
use crate::ops::{Element, FormFeatures, Layout};

/// FormFeaturesParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    /// 0 where lengths stay
    norms: u64,
    out: u64,
    not_finite: u64,
    resizing: Resizing,
    factor: f32,
    limit: f32,
    resized: u32,
    padding: u32,
}

/// FormFeaturesClearParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ClearParams {
    not_finite: u64,
}

pub fn compile(op: &FormFeatures, to: &mut Assembler<'_>) -> Refused {
    let FormFeatures { x, resized, norms, factor, limit, layout, out, not_finite } = *op;
    let find = |name: &str| to.find("form_features", |kernel| kernel.name == name);
    let (clear, lengths) = (find("form_features_clear")?, find("form_features_norms")?);
    let kernel = find(match (layout, out.element) {
        (Layout::Hwc, Element::F16) => "form_features_hwc_half",
        (Layout::Hwc, _) => "form_features_hwc",
        (Layout::Chw, Element::F16) => "form_features_chw_half",
        (Layout::Chw, _) => "form_features_chw",
    })?;
    let (batch, (height, width)) = (x.batch(), op.size());
    let resizing = Resizing::new(&lengths.spec, x, (height, width), x.channels());
    let params = Params {
        x: to.address(x),
        norms: to.optional_address(norms),
        out: to.address(out),
        not_finite: to.address(not_finite),
        resizing,
        factor,
        limit,
        resized: resized.into(),
        padding: 0,
    };
    let [strips, ..] = resizing.grid(&lengths.spec);
    // A kernel and no memset: all that a pass queues is launches and copies.
    to.launch(clear, [1, 1, 1], &ClearParams { not_finite: params.not_finite })?;
    if norms.is_some() {
        to.launch(lengths, [strips, batch, 1], &params)?;
    }
    match layout {
        Layout::Hwc => to.launch(kernel, [(height * width).div_ceil(kernel.spec.columns), batch, 1], &params),
        Layout::Chw => to.launch(kernel, [strips, batch, 1], &params),
    }
}
