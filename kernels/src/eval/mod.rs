//! The naive evaluator.

mod attention;
mod chain;
mod contraction;
mod index;
mod map;
mod reduce;
mod rows;
pub mod scalar;
mod tensor;
mod window;

pub use tensor::{Data, Rounding, Tensor};
use wpk_plan::Problem;
use wpk_plan::problem::Operand;

/// Computes a problem on flat buffers, one per input; the operands' views say which elements they hold.
///
/// Returns one flat buffer per output. Indices outside their dimension wrap or clamp, they never panic.
pub fn eval(problem: &Problem, inputs: &[&Tensor], rounding: Rounding) -> Vec<Tensor> {
    let outputs = problem.outputs();
    let mut out: Vec<Tensor> = outputs.iter().map(|o| Tensor::zeros(o.dtype, o.view.span().map_or(0, |s| s.1))).collect();
    match problem {
        Problem::Contraction(p) if p.given != p.dtype => {
            let mut first = Tensor { dtype: p.dtype, ..inputs[0].clone() };
            first.round(rounding);
            contraction::eval(p, &[&[&first], &inputs[1..]].concat(), &mut out);
        }
        Problem::Contraction(p) => contraction::eval(p, inputs, &mut out),
        Problem::Map(p) => map::map(p, inputs, &mut out),
        Problem::Move(p) => map::copy(p, inputs, &mut out),
        Problem::Reduce(p) => reduce::eval(p, inputs, &mut out),
        Problem::Window(p) => window::eval(p, inputs, &mut out),
        Problem::Softmax(p) => rows::softmax(p, inputs, &mut out),
        Problem::Normalize(p) => rows::normalize(p, inputs, &mut out),
        Problem::Attention(p) => attention::eval(p, inputs, &mut out),
        Problem::Gather(p) => index::gather(p, inputs, &mut out),
        Problem::GatherElements(p) => index::gather_elements(p, inputs, &mut out),
        Problem::GatherNd(p) => index::gather_nd(p, inputs, &mut out),
        Problem::ScatterElements(p) => index::scatter_elements(p, inputs, &mut out),
        Problem::ScatterNd(p) => index::scatter_nd(p, inputs, &mut out),
        Problem::Resample(p) => index::resample(p, inputs, &mut out),
        Problem::Scan(p) => index::scan(p, inputs, &mut out),
        Problem::TopK(p) => index::top_k(p, inputs, &mut out),
        Problem::ArgReduce(p) => index::arg_reduce(p, inputs, &mut out),
        Problem::Chain(p) => chain::eval(p, inputs, &mut out, rounding),
        // Only its function knows.
        Problem::Custom(_) => out.iter_mut().for_each(Tensor::unknown),
    }
    out.iter_mut().for_each(|t| t.round(rounding));
    out
}

/// The elements an operand's view names, in row-major order.
fn read(tensor: &Tensor, operand: &Operand) -> Tensor {
    tensor.select(operand.view.offsets())
}
