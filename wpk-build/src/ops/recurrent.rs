//! What LSTM, GRU and RNN share: directions, layouts, initial states, and the steps, one after another.

use super::mat_mul::matmul;
use super::{Context, Imported, Refusal};
use crate::graph::{Op, ValueId};
use wpk_plan::{Binary, ScalarFn, Unary};

/// Most steps that are unrolled into the graph.
const STEPS: usize = 4096;

/// Adds a function of one value.
pub(super) type Activation = fn(&mut ScalarFn, u16) -> u16;

/// One direction of a recurrent layer.
pub(super) struct Cell {
    /// Units.
    pub hidden: usize,
    /// Weights of the state by gate, for products from the right: `[hidden, gates * hidden]`.
    pub recurrent: ValueId,
    /// Biases of the state: `[gates * hidden]`.
    pub bias: Option<ValueId>,
    /// Peephole weights, `[3 * hidden]`.
    pub peepholes: Option<ValueId>,
    /// The activations of gates and states.
    pub activations: Vec<Activation>,
    /// Bound of what activations get.
    clip: Option<f64>,
}

impl Cell {
    /// Adds an activation to a function, its argument bounded.
    pub fn activate(&self, f: &mut ScalarFn, i: usize, x: u16) -> u16 {
        let t = f.dtype(x);
        let x = match self.clip {
            Some(clip) => {
                let (low, high) = (f.constant(-clip, t), f.constant(clip, t));
                let x = f.binary(Binary::Max, x, low);
                f.binary(Binary::Min, x, high)
            }
            None => x,
        };
        self.activations[i](f, x)
    }

    /// The state's part of every gate, with its bias.
    pub fn state_gates(&self, cx: &mut Context<'_>, h: ValueId) -> Result<ValueId, Refusal> {
        let y = matmul(cx, h, self.recurrent)?;
        Ok(match self.bias {
            Some(bias) => cx.b.binary(Binary::Add, y, bias)?,
            None => y,
        })
    }

    /// Gate `i` of values `[batch, gates * hidden]`, or of biases.
    pub fn gate(&self, cx: &mut Context<'_>, x: ValueId, i: usize) -> Result<ValueId, Refusal> {
        let last = cx.shape(x).len() - 1;
        Ok(cx.b.range(x, last, i * self.hidden, self.hidden)?)
    }
}

