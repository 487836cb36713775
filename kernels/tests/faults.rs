//! What the verifier and the emulator must find: planted faults.

use wpk_kernels::dsl::{Val, Writer};
use wpk_kernels::emulate;
use wpk_kernels::ptx::{Cmp, Kernel, MemTy, Op, Special, Ty};

fn kernel(write: impl FnOnce(&mut Writer, Val)) -> Kernel {
    let mut k = Writer::new();
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    write(&mut k, thread);
    k.finish("planted", 1, 32, 1)
}

/// The address of a float in shared memory.
fn slot(k: &mut Writer, i: Val) -> Val {
    let base = k.op(Ty::U32, Op::Special(Special::Shared), &[]);
    let bytes = k.scaled(i, 4);
    k.add(base, bytes)
}

#[track_caller]
fn emulated(expected: &str, write: impl FnOnce(&mut Writer, Val)) {
    let kernel = kernel(write);
    assert_eq!(kernel.verify(), Vec::<String>::new());
    let found = emulate::run(&kernel, &mut [vec![0; 128]]).expect_err("a fault");
    assert!(found.contains(expected), "{found}");
}

#[track_caller]
fn verified(expected: &str, write: impl FnOnce(&mut Writer, Val)) {
    let faults = kernel(write).verify();
    assert!(faults.iter().any(|f| f.contains(expected)), "{faults:?}");
}

/// Every thread writes its number and reads its neighbour's.
fn exchange(k: &mut Writer, thread: Val, barrier: bool) {
    k.shared(33 * 4);
    let one = k.int(1, Ty::U32);
    let value = k.op(Ty::F32, Op::Convert(Ty::U32), &[thread]);
    let next = k.add(thread, one);
    let to = slot(k, next);
    k.store(MemTy::F32, to, &[value]);
    let zero = k.int(0, Ty::U32);
    let zero = k.variable(zero);
    let first = k.compare(Cmp::Eq, thread, zero);
    k.when(first, |k| {
        let to = slot(k, zero);
        k.store(MemTy::F32, to, &[value]);
    });
    if barrier {
        k.barrier();
    }
    let from = slot(k, thread);
    k.load(MemTy::F32, Ty::F32, from, 1);
}

#[test]
fn a_missing_barrier_is_a_race() {
    emulated("read without a barrier after thread", |k, t| exchange(k, t, false));
    let right = kernel(|k, t| exchange(k, t, true));
    assert_eq!((right.verify(), emulate::run(&right, &mut [vec![0; 128]])), (vec![], Ok(())));
}

#[test]
fn accesses_are_checked() {
    emulated("leave buffer 0 of 128", |k, t| {
        let one = k.int(1, Ty::U32);
        let next = k.add(t, one);
        let at = k.element(0, next, 4);
        k.load(MemTy::F32, Ty::F32, at, 1);
    });
    emulated("are not aligned", |k, t| {
        let at = k.element(0, t, 4);
        k.load(MemTy::F32, Ty::F32, at, 2);
    });
    emulated("is read before it is written", |k, t| {
        k.shared(128);
        let from = slot(k, t);
        k.load(MemTy::F32, Ty::F32, from, 1);
    });
}

#[test]
fn the_verifier_knows_types_order_and_uniformity() {
    verified("a barrier that not all threads may reach", |k, t| {
        let zero = k.int(0, Ty::U32);
        let first = k.compare(Cmp::Eq, t, zero);
        k.when(first, Writer::barrier);
    });
    verified("is read before it is assigned", |k, t| {
        let zero = k.int(0, Ty::U32);
        let first = k.compare(Cmp::Eq, t, zero);
        let mut inner = t;
        k.when(first, |k| inner = k.op(Ty::U32, Op::Add, &[t, t]));
        k.op(Ty::U32, Op::Add, &[inner, t]);
    });
    verified("an operand is U32 instead of F32", |k, t| {
        k.op(Ty::F32, Op::Add, &[t, t]);
    });
    verified("an element of F32 in a register of F64", |k, t| {
        let at = k.element(0, t, 4);
        k.load(MemTy::F32, Ty::F64, at, 1);
    });
    verified("there is no parameter 3", |k, t| {
        k.element(3, t, 4);
    });
}

#[test]
fn only_what_no_kernel_writes_is_read_early() {
    let text = |constant: &[u32], param: u32| {
        let arch = wpk_kernels::arch::Arch::named("sm_90a").expect("an architecture");
        let mut k = Writer::for_arch(arch);
        constant.iter().for_each(|&p| k.constant_param(p));
        let at = k.int(0, Ty::S32);
        let from = k.element(param, at, 4);
        let x = k.load(MemTy::F32, Ty::F32, from, 1);
        k.wait_dependencies();
        let to = k.element(1, at, 4);
        k.store(MemTy::F32, to, &x);
        k.finish("planted", 2, 32, 1).verify().join("; ")
    };
    assert_eq!(text(&[0], 0), "");
    assert!(text(&[], 0).contains("before the kernels that this one depends on have ended"));
    assert!(text(&[0], 1).contains("before the kernels that this one depends on have ended"));
}

/// Two blocks, each of which sends its number to the second; what it announces, and whether it waits.
fn peers(bytes: u32, waits: [bool; 2]) -> Kernel {
    let mut k = Writer::new();
    k.cluster(2);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let (sums, barrier) = (k.shared(256), k.shared(8));
    let zero = k.int(0, Ty::U32);
    let first = k.compare(Cmp::Eq, thread, zero);
    k.when(first, |k| {
        k.init_barrier(barrier, 1);
        k.fence_barriers();
        k.expect_bytes(barrier, bytes);
    });
    if waits[0] {
        k.arrive_cluster();
        k.wait_cluster();
    }
    let (own, place) = (k.scaled(block, 128), k.scaled(thread, 4));
    let (from, to) = (k.add(sums, place), k.add(sums, own));
    let to = k.add(to, place);
    let (to, there) = (k.peer(to, 1), k.peer(barrier, 1));
    k.send(to, 0, &[block], there);
    if waits[1] {
        let second = k.compare(Cmp::Lt, zero, block);
        let (parity, last) = (zero, k.int(1, Ty::U32));
        let parity = k.select(second, parity, last);
        k.await_bytes(barrier, parity);
    }
    let second = k.compare(Cmp::Lt, zero, block);
    k.when(second, |k| {
        k.load(MemTy::B32, Ty::U32, from, 1);
    });
    k.finish("planted", 1, 32, 2)
}

#[test]
fn what_blocks_of_a_cluster_send_is_waited_for() {
    let run = |kernel: Kernel| {
        assert_eq!(kernel.verify(), Vec::<String>::new());
        emulate::run_with(&kernel, &mut [vec![0; 128]], emulate::Moment::Latest, 0)
    };
    assert_eq!(run(peers(256, [true, true])), Ok(()));
    let faults = [
        (256, [false, true], "may not have begun"),
        (256, [true, false], "is read while it is copied to"),
        (260, [true, true], "a wait that does not end"),
    ];
    for (bytes, waits, expected) in faults {
        let found = run(peers(bytes, waits)).expect_err("a fault");
        assert!(found.contains(expected), "{found}");
    }
}
