//! Running models: threads, allocations, reproducibility, errors.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use wpk::{Device, Shape1, Shape2, Shape4, Tensor};

wpk::model! {
    /// The digits model with three batch sizes.
    struct Digits = "../examples/digits/models/digits.onnx";
    dims = { batch: [1, 8, 32] };
    gpu = [sm_80];
}

wpk::model! {
    /// The same for the CPU alone.
    struct Plain = "../examples/digits/models/digits.onnx";
    dims = { batch: [1] };
}

wpk::model! {
    /// The same with products in bfloat16, and without calls of libraries.
    struct Half = "../examples/digits/models/digits.onnx";
    dims = { batch: [1] };
    gpu = [sm_80];
    cpu_precision = bf16;
    libraries = never;
}

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: it passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn image(seed: usize) -> Tensor<f32, Shape4<1, 1, 8, 8>> {
    Tensor::from_fn(|i| ((i * 37 + seed * 101) % 64) as f32 / 63.0)
}

#[test]
fn forward_does_not_allocate_after_the_first_call() {
    let digits = Digits::load().expect("the model loads");
    let x = image(1);
    drop(digits.forward(&x).expect("it runs"));
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..10 {
        drop(digits.forward(&x).expect("it runs"));
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
}

#[test]
fn products_in_bfloat16_are_nearly_those_in_single_precision() {
    let (plain, half) = (Plain::load_on(Device::Cpu).expect("it loads"), Half::load_on(Device::Cpu).expect("it loads"));
    let x = image(3);
    let (exact, near) = (plain.forward(&x).expect("it runs"), half.forward(&x).expect("it runs"));
    let norm = exact.as_slice().iter().map(|x| x * x).sum::<f32>().sqrt();
    let error = exact.as_slice().iter().zip(near.as_slice()).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / norm;
    assert!(error > 0.0 && error < 2e-2, "{error}");
}

#[test]
fn memory_for_faster_convolutions_can_be_spared() {
    let options = wpk::Options { device: Device::Cpu, small: true, ..wpk::Options::default() };
    let (plain, small) = (Plain::load_on(Device::Cpu).expect("it loads"), Plain::load_with(options).expect("it loads"));
    let x = image(4);
    let (a, b) = (plain.forward(&x).expect("it runs"), small.forward(&x).expect("it runs"));
    assert!(a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| (a - b).abs() <= 1e-5 * a.abs().max(1.0)));
}

#[test]
fn a_call_can_be_started_and_waited_for() {
    let digits = Digits::load().expect("the model loads");
    let images: Vec<_> = (0..4).map(image).collect();
    let started: Vec<_> = images.iter().map(|x| digits.submit(x).expect("it starts")).collect();
    for (mut call, x) in started.into_iter().zip(&images) {
        while !call.is_done().expect("the device works") {}
        assert_eq!(call.wait().expect("it ends"), digits.forward(x).expect("it runs"));
    }
    // A call that nobody waits for leaves its session whole.
    drop(digits.submit(&images[0]).expect("it starts"));
    assert_eq!(digits.forward(&images[1]).expect("it runs"), digits.submit(&images[1]).and_then(wpk::Submitted::wait).expect("it ends"));
}

#[test]
fn tensors_can_stay_on_the_device() {
    let digits = Digits::load().expect("the model loads");
    let x = image(3);
    let uploaded = digits.upload(&x).expect("there is memory");
    let scores = digits.forward_on_device(&uploaded).expect("it runs");
    assert_eq!(scores.download().expect("the device works"), digits.forward(&x).expect("it runs"));
    assert_eq!(uploaded.download().expect("the device works"), x);
    assert_eq!(scores.address().is_some(), digits.device() != Device::Cpu);
    let elsewhere = Digits::load_on(Device::Cpu).expect("the model loads").upload(&x).expect("there is memory");
    let found = digits.forward_on_device(&elsewhere);
    assert_eq!(found.is_ok(), digits.device() == Device::Cpu);
}

#[test]
fn many_threads_get_the_same_bits() {
    fn shared<T: Send + Sync>(_: &T) {}
    let digits = Digits::load().expect("the model loads");
    shared(&digits);
    let expected: Vec<_> = (0..8).map(|s| digits.forward(&image(s)).expect("it runs")).collect();
    std::thread::scope(|scope| {
        for t in 0..8 {
            let (digits, expected) = (&digits, &expected);
            scope.spawn(move || {
                (0..50).for_each(|i| assert_eq!(digits.forward(&image((t + i) % 8)).expect("it runs"), expected[(t + i) % 8]))
            });
        }
    });
}

#[test]
fn a_batch_gives_what_its_images_give() {
    let digits = Digits::load().expect("the model loads");
    let batch: Tensor<f32, Shape4<8, 1, 8, 8>> = Tensor::from_fn(|i| image(i / 64).as_slice()[i % 64]);
    let scores: Tensor<f32, Shape2<8, 10>> = digits.forward(&batch).expect("it runs");
    for (s, row) in scores.as_slice().chunks(10).enumerate() {
        let single = digits.forward(&image(s)).expect("it runs");
        assert!(row.iter().zip(single.as_slice()).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)), "image {s}");
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let error = |loaded: Result<(), wpk::Error>| loaded.expect_err("no such device").to_string();
    let found = error(Plain::load_on(Device::Cuda(0)).map(|_| ()));
    assert_eq!(found, "device: CUDA device 0: this program holds no GPU plan");
    assert_eq!(Plain::load().expect("the model loads").device(), Device::Cpu);
    let found = error(Digits::load_on(Device::Cuda(99)).map(|_| ()));
    let expected = ["device: there is no NVIDIA driver (libcuda)", "device: there is no CUDA device 99: the driver shows"];
    assert!(expected.iter().any(|e| found.starts_with(e)), "{found}");
}

#[test]
fn a_slice_of_another_length_is_an_error() {
    let error = Tensor::<f32, Shape1<3>>::from_slice(&[1.0, 2.0]).expect_err("too short");
    assert_eq!(error.to_string(), "tensor: expected 3 elements of [3], found 2");
}
