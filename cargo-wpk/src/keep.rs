//! `cargo wpk keep`: which nodes must stay in single precision for a model to be accurate enough on a GPU.

use crate::run::{inputs, load, relative_error};
use crate::verify::expected;
use crate::{ModelArgs, Outcome};
use clap::Args;
use std::collections::BTreeSet;
use std::error::Error;
use wpk_kernels::Tensor;

#[derive(Args)]
pub struct KeepArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Largest relative error against float64 in the 2-norm
    #[arg(long)]
    error: f64,
}

/// Keeps the fewest of the first nodes that give the error: early roundings pass through, and are amplified by, all that follows.
pub fn keep(args: &KeepArgs) -> Outcome {
    if args.model.cuda().is_none() {
        return Err("name the GPU to run on: `--gpu sm_90a --device 0`; what is kept depends on what the device computes".into());
    }
    let compiled = args.model.model().build()?;
    let given = inputs(&args.model.model, &compiled.program.buckets[0].1.inputs)?;
    let expected = expected(&args.model.model, &compiled, &given)?;
    let names: Vec<String> = compiled.graphs[0].0.nodes.iter().flat_map(|n| n.origin.nodes.clone()).collect();
    let error = |kept: usize| -> Result<f64, Box<dyn Error>> {
        let mut model = args.model.clone();
        model.keep_fp32.extend(patterns(&names, kept));
        let error = measured(&model, &given, &expected)?;
        eprintln!("{kept} of {} nodes in fp32: relative error {error:.2e}", names.len());
        Ok(error)
    };
    let Some((kept, error)) = least(names.len(), args.error, error)? else {
        return Err(format!("single precision throughout errs by more than {:.1e}", args.error).into());
    };
    let list: Vec<String> = patterns(&names, kept).iter().map(|p| format!("{p:?}")).collect();
    let mut out = crate::output::Output::new(args.model.json);
    out.say("keep_fp32", serde_json::json!(patterns(&names, kept)), &format!("keep_fp32 = [{}]", list.join(", ")));
    let value = serde_json::json!({"kept": kept, "nodes": names.len(), "error": error});
    out.say("found", value, &format!("{kept} of {} nodes; relative error {error:.2e}", names.len()));
    Ok(())
}

/// The largest relative error of a model's results on its device.
fn measured(model: &ModelArgs, given: &[Tensor], expected: &[Tensor]) -> Result<f64, Box<dyn Error>> {
    let compiled = model.model().build()?;
    let outputs = &compiled.program.buckets[0].1.outputs;
    let bytes: Vec<Vec<u8>> = given.iter().map(Tensor::to_bytes).collect();
    let mut results: Vec<Vec<u8>> = outputs.iter().map(|p| vec![0; p.bytes()]).collect();
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    load(&compiled, model.cuda())?.run(0, &slices, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>())?;
    let errors =
        outputs.iter().zip(&results).zip(expected).map(|((port, found), y)| relative_error(&Tensor::from_bytes(port.dtype, found), y));
    Ok(errors.fold(0.0, f64::max))
}

/// The least number up to `most` that gives an error within the bound, by bisection, with its error.
fn least(
    most: usize,
    bound: f64,
    mut error: impl FnMut(usize) -> Result<f64, Box<dyn Error>>,
) -> Result<Option<(usize, f64)>, Box<dyn Error>> {
    let all = error(most)?;
    if all > bound {
        return Ok(None);
    }
    let none = error(0)?;
    if none <= bound {
        return Ok(Some((0, none)));
    }
    let (mut too_few, mut enough) = (0, (most, all));
    while enough.0 - too_few > 1 {
        let middle = (too_few + enough.0) / 2;
        match error(middle)? {
            e if e <= bound => enough = (middle, e),
            _ => too_few = middle,
        }
    }
    Ok(Some(enough))
}

/// Patterns that match the first `kept` names and no other: folders that are kept whole, then single names.
fn patterns(names: &[String], kept: usize) -> Vec<String> {
    let (kept, others) = names.split_at(kept);
    let whole = |name: &str| {
        let folders = name.match_indices('/').map(|(i, _)| &name[..=i]).filter(|f| f.len() > 1);
        folders.into_iter().find(|f| !others.iter().any(|o| o.starts_with(f))).map(|f| format!("{f}*"))
    };
    let mut seen = BTreeSet::new();
    let patterns = kept.iter().map(|name| whole(name).unwrap_or_else(|| name.clone()));
    patterns.filter(|p| seen.insert(p.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bisection_finds_the_least_that_suffices() {
        for wanted in 0..=9usize {
            let error = |kept: usize| Ok(if kept >= wanted { 0.5 } else { 2.0 });
            assert_eq!(least(9, 1.0, error).unwrap(), Some((wanted, 0.5)));
        }
        assert_eq!(least(9, 1.0, |_| Ok(2.0)).unwrap(), None);
    }

    #[test]
    fn patterns_match_what_is_kept_alone() {
        let names: Vec<String> =
            ["/stem/Conv", "/a/a.0/Conv", "/a/a.0/Relu", "/a/a.1/Conv", "/a/a.1/Relu", "/Flatten"].map(str::to_owned).into();
        let cases: [(usize, &[&str]); 5] = [
            (0, &[]),
            (1, &["/stem/*"]),
            (3, &["/stem/*", "/a/a.0/*"]),
            (4, &["/stem/*", "/a/a.0/*", "/a/a.1/Conv"]),
            (6, &["/stem/*", "/a/*", "/Flatten"]),
        ];
        for (kept, expected) in cases {
            assert_eq!(patterns(&names, kept), expected, "{kept}");
        }
    }
}
