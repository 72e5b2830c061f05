//! The most that a device can do: multiply-adds without memory, and dispatches without work.

use std::time::Instant;

use super::device::{ARGUMENTS_BYTES, Device};
use super::kernel::{Kernel, Place, View};
use crate::backend::BackendError;
use wgpu::BufferUsages as Usage;

/// Rounds of one invocation.
const ROUNDS: u64 = 2048;
/// Multiply-adds of one round: sixteen vectors of four, none of which waits for another.
const EACH: u64 = 64;
/// Invocations of a workgroup.
const LANES: u64 = 256;
/// Dispatches that are timed together.
const DISPATCHES: u32 = 1000;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Operations a second, a multiply-add counted as two.
    pub operations: f64,
    /// Seconds that a dispatch costs, whatever it does.
    pub dispatch: f64,
}

/// Measures a device, about so many seconds long.
///
/// # Errors
/// The device fails.
pub fn peak(adapter: u8, seconds: f64) -> Result<Peak, BackendError> {
    let device = Device::open(adapter)?;
    let busy = busy();
    let empty = empty();
    let pipelines = device.pipelines(&[&busy, &empty])?;
    let result = device.buffer("result", 1024, Usage::STORAGE)?;
    let arguments = device.buffer("arguments", ARGUMENTS_BYTES, Usage::UNIFORM | Usage::COPY_DST)?;
    // Word 1 is the offset of the result; word 2 the bits of a float.
    device.queue.write_buffer(&arguments, 0, bytemuck::cast_slice(&[0, 0, 1.0f32.to_bits()]));
    let layout = device.layout(&[true]).0;
    let entries = [
        wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &arguments,
                offset: 0,
                size: wgpu::BufferSize::new(ARGUMENTS_BYTES),
            }),
        },
        wgpu::BindGroupEntry { binding: 1, resource: result.as_entire_binding() },
    ];
    let group =
        device.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
    let timed = |pipeline: &wgpu::ComputePipeline, workgroups: u32, times: u32| -> Result<f64, BackendError> {
        let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipeline);
            for _ in 0..times {
                pass.set_bind_group(0, &group, &[0]);
                pass.dispatch_workgroups(workgroups, 1, 1);
            }
        }
        let started = Instant::now();
        let submission = device.submit(encoder);
        device.wait(&submission)?;
        Ok(started.elapsed().as_secs_f64())
    };
    // As many workgroups as keep it busy for a while, doubled from few.
    let mut workgroups = 8;
    let mut best = 0.0f64;
    loop {
        let took = timed(&pipelines[0], workgroups, 1)?;
        best = best.max((2 * ROUNDS * EACH * LANES * u64::from(workgroups)) as f64 / took.max(1e-9));
        if took >= 0.25 * seconds.min(0.4) || workgroups >= 32_768 {
            break;
        }
        workgroups *= 2;
    }
    let until = Instant::now();
    while until.elapsed().as_secs_f64() < 0.5 * seconds {
        let took = timed(&pipelines[0], workgroups, 1)?;
        best = best.max((2 * ROUNDS * EACH * LANES * u64::from(workgroups)) as f64 / took.max(1e-9));
    }
    timed(&pipelines[1], 1, DISPATCHES)?;
    let few = timed(&pipelines[1], 1, 1)?;
    let many = timed(&pipelines[1], 1, DISPATCHES)?;
    Ok(Peak { operations: best, dispatch: (many - few).max(0.0) / f64::from(DISPATCHES - 1) })
}

/// A place for what is computed, so that it is.
fn result() -> View {
    View { place: Place::Tensor(0), offset: 0, advance: 0, shape: vec![256] }
}

fn busy() -> Kernel {
    let mut kernel = Kernel::new("peak", [LANES as u32, 1, 1]);
    let to = kernel.write(&result());
    let factor = kernel.float(1.0f32.to_bits());
    kernel.code(&format!("let a = vec4<f32>({factor}, {factor}, f32(lane), f32(group.x));"));
    for i in 0..EACH / 4 {
        kernel.code(&format!("var s{i} = a + vec4<f32>({i}.0);"));
    }
    kernel.code(&format!("for (var k = 0u; k < {ROUNDS}u; k++) {{"));
    for i in 0..EACH / 4 {
        kernel.code(&format!("s{i} = fma(s{i}, a, a);"));
    }
    let sum: Vec<String> = (0..EACH / 4).map(|i| format!("s{i}")).collect();
    kernel.code(&format!("}}\nlet all = {};\n{} = all.x + all.y + all.z + all.w;", sum.join(" + "), to.at("lane")));
    kernel
}

fn empty() -> Kernel {
    let mut kernel = Kernel::new("empty", [1, 1, 1]);
    let to = kernel.write(&result());
    let factor = kernel.float(1.0f32.to_bits());
    kernel.code(&format!("if ({factor} == 0.0) {{ {} = 1.0; }}", to.at("0u")));
    kernel
}
