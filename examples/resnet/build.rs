//! Compiles the model that `export.py` writes, with a plan for each batch size.

use std::path::Path;

fn main() -> Result<(), String> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet.onnx");
    println!("cargo::rustc-check-cfg=cfg(exported)");
    println!("cargo::rerun-if-changed=models");
    if !model.exists() {
        // The example builds without the model, and says how to get it.
        return Ok(());
    }
    println!("cargo::rustc-cfg=exported");
    // Problems are told to cargo one by one; the build fails with them.
    wpk_build::Model::new(model)
        .name("ResNet")
        .dim("batch", [1, 4])
        .compile()
        .map(drop)
        .map_err(|_| "the model cannot be compiled".to_owned())
}
