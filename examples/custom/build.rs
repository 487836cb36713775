//! A model with an operator that ONNX does not know: its results from Rust, its arithmetic from C and CUDA C++.

use wpk_build::custom::{Custom, Signature};

fn main() -> Result<(), String> {
    // Snake: x + sin(a x)^2 / a, at every element.
    let snake = Custom::new("example", "Snake", |node| {
        let (dtype, shape) = node.input(0)?;
        let n: usize = shape.iter().product();
        let a = node.attributes.float("a").unwrap_or(1.0);
        let blocks = u32::try_from(n.div_ceil(128)).map_err(|e| e.to_string())?;
        Ok(Signature::new([(dtype, shape.to_vec())]).define("N", n).define("A", format!("{a:e}f")).launch(blocks, 128))
    });
    wpk_build::Model::new("models/snake.onnx")
        .name("Snake")
        .gpu("sm_80")
        .custom(snake.c("src/snake.c").cuda("src/snake.cu"))
        .compile()
        .map(drop)
        .map_err(|_| "the model cannot be compiled".to_owned())
}
