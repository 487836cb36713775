//! Models as text, a statement a line:
//!
//! ```text
//! opset 17
//! input x f32 1x3x8x8
//! const w f32 4x3x3x3 random
//! const axes i64 1 = 1
//! y = Conv(x, w) pads=[1,1,1,1] group=1 auto_pad="NOTSET" alpha=0.5
//! output y
//! ```

use prost::Message;
use wpk_build::onnx::proto;

/// Parses a model; a malformed test is a bug of the test, so it panics with the line.
pub fn model(text: &str) -> proto::Model {
    let mut graph = proto::Graph::default();
    let mut version = 17;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "opset" => version = words[1].parse().unwrap_or_else(|_| panic!("{line}")),
            "input" => graph.input.push(value(words[1], words[2], words[3])),
            "output" => graph.output.push(proto::ValueInfo { name: words[1].to_owned(), r#type: None }),
            "const" => graph.initializer.push(constant(&words, line)),
            _ => graph.node.push(node(line)),
        }
    }
    proto::Model {
        ir_version: 8,
        opset_import: vec![proto::OperatorSet { domain: String::new(), version }],
        graph: Some(graph),
        ..Default::default()
    }
}

/// The same, encoded.
pub fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::from(model(text).encode_to_vec())
}

fn number(kind: &str) -> i32 {
    [
        "", "f32", "u8", "i8", "u16", "i16", "i32", "i64", "string", "bool", "f16", "f64", "u32", "u64", "", "", "bf16", "f8e4m3", "",
        "f8e5m2", "", "u4", "i4", "f4e2m1",
    ]
    .iter()
    .position(|k| *k == kind)
    .unwrap_or_else(|| panic!("{kind}")) as i32
}

fn extents(text: &str) -> Vec<&str> {
    if text == "-" { vec![] } else { text.split('x').collect() }
}

fn value(name: &str, kind: &str, shape: &str) -> proto::ValueInfo {
    let dim = |d: &str| match d.parse() {
        Ok(n) => proto::Dim { dim_value: Some(n), dim_param: None },
        Err(_) => proto::Dim { dim_value: None, dim_param: Some(d.to_owned()) },
    };
    let shape = proto::Shape { dim: extents(shape).into_iter().map(dim).collect() };
    let tensor = proto::TensorType { elem_type: number(kind), shape: Some(shape) };
    proto::ValueInfo { name: name.to_owned(), r#type: Some(proto::Type { tensor_type: Some(tensor), ..Default::default() }) }
}

fn constant(words: &[&str], line: &str) -> proto::Tensor {
    let dims: Vec<i64> = extents(words[3]).iter().map(|d| d.parse().unwrap_or_else(|_| panic!("{line}"))).collect();
    let len: i64 = dims.iter().product();
    let mut tensor = proto::Tensor { name: words[1].to_owned(), data_type: number(words[2]), dims, ..Default::default() };
    let values: Vec<f64> = match words.get(4) {
        Some(&"random") => {
            let values = random(words[1].bytes().map(u64::from).sum(), len as usize);
            // Integers of both signs, as many as bytes have; unsigned ones above zero.
            let (scale, shift) = match words[2] {
                "f32" | "f64" | "f16" => (1.0, 0.0),
                "f8e4m3" | "f8e5m2" => (120.0, 0.0),
                kind if kind.starts_with('u') => (127.0, 128.0),
                _ => (127.0, 0.0),
            };
            values.into_iter().map(|v| v * scale + shift).collect()
        }
        _ => words[5..].iter().map(|w| w.parse().unwrap_or_else(|_| panic!("{line}"))).collect(),
    };
    match words[2] {
        "f32" => tensor.float_data = values.iter().map(|&v| v as f32).collect(),
        "f64" => tensor.double_data = values,
        "i64" => tensor.int64_data = values.iter().map(|&v| v as i64).collect(),
        // By their bits, of four two in a byte.
        "f8e4m3" | "f8e5m2" => tensor.int32_data = values.iter().map(|&v| v.abs() as i32 | i32::from(v < 0.0) << 7).collect(),
        "i4" | "f4e2m1" => {
            let nibble = |v: &f64| *v as i8 as u8 & 15;
            let pairs = values.chunks(2).map(|two| nibble(&two[0]) | two.get(1).map_or(0, nibble) << 4);
            tensor.raw_data = pairs.collect::<Vec<u8>>().into();
        }
        _ => tensor.int32_data = values.iter().map(|&v| v as i32).collect(),
    }
    tensor
}

/// Seeded values between -1 and 1.
pub fn random(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// `a, b = Op(x, y) name=value ...`
fn node(line: &str) -> proto::Node {
    let (outputs, rest) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
    let (op, rest) = rest.split_once('(').unwrap_or_else(|| panic!("{line}"));
    let (inputs, attributes) = rest.split_once(')').unwrap_or_else(|| panic!("{line}"));
    let list =
        |text: &str| text.split(',').map(|n| n.trim().to_owned()).filter(|n| !text.trim().is_empty() || !n.is_empty()).collect::<Vec<_>>();
    proto::Node {
        input: list(inputs),
        output: list(outputs),
        op_type: op.trim().to_owned(),
        attribute: attributes.split_whitespace().map(attribute).collect(),
        ..Default::default()
    }
}

fn attribute(text: &str) -> proto::Attribute {
    let (name, value) = text.split_once('=').unwrap_or_else(|| panic!("{text}"));
    let mut a = proto::Attribute { name: name.to_owned(), ..Default::default() };
    if let Some(list) = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
        if list.contains('.') {
            a.floats = list.split(',').map(|n| n.parse().unwrap_or_else(|_| panic!("{text}"))).collect();
        } else {
            a.ints = list.split(',').map(|n| n.parse().unwrap_or_else(|_| panic!("{text}"))).collect();
        }
    } else if let Some(string) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
        a.s = bytes::Bytes::from(string.as_bytes().to_vec());
    } else if value.contains('.') {
        a.f = value.parse().unwrap_or_else(|_| panic!("{text}"));
    } else {
        a.i = value.parse().unwrap_or_else(|_| panic!("{text}"));
    }
    a
}
