//! The plan as text.

use crate::{ModelArgs, Outcome};

pub fn explain(args: &ModelArgs) -> Outcome {
    let compiled = args.model().build()?;
    print!("{}", compiled.program);
    for choice in &compiled.choices {
        let mark = if choice.chosen { "chosen" } else { "considered" };
        println!("cover {mark}: {}, estimated {:.3} ms", choice.name, choice.cost / 1e6);
    }
    for remark in &compiled.remarks {
        println!("note: {remark}");
    }
    Ok(())
}
