//! The plan as text.

use crate::{ModelArgs, Outcome};

pub fn explain(args: &ModelArgs) -> Outcome {
    let compiled = args.model().build()?;
    print!("{}", compiled.program);
    for remark in &compiled.remarks {
        println!("note: {remark}");
    }
    Ok(())
}
