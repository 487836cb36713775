//! The text form of graphs: one node a line.

use super::{Def, Graph, Op, ValueId};
use std::fmt::{self, Display, Formatter};
use wpk_plan::ScalarFn;

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let epilogue = |f: &mut Formatter<'_>, e: &Option<ScalarFn>| match e {
            Some(e) => write!(f, " then {e}"),
            None => Ok(()),
        };
        let letters = |labels: &[u8]| labels.iter().map(|l| char::from(b'a' + l % 26)).collect::<String>();
        f.write_str(self.name())?;
        match self {
            Self::Map { function, .. } => write!(f, " {function}"),
            Self::Reshape(_) | Self::Expand(_) | Self::BitCast(_) => Ok(()),
            Self::Transpose(perm) => write!(f, " {perm:?}"),
            Self::Slice { start, step, .. } => write!(f, " from {start:?} by {step:?}"),
            Self::Concat(axis) => write!(f, " axis {axis}"),
            Self::Pad { before, after, .. } => write!(f, " {before:?} {after:?}"),
            Self::Conv(c) => {
                write!(f, " stride {:?} pad {:?}", c.strides, c.pads)?;
                for (name, shown) in [("transposed", c.transposed), ("channels_last", c.channels_last)] {
                    if shown {
                        write!(f, " {name}")?;
                    }
                }
                if c.dilations.iter().any(|&d| d != 1) {
                    write!(f, " dilation {:?}", c.dilations)?;
                }
                if c.groups != 1 {
                    write!(f, " groups {}", c.groups)?;
                }
                epilogue(f, &c.epilogue)
            }
            Self::Contract { a, b, out, epilogue: e } => {
                write!(f, " {},{}->{}", letters(a), letters(b), letters(out))?;
                epilogue(f, e)
            }
            Self::Reduce { kind, axes } => {
                let axes: Vec<usize> = (0..axes.len()).filter(|&d| axes[d]).collect();
                write!(f, " {kind} {axes:?}")
            }
            Self::Window { kind, dims, .. } => {
                let list = |get: fn(&wpk_plan::problem::WindowDim) -> usize| dims.iter().map(get).collect::<Vec<_>>();
                write!(f, " {kind} {:?} stride {:?} pad {:?}", list(|d| d.size), list(|d| d.stride), list(|d| d.pad))
            }
            Self::Softmax { log } => f.write_str(if *log { " log" } else { "" }),
            Self::Normalize { kind, epsilon, residual, .. } => write!(f, " {kind} {epsilon:e}{}", if *residual { " of a sum" } else { "" }),
            Self::Attention { scale, .. } => write!(f, " scale {scale}"),
            Self::Gather { axis } | Self::GatherElements { axis } | Self::Resample { axis } => write!(f, " axis {axis}"),
            Self::GatherNd { batch } => write!(f, " batch {batch}"),
            Self::ScatterElements { axis, reduce } => write!(f, " axis {axis} {reduce}"),
            Self::ScatterNd { reduce } => write!(f, " {reduce}"),
            Self::Scan { axis, product, exclusive, reverse } => {
                write!(
                    f,
                    " axis {axis} {}{}{}",
                    if *product { "product" } else { "sum" },
                    if *exclusive { " exclusive" } else { "" },
                    if *reverse { " reverse" } else { "" }
                )
            }
            Self::TopK { axis, k, largest } => write!(f, " {k} {} axis {axis}", if *largest { "largest" } else { "smallest" }),
            Self::Custom(call) => write!(f, " {}", call.name),
            Self::ArgReduce { axis, largest, .. } => write!(f, " {} axis {axis}", if *largest { "max" } else { "min" }),
        }
    }
}

impl Graph {
    /// How text forms name a value: constants by their content or shape.
    fn label(&self, id: ValueId) -> String {
        let value = self.value(id);
        match &value.def {
            Def::Input(i) => self.inputs[*i].0.clone(),
            Def::Const(l) if l.len() == 1 => format!("{}:{}", l.scalar().unwrap_or(0.0), l.dtype),
            Def::Const(l) => format!("const {}{:?}", l.dtype, l.shape),
            Def::Node(..) => format!("v{}", id.0),
            Def::Sequence(values) => format!("sequence of {}", values.len()),
        }
    }
}

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, id) in &self.inputs {
            writeln!(f, "input {name}: {}{:?}", self.dtype(*id), self.shape(*id))?;
        }
        // Values are numbered by the line that defines them, so that text does not depend on what passes dropped.
        let mut names = vec![String::new(); self.values.len()];
        let mut next = 0;
        for node in &self.nodes {
            for o in &node.outputs {
                names[o.0 as usize] = format!("%{next}");
                next += 1;
            }
        }
        let name = |id: &ValueId| if names[id.0 as usize].is_empty() { self.label(*id) } else { names[id.0 as usize].clone() };
        for node in &self.nodes {
            let outputs: Vec<String> =
                node.outputs.iter().map(|o| format!("{}: {}{:?}", name(o), self.dtype(*o), self.shape(*o))).collect();
            let inputs: Vec<String> = node.inputs.iter().map(name).collect();
            writeln!(f, "{} = {}({})", outputs.join(", "), node.op, inputs.join(", "))?;
        }
        for (out, id) in &self.outputs {
            writeln!(f, "output {out} = {}", name(id))?;
        }
        Ok(())
    }
}
