//! From an ONNX model to a graph of core operations, with everything that is wrong collected.

use crate::diag::{Diag, Diags, Origin};
use crate::graph::{Builder, Def, Graph, Literal, ValueId};
use crate::onnx::{Attributes, Source, dtype, literal, proto};
use crate::ops::{self, Context};
use std::collections::{BTreeMap, BTreeSet};
use wpk_plan::{Binary, DType};

/// What the user fixes at build time.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Values of symbolic dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Extents of inputs whose model leaves them open.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that are given as images of bytes, channels last, with the mean and the standard deviation of each channel by which
    /// they are normalized once their values lie between 0 and 1.
    pub images: BTreeMap<String, (Vec<f64>, Vec<f64>)>,
    /// Inputs that become constants.
    pub bind: BTreeMap<String, Literal>,
}

/// Imports the model's graph; every problem found is in the error.
pub fn import(source: &Source, options: &Options) -> Result<Graph, Diags> {
    let Some(graph) = source.model.graph.as_ref() else { return Err(Diag::new("the file holds no ONNX graph").into()) };
    let importer = Importer {
        source,
        options,
        b: Builder::default(),
        names: BTreeMap::new(),
        broken: BTreeSet::new(),
        diags: vec![],
        unsupported: BTreeMap::new(),
    };
    importer.run(graph)
}

/// The version of the default operator set.
pub fn opset(model: &proto::Model) -> i64 {
    model.opset_import.iter().filter(|o| o.domain.is_empty() || o.domain == "ai.onnx").map(|o| o.version).max().unwrap_or(1)
}

struct Importer<'a> {
    source: &'a Source,
    options: &'a Options,
    b: Builder,
    names: BTreeMap<&'a str, ValueId>,
    /// Values whose definition failed, so that what reads them is not reported too.
    broken: BTreeSet<&'a str>,
    diags: Vec<Diag>,
    /// Unsupported operators with the nodes that use them.
    unsupported: BTreeMap<String, Vec<String>>,
}

impl<'a> Importer<'a> {
    fn run(mut self, graph: &'a proto::Graph) -> Result<Graph, Diags> {
        if !graph.sparse_initializer.is_empty() {
            self.diags.push(Diag::new("sparse initializers are not supported").help("export dense weights"));
        }
        for tensor in &graph.initializer {
            match literal(self.source, tensor) {
                Ok(l) => {
                    let id = self.b.constant(l);
                    self.names.insert(&tensor.name, id);
                }
                Err(diag) => {
                    self.diags.push(diag);
                    self.broken.insert(&tensor.name);
                }
            }
        }
        for info in &graph.input {
            if let Err(diag) = self.input(info) {
                self.diags.push(diag);
                self.broken.insert(&info.name);
            }
        }
        let version = opset(&self.source.model);
        for (index, node) in graph.node.iter().enumerate() {
            self.node(index, node, version);
        }
        for info in &graph.output {
            match self.names.get(info.name.as_str()) {
                Some(&id) if matches!(self.b.graph.value(id).def, Def::Sequence(_)) => {
                    self.diags
                        .push(Diag::new(format!("output {:?} is a sequence", info.name)).help("give its tensors as outputs of their own"));
                }
                Some(&id) => self.b.graph.outputs.push((info.name.clone(), id)),
                None if self.broken.contains(info.name.as_str()) => {}
                None => self.diags.push(
                    Diag::new(format!("output {:?} is not defined by any node", info.name))
                        .help("the file is damaged: export the model again"),
                ),
            }
        }
        if graph.output.is_empty() {
            self.diags.push(Diag::new("the model has no outputs"));
        }
        for (op, nodes) in &self.unsupported {
            let shown = nodes.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = if nodes.len() > 5 { format!(" and {} more", nodes.len() - 5) } else { String::new() };
            self.diags.push(Diag::new(format!("operator {op} is not supported")).note("nodes", format!("{shown}{more} (opset {version})")));
        }
        self.b.graph.sweep();
        if self.diags.is_empty() { Ok(self.b.graph) } else { Err(Diags(self.diags)) }
    }

