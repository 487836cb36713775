//! Running a compiled model in memory.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use wpk_build::Compiled;
use wpk_kernels::{Data, Tensor};
use wpk_plan::Port;
use wpk_rt::{Device, Model, Weights};

/// Binds a compiled model.
pub fn load(compiled: &Compiled, device: Option<usize>) -> Result<Model, Box<dyn std::error::Error>> {
    bind(compiled, compiled.blob.to_bytes(), device)
}

/// Binds a compiled model to its weights' bytes.
pub fn bind(compiled: &Compiled, weights: Vec<u8>, device: Option<usize>) -> Result<Model, Box<dyn std::error::Error>> {
    if let (Some(_), Some((arch, steps))) = (device, compiled.refused.first()) {
        return Err(format!("no plan for {arch}:\n  {}", steps.join("\n  ")).into());
    }
    let device = device.map_or(Device::Cpu, Device::Cuda);
    Ok(Model::new(compiled.program.clone(), Weights::Owned(weights), device)?)
}

/// The inputs of a model: `MODEL.<input>.npy` where such a file lies beside it, else seeded random values.
pub fn inputs(model: &Path, ports: &[Port]) -> Result<Vec<Tensor>, String> {
    ports.iter().enumerate().map(|(i, port)| input(model, port, i)).collect()
}

/// `DIR/MODEL.<name>.npy`
pub fn beside(model: &Path, name: &str) -> PathBuf {
    let stem = model.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    model.with_file_name(format!("{stem}.{name}.npy"))
}

fn input(model: &Path, port: &Port, seed: usize) -> Result<Tensor, String> {
    let path = beside(model, &port.name);
    let len: usize = port.shape.iter().product();
    if path.exists() {
        let tensor = crate::npy::read(&path)?;
        return if tensor.len() == len {
            Ok(tensor)
        } else {
            Err(format!("{} has {} elements, input {:?} takes {len}", path.display(), tensor.len(), port.name))
        };
    }
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ (seed as u64) << 32;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    Ok(match port.dtype {
        t if t.is_float() => Tensor::floats(t, (0..len).map(|_| (next() + next() + next() - 1.5) * 2.0).collect()),
        t => Tensor::ints(t, (0..len).map(|_| i64::from(next() < 0.5)).collect()),
    })
}

/// `|x - y| / |y|` in the 2-norm; integers count as numbers. Infinite where one is no number, or infinite, and the other is not so.
pub fn relative_error(x: &Tensor, y: &Tensor) -> f64 {
    fn values(t: &Tensor) -> Cow<'_, [f64]> {
        match &t.data {
            Data::Float(x) => Cow::Borrowed(x),
            Data::Int(x) => x.iter().map(|&i| i as f64).collect(),
        }
    }
    let (x, y) = (values(x), values(y));
    let (mut difference, mut norm) = (0.0, 0.0);
    for (a, b) in x.iter().zip(y.iter()) {
        if a.is_nan() && b.is_nan() || a == b {
            norm += if b.is_finite() { b * b } else { 0.0 };
            continue;
        }
        difference += (a - b) * (a - b);
        norm += b * b;
    }
    let error: f64 = if difference == 0.0 { 0.0 } else { difference / norm.max(f64::MIN_POSITIVE) };
    if error.is_nan() { f64::INFINITY } else { error.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::relative_error;
    use wpk_kernels::Tensor;
    use wpk_plan::DType;

    #[test]
    fn errors_of_what_is_not_finite_are_infinite() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        for (x, y, error) in [
            ([3.0, 4.0], [3.0, 4.0], 0.0),
            ([3.0, 5.0], [3.0, 4.0], 0.2),
            ([3.0, nan], [3.0, 4.0], inf),
            ([3.0, 4.0], [3.0, nan], inf),
            ([3.0, nan], [3.0, nan], 0.0),
            ([3.0, inf], [3.0, -inf], inf),
            ([3.0, inf], [3.0, inf], 0.0),
            ([1.0, 0.0], [0.0, 0.0], 1.0 / f64::MIN_POSITIVE.sqrt()),
        ] {
            let [a, b] = [x, y].map(|values| Tensor::floats(DType::F64, values.to_vec()));
            assert_eq!(relative_error(&a, &b), error, "{x:?} {y:?}");
        }
    }
}
