//! Runs the model with its own operator, on the CPU and, where there is one, on the GPU, beside the same arithmetic in Rust.

use std::error::Error;
use wpk::{Device, Shape2, Tensor};

wpk::include_model!("Snake");

/// What the model should give, in double precision, from the first product's results.
fn expected(hidden: &[f32]) -> Vec<f64> {
    let snake = |x: f64| x + (1.5 * x).sin().powi(2) / 1.5;
    let weight = |i: usize, j: usize| f64::from(((1 + 3 * i + 7 * j) as f64).sin() as f32 / 4.0);
    let row = |h: &[f32], j: usize| h.iter().enumerate().map(|(i, &x)| snake(f64::from(x)) * weight(i, j)).sum();
    hidden.chunks(32).flat_map(|h| (0..4).map(move |j| row(h, j))).collect()
}

/// The device that the model ran on, and the largest difference from what is expected.
fn difference(device: Device) -> Result<(Device, f64), wpk::Error> {
    let model = Snake::load_on(device)?;
    let x = Tensor::<f32, Shape2<8, 16>>::from_fn(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0);
    let found = model.forward(&x)?;
    let pairs = expected(found.h.as_slice()).into_iter().zip(found.y.as_slice());
    Ok((model.device(), pairs.map(|(e, &f)| (e - f64::from(f)).abs()).fold(0.0, f64::max)))
}

fn main() -> Result<(), Box<dyn Error>> {
    for device in [Device::Cpu, Device::Auto] {
        let (device, difference) = difference(device)?;
        println!("on {device:?}: within {difference:.1e}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_the_formula() {
        let (_, difference) = super::difference(wpk::Device::Cpu).expect("it runs");
        assert!(difference < 1e-5, "{difference}");
    }
}
