//! A large model from build.rs, with a plan for each batch size.

use std::error::Error;

#[cfg(exported)]
wpk::include_model!("ResNet");

#[cfg(exported)]
fn main() -> Result<(), Box<dyn Error>> {
    use std::time::Instant;
    use wpk::{Shape4, Tensor};

    let start = Instant::now();
    let resnet = ResNet::load()?;
    println!("loaded in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let pixel = |i: usize| ((i * 7919) % 255) as f32 / 127.5 - 1.0;
    let one = Tensor::<f32, Shape4<1, 3, 224, 224>>::from_fn(pixel);
    let four = Tensor::<f32, Shape4<4, 3, 224, 224>>::from_fn(|i| pixel(i % (3 * 224 * 224)));
    let single = resnet.forward(&one)?;
    let batch = resnet.forward(&four)?;
    let start = Instant::now();
    resnet.forward(&one)?;
    println!("one image in {:.1} ms, class {}", start.elapsed().as_secs_f64() * 1e3, single.argmax());
    let start = Instant::now();
    resnet.forward(&four)?;
    println!("four images in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let same = batch.as_slice().chunks(1000).all(|scores| scores.iter().zip(single.as_slice()).all(|(a, b)| (a - b).abs() < 1e-3));
    println!("the same image four times gives the same scores: {same}");
    Ok(())
}

#[cfg(not(exported))]
fn main() -> Result<(), Box<dyn Error>> {
    Err("there is no model yet: run `python3 examples/resnet/export.py`, then build again".into())
}
