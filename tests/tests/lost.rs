//! Memory that is not there, and a device that is lost: in a process of its own, because everything after it fails too.
//! It needs a GPU; without one it says so.

use wpk::{Device, Shape4, Tensor};
use wpk_kernels::arch::Arch;
use wpk_kernels::dsl::Writer;
use wpk_kernels::ptx::{MemTy, Ty};
use wpk_rt::Error;
use wpk_rt::measure::Bench;

wpk::model! {
    /// The digits model.
    struct Digits = "../examples/digits/models/digits.onnx";
    dims = { batch: [1] };
    gpu = [sm_80];
}

/// A kernel that writes far behind its only buffer.
fn stray() -> wpk_plan::Module {
    let arch = Arch::named("sm_80").expect("an architecture");
    let mut k = Writer::for_arch(arch);
    let far = k.int(i64::from(i32::MAX), Ty::S32);
    let to = k.element(0, far, 1 << 14);
    let value = k.float(1.0, Ty::F32);
    k.store(MemTy::F32, to, &[value]);
    k.finish("stray", 1, 32, 1).module(arch)
}

#[test]
fn a_device_without_memory_and_a_lost_one_are_errors_of_their_own() {
    let Ok(digits) = Digits::load_on(Device::Cuda(0)) else { return println!("not run: there is no GPU") };
    let bench = Bench::new(0).expect("the device opens");
    let memory = bench.room(1 << 50).err();
    println!("{}", memory.as_ref().map(ToString::to_string).unwrap_or_default());
    assert!(matches!(memory, Some(Error::OutOfMemory(_))), "{memory:?}");

    let x: Tensor<f32, Shape4<1, 1, 8, 8>> = Tensor::from_fn(|i| i as f32);
    digits.forward(&x).expect("what was refused leaves the device whole");

    let kernel = bench.load(&[stray()]).remove(0).expect("it compiles");
    let buffer = bench.memory(&[0; 64]).expect("there is memory");
    let faults = [bench.run(&kernel, &[&buffer]).err(), digits.forward(&x).err(), Digits::load_on(Device::Cuda(0)).err()];
    for fault in faults {
        println!("{}", fault.as_ref().map(ToString::to_string).unwrap_or_default());
        assert!(matches!(fault, Some(Error::DeviceLost(_))), "{fault:?}");
    }
}