/// The next state and the next memory of a cell, for the input's part of the gates, the state and the memory.
type Step = fn(&mut Context<'_>, &Cell, ValueId, ValueId, ValueId) -> Result<(ValueId, ValueId), Refusal>;

/// A recurrent layer of so many gates. `defaults` are the activations of a direction; the outputs are all states, the last state and the
/// last memory.
pub(super) fn recurrent(cx: &mut Context<'_>, gates: usize, defaults: &[&str], step: Step) -> Imported {
    let batch_first = cx.attrs.int("layout").unwrap_or(0) == 1;
    let mut x = cx.input(0)?;
    if batch_first {
        x = cx.b.transpose(x, &[1, 0, 2])?;
    }
    let [steps, batch, width] = cx.shape(x)[..] else { return Err("the input does not have three dimensions".into()) };
    if steps == 0 || steps > STEPS {
        return Err(format!("{steps} steps cannot be unrolled (1 to {STEPS} can)").into());
    }
    if let Some(lengths) = cx.constant(4, "sequence_lens")?
        && lengths.to_ints().iter().any(|&n| n != steps as i64)
    {
        return Err(format!("sequences shorter than {steps} steps are not supported").into());
    }
    let backward = match cx.attrs.text("direction").as_deref().unwrap_or("forward") {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return cx.unsupported("direction", other),
    };
    let (weights, recurrent) = (cx.input(1)?, cx.input(2)?);
    let hidden = cx.shape(recurrent).last().copied().unwrap_or(0);
    let expected = [(weights, [backward.len(), gates * hidden, width]), (recurrent, [backward.len(), gates * hidden, hidden])];
    for (v, extents) in expected {
        if cx.shape(v) != extents {
            return Err(format!("weights of {:?} should be {extents:?}", cx.shape(v)).into());
        }
    }
    let activations = activations(cx, defaults, backward.len())?;
    let (mut all, mut last, mut memories) = (vec![], vec![], vec![]);
    for (d, &backward) in backward.iter().enumerate() {
        let own = |cx: &mut Context<'_>, v: ValueId, extents: &[usize]| -> Result<ValueId, Refusal> {
            let v = cx.b.range(v, 0, d, 1)?;
            Ok(cx.b.reshape(v, extents)?)
        };
        let turned = |cx: &mut Context<'_>, v: ValueId, rows: usize| -> Result<ValueId, Refusal> {
            let v = own(cx, v, &[gates * hidden, rows])?;
            Ok(cx.b.transpose(v, &[1, 0])?)
        };
        let (into, recurrent) = (turned(cx, weights, width)?, turned(cx, recurrent, hidden)?);
        let flat = cx.b.reshape(x, &[steps * batch, width])?;
        let mut gates_in = matmul(cx, flat, into)?;
        let mut bias = None;
        if let Some(both) = cx.optional(3) {
            let both = own(cx, both, &[2, gates * hidden])?;
            let mut half = |i| cx.b.range(both, 0, i, 1).and_then(|v| cx.b.reshape(v, &[gates * hidden]));
            let (first, second) = (half(0)?, half(1)?);
            gates_in = cx.b.binary(Binary::Add, gates_in, first)?;
            bias = Some(second);
        }
        let peepholes = match cx.optional(7) {
            Some(p) => Some(own(cx, p, &[3 * hidden])?),
            None => None,
        };
        let activations = activations[d * defaults.len()..][..defaults.len()].to_vec();
        let cell = Cell { hidden, recurrent, bias, peepholes, activations, clip: cx.attrs.float("clip") };
        let initial = |cx: &mut Context<'_>, i: usize| -> Result<ValueId, Refusal> {
            let Some(v) = cx.optional(i) else {
                let zero = cx.b.scalar(0.0, cx.dtype(x));
                return Ok(cx.b.one(Op::Expand(vec![batch, hidden]), &[zero])?);
            };
            let v = if batch_first { cx.b.transpose(v, &[1, 0, 2])? } else { v };
            own(cx, v, &[batch, hidden])
        };
        let (mut h, mut memory) = (initial(cx, 5)?, initial(cx, 6)?);
        let mut states = vec![];
        for t in 0..steps {
            let t = if backward { steps - 1 - t } else { t };
            let now = cx.b.range(gates_in, 0, t * batch, batch)?;
            (h, memory) = step(cx, &cell, now, h, memory)?;
            states.push(cx.b.reshape(h, &[1, 1, batch, hidden])?);
        }
        if backward {
            states.reverse();
        }
        all.push(cx.b.one(Op::Concat(0), &states)?);
        last.push(cx.b.reshape(h, &[1, batch, hidden])?);
        memories.push(cx.b.reshape(memory, &[1, batch, hidden])?);
    }
    let mut y = cx.b.one(Op::Concat(1), &all)?;
    let mut ends = [cx.b.one(Op::Concat(0), &last)?, cx.b.one(Op::Concat(0), &memories)?];
    if batch_first {
        y = cx.b.transpose(y, &[2, 0, 1, 3])?;
        for end in &mut ends {
            *end = cx.b.transpose(*end, &[1, 0, 2])?;
        }
    }
    Ok(vec![y, ends[0], ends[1]])
}

/// The activations of every direction, by name.
fn activations(cx: &Context<'_>, defaults: &[&str], directions: usize) -> Result<Vec<Activation>, Refusal> {
    let mut names = cx.attrs.texts("activations");
    if names.is_empty() {
        names = defaults.iter().map(|&n| n.to_owned()).cycle().take(defaults.len() * directions).collect();
    }
    if names.len() != defaults.len() * directions {
        return Err(format!("{} activations are not {} for each direction", names.len(), defaults.len()).into());
    }
    let find = |name: &String| -> Result<Activation, Refusal> {
        Ok(match name.to_lowercase().as_str() {
            "sigmoid" => |f, x| f.unary(Unary::Sigmoid, x),
            "tanh" => |f, x| f.unary(Unary::Tanh, x),
            "softplus" => |f, x| f.unary(Unary::Softplus, x),
            "relu" => |f, x| {
                let zero = f.constant(0.0, f.dtype(x));
                f.binary(Binary::Max, x, zero)
            },
            _ => return cx.unsupported("activation", name),
        })
    };
    names.iter().map(find).collect()
}
