//! GPU plans executed in the emulator, step by step.

use std::collections::BTreeMap;
use wpk_build::Compiled;
use wpk_kernels::arch::Arch;
use wpk_kernels::emulate;
use wpk_kernels::family::heuristic;
use wpk_plan::{Arg, Kernel, Place};

/// The memory of a plan: every place that an argument may name.
struct Memory {
    arena: Vec<u8>,
    weights: Vec<u8>,
    sections: Vec<usize>,
    ports: BTreeMap<Place, Vec<u8>>,
}

impl Memory {
    fn bytes(&mut self, arg: &Arg) -> Result<&mut [u8], String> {
        match arg.place {
            Place::Arena(at) => Ok(&mut self.arena[at..at + arg.bytes]),
            Place::Weight(i) => {
                let at = self.sections[i as usize];
                Ok(&mut self.weights[at..at + arg.bytes])
            }
            place => self.ports.get_mut(&place).map(Vec::as_mut_slice).ok_or_else(|| format!("{place:?} is no port")),
        }
    }
}

/// The results of the first GPU plan of a model for the bytes of its inputs.
///
/// # Errors
/// Where there is no such plan, it holds another kernel than its problem gives, or the emulator finds a fault.
pub fn run(compiled: &Compiled, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
    let [gpu, ..] = &compiled.program.gpus[..] else { return Err(format!("no GPU plan: {:?}", compiled.refused)) };
    let arch = Arch::named(&gpu.arch).ok_or("an unknown architecture")?;
    let plan = &gpu.plans[0];
    let mut memory = Memory {
        arena: vec![0; plan.arena],
        weights: compiled.blob.to_bytes(),
        sections: compiled.program.sections.iter().map(|s| s.offset).collect(),
        ports: BTreeMap::new(),
    };
    for (i, bytes) in (0..).zip(inputs) {
        memory.ports.insert(Place::Input(i), bytes.clone());
    }
    for (i, p) in (0..).zip(&plan.outputs) {
        memory.ports.insert(Place::Output(i), vec![0xa5; p.bytes()]);
    }
    for step in plan.body.steps() {
        let Kernel::Gpu(problem, layout, module) = &step.kernel else { return Err(format!("{step} is no launch")) };
        let made = heuristic(problem, *layout, arch).map_err(|e| e.to_string())?.kernel;
        let module = &gpu.modules[*module as usize];
        if made.text(arch) != module.text {
            return Err(format!("{step}: the plan holds another kernel"));
        }
        let arguments = step.arguments(module);
        let mut buffers = arguments.iter().map(|a| memory.bytes(a).map(|b| b.to_vec())).collect::<Result<Vec<_>, _>>()?;
        emulate::run(&made, &mut buffers).map_err(|e| format!("{step}: {e}"))?;
        for (arg, bytes) in arguments.iter().zip(&buffers).skip(problem.inputs().len()) {
            memory.bytes(arg)?.copy_from_slice(bytes);
        }
    }
    (0..).zip(&plan.outputs).map(|(i, _)| memory.ports.remove(&Place::Output(i)).ok_or_else(|| "a lost output".to_owned())).collect()
}
