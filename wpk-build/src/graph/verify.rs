//! Checks between passes.

use super::{Def, Graph, shape};

impl Graph {
    /// Every fault: values that are not defined before use, types that do not follow from the operation.
    pub fn verify(&self) -> Vec<String> {
        let mut faults = vec![];
        let mut defined = vec![false; self.values.len()];
        for (i, value) in self.values.iter().enumerate() {
            defined[i] = !matches!(value.def, Def::Node(..));
            if let Def::Const(l) = &value.def
                && (l.dtype != value.dtype || l.shape != value.shape || l.bytes.len() != l.len() * l.dtype.bytes())
            {
                faults.push(format!("constant v{i} does not hold {}{:?}", value.dtype, value.shape));
            }
        }
        for (n, node) in self.nodes.iter().enumerate() {
            let mut say = |what: String| faults.push(format!("node {n} ({} from {}): {what}", node.op.name(), node.origin));
            for i in node.inputs.iter().filter(|i| !defined[i.0 as usize]) {
                say(format!("reads v{} before it is defined", i.0));
            }
            let inputs: Vec<_> = node.inputs.iter().map(|&i| (self.dtype(i), self.shape(i).to_vec())).collect();
            match shape::infer(&node.op, &inputs) {
                Err(why) => say(why),
                Ok(types) => {
                    let found: Vec<_> = node.outputs.iter().map(|&o| (self.dtype(o), self.shape(o).to_vec())).collect();
                    if types != found {
                        say(format!("is typed {found:?} instead of {types:?}"));
                    }
                }
            }
            for (k, o) in node.outputs.iter().enumerate() {
                if !matches!(self.value(*o).def, Def::Node(m, j) if m == n && j == k) {
                    say(format!("does not define its output v{}", o.0));
                }
                defined[o.0 as usize] = true;
            }
        }
        for (name, id) in self.outputs.iter().filter(|(_, id)| !defined[id.0 as usize]) {
            faults.push(format!("output {name} is v{}, which nothing defines", id.0));
        }
        faults
    }
}