    fn input(&mut self, info: &'a proto::ValueInfo) -> Result<(), Diag> {
        let name = info.name.as_str();
        // Before IR version 4 initializers are listed as inputs too.
        if self.names.contains_key(name) || self.broken.contains(name) {
            return Ok(());
        }
        if let Some(bound) = self.options.bind.get(name) {
            let id = self.b.constant(bound.clone());
            self.names.insert(name, id);
            return Ok(());
        }
        let fail = |what: String| Diag::new(format!("input {name:?}: {what}"));
        let Some(tensor) = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
            return Err(fail("only tensors are supported, not sequences, maps or optional values".to_owned()));
        };
        let dtype = dtype(tensor.elem_type).map_err(|t| fail(format!("elements of {t} type are not supported")))?;
        if dtype == DType::Text {
            return Err(fail("text cannot be given at run time".to_owned()).help("make it a constant: `.bind(input, Literal::text(...))`"));
        }
        let shape = match (self.options.shapes.get(name), &tensor.shape) {
            (Some(shape), _) => shape.clone(),
            (None, Some(shape)) => shape.dim.iter().enumerate().map(|(d, dim)| self.dim(name, d, dim)).collect::<Result<_, _>>()?,
            (None, None) => return Err(fail("the model states no extents".to_owned()).help("give them with `.shape(input, &[...])`")),
        };
        let bytes = shape.iter().try_fold(dtype.bytes(), |n, &d: &usize| n.checked_mul(d.max(1)));
        if bytes.is_none_or(|b| b > 1 << 40) {
            return Err(fail(format!("{dtype}{shape:?} is too large")));
        }
        let id = match self.options.images.get(name) {
            None => self.b.input(name, dtype, &shape),
            Some((mean, deviation)) => {
                let [n, c, h, w] = shape[..] else { return Err(fail(format!("{dtype}{shape:?} is no image: four dimensions are needed"))) };
                if [mean.len(), deviation.len()] != [c, c] || deviation.contains(&0.0) || !dtype.is_float() {
                    return Err(fail(format!("{dtype}{shape:?} does not take images of {} channels", mean.len()))
                        .help("give a mean and a standard deviation other than 0 for every channel of a floating input"));
                }
                self.image(name, dtype, [n, h, w, c], (mean, deviation)).map_err(fail)?
            }
        };
        self.names.insert(name, id);
        Ok(())
    }

    /// An image of bytes as the model takes it.
    fn image(&mut self, name: &str, dtype: DType, shape: [usize; 4], (mean, deviation): (&[f64], &[f64])) -> Result<ValueId, String> {
        let bytes = self.b.input(name, DType::U8, &shape);
        let planes = self.b.transpose(bytes, &[0, 3, 1, 2])?;
        let by_channel = |b: &mut Builder, f: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..mean.len()).map(f).collect();
            b.constant(Literal::floats(DType::F32, &[mean.len(), 1, 1], &values))
        };
        let scale = by_channel(&mut self.b, &|c| 1.0 / (255.0 * deviation[c]));
        let shift = by_channel(&mut self.b, &|c| -mean[c] / deviation[c]);
        self.b.map(&[planes, scale, shift], |f, x| {
            let value = f.cast(x[0], DType::F32);
            let scaled = f.binary(Binary::Mul, value, x[1]);
            let normal = f.binary(Binary::Add, scaled, x[2]);
            f.cast(normal, dtype)
        })
    }

    fn dim(&self, input: &str, d: usize, dim: &proto::Dim) -> Result<usize, Diag> {
        let fail = |what: String| Diag::new(format!("input {input:?}: dimension {d} {what}"));
        match (&dim.dim_value, &dim.dim_param) {
            (_, Some(name)) if !name.is_empty() => {
                let known = self.options.dims.get(name).copied();
                known.ok_or_else(|| {
                    fail(format!("is the symbol {name:?}"))
                        .help(format!("give its value: `dims = {{ {name}: [1] }}` or `.dim({name:?}, [1])`"))
                })
            }
            (Some(n), _) => usize::try_from(*n).map_err(|_| fail(format!("is {n}"))),
            _ => Err(fail("is not stated".to_owned()).help(format!("give the extents with `.shape({input:?}, &[...])`"))),
        }
    }

    fn node(&mut self, index: usize, node: &'a proto::Node, version: i64) {
        let poison = |s: &mut Self| s.broken.extend(node.output.iter().map(String::as_str));
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        let origin = Origin::node(&node.name, &node.op_type, index);
        let name = if domain.is_empty() { node.op_type.clone() } else { format!("{domain}::{}", node.op_type) };
        let Some(op) = ops::find(&name) else {
            self.unsupported.entry(name).or_default().push(origin.to_string());
            return poison(self);
        };
        let mut inputs = vec![];
        for name in &node.input {
            match self.names.get(name.as_str()) {
                Some(&id) => inputs.push(Some(id)),
                None if name.is_empty() => inputs.push(None),
                None => {
                    if !self.broken.contains(name.as_str()) {
                        let diag = Diag::new(format!("{}: input {name:?} is not defined before it", node.op_type));
                        self.diags.push(
                            self.describe(diag, index, node, version).help("the graph has a cycle or lost a node: export the model again"),
                        );
                    }
                    return poison(self);
                }
            }
        }
        let duplicate =
            node.output.iter().find(|o| !o.is_empty() && (self.names.contains_key(o.as_str()) || self.broken.contains(o.as_str())));
        if let Some(name) = duplicate {
            let diag = Diag::new(format!("{}: output {name:?} is defined twice", node.op_type));
            self.diags.push(self.describe(diag, index, node, version));
            return;
        }
        self.b.origin = origin;
        let wanted = node.output.iter().map(|o| !o.is_empty()).collect();
        let (attrs, names) = (Attributes::new(node), &self.names);
        let mut cx = Context { b: &mut self.b, attrs, opset: version, inputs, wanted, names, source: self.source };
        let result = (op.import)(&mut cx);
        match result {
            Ok(outputs) => {
                let missing = node.output.iter().skip(outputs.len()).any(|o| !o.is_empty());
                for (name, id) in node.output.iter().zip(outputs).filter(|o| !o.0.is_empty()) {
                    self.names.insert(name, id);
                }
                if missing {
                    let diag = Diag::new(format!("{}: more outputs are used than wpk computes", node.op_type));
                    self.diags.push(self.describe(diag, index, node, version));
                    poison(self);
                }
            }
            Err(refusal) => {
                let diag = Diag::new(format!("{}: {}", node.op_type, refusal.message));
                let mut diag = self.describe(diag, index, node, version);
                diag.help = refusal.help;
                self.diags.push(diag);
                poison(self);
            }
        }
    }

    /// Adds the node and its inputs to a message.
    fn describe(&self, diag: Diag, index: usize, node: &proto::Node, version: i64) -> Diag {
        let mut diag = diag.note("node", format!("#{index} {:?} (opset {version})", node.name));
        for (i, name) in node.input.iter().enumerate().filter(|n| !n.1.is_empty()) {
            if let Some(&id) = self.names.get(name.as_str()) {
                let producer = self.b.graph.node(id).map_or_else(String::new, |n| format!(" from {}", n.origin));
                let constant = if self.b.graph.literal(id).is_some() { " constant" } else { "" };
                diag = diag.note("input", format!("{i}: {}{:?}{constant} {name:?}{producer}", self.b.dtype(id), self.b.shape(id)));
            }
        }
        diag
    }
}

/// The element type and extents that a model states for its inputs, for reports.
pub fn describe_input(info: &proto::ValueInfo) -> String {
    let Some(t) = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else { return "not a tensor".to_owned() };
    let dims: Vec<String> = t
        .shape
        .iter()
        .flat_map(|s| &s.dim)
        .map(|d| match (&d.dim_param, d.dim_value) {
            (Some(p), _) if !p.is_empty() => p.clone(),
            (_, Some(n)) => n.to_string(),
            _ => "?".to_owned(),
        })
        .collect();
    let name = dtype(t.elem_type).map_or_else(|e| e, |t: DType| t.name().to_owned());
    format!("{name}[{}]", dims.join(", "))
}
