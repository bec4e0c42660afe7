//! Every way to compute an operation that the device may choose among: each is checked, then timed.

use serde::Serialize;

use super::kernels::{Checked, Efforts, Subject, difference, family, quantiles, result, tolerance};
use crate::device::cpu::Cpu;
use crate::device::cuda::{self, Cuda, Family, Forced, Launched, Record};
use crate::device::{Device, Program};
use crate::error::{Error, Result};
use crate::ops::cases;
use crate::ops::{Conv, Gemm, Op, Polyphase, Rows};
use crate::plan_report::Cut;

/// One way to compute a case.
#[derive(Debug, Serialize)]
pub struct Configuration {
    pub name: String,
    pub kernel: &'static str,
    pub image: String,
    #[serde(flatten)]
    pub cut: Cut,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    pub registers: u32,
    /// Whether the device takes it by itself.
    pub chosen: bool,
    pub error: f64,
    /// Whether the error is one that float16 explains; others are not timed.
    pub ok: bool,
    /// Median, frame-like; none of a wrong result.
    pub us: Option<f64>,
}

/// The ways to compute an operation that the device may choose among.
pub(super) fn ways(op: &Op) -> Vec<Forced> {
    match op {
        Op::Attention(op) => cuda::ways_of_attention(op.causal).collect(),
        Op::GemmNorm(_) => {
            let family = |family| Forced { family: Some(family), ..Forced::default() };
            [Family::Warps, Family::Warpgroups].map(family).to_vec()
        }
        Op::Gemm(Gemm { x: Rows { buf: x, .. }, .. })
        | Op::Conv(Conv { x, .. })
        | Op::Polyphase(Polyphase { x, .. }) => {
            cuda::configs(x.element).map(|config| Forced { config: Some(config), ..Forced::default() }).collect()
        }
        _ => Vec::new(),
    }
}

/// Every way to compute a case, each checked and then timed; `print` hears of each as soon as it is done.
///
/// # Errors
/// Whatever the GPU answers, and `print`.
pub fn sweep<E: From<Error>>(
    subject: &Subject,
    cuda: &mut Cuda,
    cpu: &mut Cpu,
    efforts: &Efforts,
    print: &mut dyn FnMut(Configuration) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let Subject { case, name } = subject;
    let (prepared, element) = (case.prepare().rounded(&case.op), case.out.element);
    let expected = result(cpu, case, &prepared)?;
    let checked = Checked { name: name.clone(), case, prepared, attempts: Vec::new() };
    let mut programs = checked.programs(cuda, checked.passes(cuda, efforts))?;
    let attempt = |cuda: &mut Cuda, program: &mut Program| -> Result<(Vec<f32>, Vec<Launched>)> {
        cuda.record(Record::Launches);
        let passed = cuda.run(program);
        let launches = cuda.take_launches();
        cuda.record(Record::Nothing);
        passed?;
        let mut bytes = vec![0; program.plan().buffers[case.out.index].bytes];
        cuda.read(program, case.out, 0, &mut bytes)?;
        Ok((cases::numbers(&bytes, element, cuda.activation_bytes()), launches))
    };
    let identity = |launches: &[Launched]| launches.first().map(|launch| (launch.kernel, launch.config));
    let chosen = identity(&attempt(cuda, &mut programs[0])?.1);
    for way in ways(&case.op) {
        cuda.force(way);
        let (got, launches) = attempt(cuda, &mut programs[0])?;
        let Some(launch) = launches.first() else { continue };
        // The shape does not allow this one; what the device took instead has its own turn.
        if (way.config.is_some() && launch.config != way.config)
            || (way.family.is_some() && launch.family != way.family)
        {
            continue;
        }
        let error = difference(&got, &expected, element);
        let ok = error <= tolerance(element);
        let seconds = if ok { Some(cuda.time_in_graph(&mut programs, efforts.sweep)?) } else { None };
        print(Configuration {
            name: name.clone(),
            kernel: launch.kernel,
            image: launch.image.to_string(),
            cut: Cut::of(launch.config),
            family: family(launch),
            registers: launch.registers,
            chosen: identity(&launches) == chosen,
            error,
            ok,
            us: seconds.map(|mut seconds| 1e6 * quantiles(&mut seconds).0),
        })?;
    }
    cuda.force(Forced::default());
    cuda.drop_weights();
    Ok(())
}
