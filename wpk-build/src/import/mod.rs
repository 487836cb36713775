//! From an ONNX model to a graph of core operations, with everything that is wrong collected.

mod extents;
mod scopes;
mod subgraph;

use crate::custom::Custom;
use crate::diag::{Diag, Diags, Origin};
use crate::graph::{Bound, Builder, Def, Graph, Literal, Op, ValueId};
use crate::onnx::{Attributes, Source, dtype, literal, proto};
use crate::ops::{self, Context};
use extents::extent;
use scopes::{Name, Scopes};
use std::collections::BTreeMap;
use std::path::PathBuf;
use wpk_plan::{Binary, DType};

/// What the user fixes at build time.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Values of symbolic dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Those of them that are the most there can be, since the sizes of a request are inputs of their own: their number among the model's, and the
    /// least size.
    pub bounded: BTreeMap<String, (u32, usize)>,
    /// Extents of inputs whose model leaves them open.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that are given as images of bytes, channels last, with the mean and the standard deviation of each channel by which
    /// they are normalized once their values lie between 0 and 1.
    pub images: BTreeMap<String, (Vec<f64>, Vec<f64>)>,
    /// Inputs that become constants.
    pub bind: BTreeMap<String, Literal>,
    /// Operators of the user's own.
    pub custom: Vec<Custom>,
    /// The folder that the paths of their sources start at.
    pub base: PathBuf,
}

/// Imports the model's graph; every problem found is in the error.
pub fn import(source: &Source, options: &Options) -> Result<Graph, Diags> {
    let Some(graph) = source.model.graph.as_ref() else { return Err(Diag::new("the file holds no ONNX graph").into()) };
    let (mut b, mut state) = (Builder::default(), State::new(source, options));
    let mut importer = Importer { source, b: &mut b, state: &mut state };
    importer.model(graph, options);
    importer.borders(options);
    let State { mut diags, unsupported, version, .. } = state;
    for (op, nodes) in &unsupported {
        let shown = nodes.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if nodes.len() > 5 { format!(" and {} more", nodes.len() - 5) } else { String::new() };
        diags.push(Diag::new(format!("operator {op} is not supported")).note("nodes", format!("{shown}{more} (opset {version})")));
    }
    b.graph.sweep();
    if diags.is_empty() { Ok(b.graph) } else { Err(Diags(diags)) }
}

/// The version of the default operator set.
pub fn opset(model: &proto::Model) -> i64 {
    version(&model.opset_import)
}

fn version(sets: &[proto::OperatorSet]) -> i64 {
    sets.iter().filter(|o| o.domain.is_empty() || o.domain == "ai.onnx").map(|o| o.version).max().unwrap_or(1)
}

/// Nodes that an import looks at, those of a loop's body as often as it runs.
const NODES: usize = 1 << 17;

/// What an import knows beside the graph so far.
pub struct State {
    scopes: Scopes,
    diags: Vec<Diag>,
    /// Unsupported operators with the nodes that use them.
    unsupported: BTreeMap<String, Vec<String>>,
    /// The version of the default operator set.
    version: i64,
    /// Nodes that were looked at.
    nodes: usize,
    /// [`Options::custom`] and [`Options::base`].
    custom: (Vec<Custom>, PathBuf),
    /// Functions of the model whose bodies are being imported, by domain and name.
    functions: Vec<(String, String)>,
    /// The sizes of bounded dimensions, by name.
    sizes: BTreeMap<String, ValueId>,
}

impl State {
    fn new(source: &Source, options: &Options) -> Self {
        let version = opset(&source.model);
        let custom = (options.custom.clone(), options.base.clone());
        Self {
            custom,
            scopes: Scopes::new(),
            diags: vec![],
            unsupported: BTreeMap::new(),
            version,
            nodes: 0,
            functions: vec![],
            sizes: BTreeMap::new(),
        }
    }

    /// The value of a name where a node stands.
    pub fn named(&self, name: &str) -> Option<ValueId> {
        match self.scopes.get(name) {
            Name::Known(id) => Some(id),
            _ => None,
        }
    }
}

/// Adds nodes to a graph.
pub struct Importer<'m, 'x> {
    pub(crate) source: &'m Source,
    pub(crate) b: &'x mut Builder,
    pub(crate) state: &'x mut State,
}

impl Importer<'_, '_> {
    fn model(&mut self, graph: &proto::Graph, options: &Options) {
        self.initializers(graph);
        for info in &graph.input {
            if let Err(diag) = self.input(info, options) {
                self.state.diags.push(diag);
                self.state.scopes.set(&info.name, None);
            }
        }
        self.nodes(&graph.node);
        for info in &graph.output {
            match self.state.scopes.get(&info.name) {
                Name::Known(id) if matches!(self.b.graph.value(id).def, Def::Sequence(_)) => {
                    self.state
                        .diags
                        .push(Diag::new(format!("output {:?} is a sequence", info.name)).help("give its tensors as outputs of their own"));
                }
                Name::Known(id) => match self.b.actual(id) {
                    Ok(id) => self.b.graph.outputs.push((info.name.clone(), id)),
                    Err(what) => self.state.diags.push(Diag::new(format!("output {:?}: {what}", info.name))),
                },
                Name::Broken => {}
                Name::Unknown => self.state.diags.push(
                    Diag::new(format!("output {:?} is not defined by any node", info.name))
                        .help("the file is damaged: export the model again"),
                ),
            }
        }
        if graph.output.is_empty() {
            self.state.diags.push(Diag::new("the model has no outputs"));
        }
    }

    fn initializers(&mut self, graph: &proto::Graph) {
        if !graph.sparse_initializer.is_empty() {
            self.state.diags.push(Diag::new("sparse initializers are not supported").help("export dense weights"));
        }
        for tensor in &graph.initializer {
            let read = literal(self.source, tensor).map(|l| self.b.constant(l));
            self.state.scopes.set(&tensor.name, read.as_ref().ok().copied());
            self.state.diags.extend(read.err());
        }
    }

    fn nodes(&mut self, nodes: &[proto::Node]) {
        for (index, node) in nodes.iter().enumerate() {
            self.node(index, node);
        }
    }

    fn input(&mut self, info: &proto::ValueInfo, options: &Options) -> Result<(), Diag> {
        let name = info.name.as_str();
        // Before IR version 4 initializers are listed as inputs too.
        if self.state.scopes.defines(name) {
            return Ok(());
        }
        if let Some(bound) = options.bind.get(name) {
            let id = self.b.constant(bound.clone());
            self.state.scopes.set(name, Some(id));
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
        let shape = match (options.shapes.get(name), &tensor.shape) {
            (Some(shape), _) => shape.clone(),
            (None, Some(shape)) => shape.dim.iter().enumerate().map(|(d, dim)| extent(options, name, d, dim)).collect::<Result<_, _>>()?,
            (None, None) => return Err(fail("the model states no extents".to_owned()).help("give them with `.shape(input, &[...])`")),
        };
        let bytes = shape.iter().try_fold(dtype.bytes(), |n, &d: &usize| n.checked_mul(d.max(1)));
        if bytes.is_none_or(|b| b > 1 << 40) {
            return Err(fail(format!("{dtype}{shape:?} is too large")));
        }
        let bounds = self.bounds(info, options);
        let id = match options.images.get(name) {
            None => self.given(name, dtype, &shape, &bounds),
            Some((mean, deviation)) => {
                let [n, c, h, w] = shape[..] else { return Err(fail(format!("{dtype}{shape:?} is no image: four dimensions are needed"))) };
                if [mean.len(), deviation.len()] != [c, c] || deviation.contains(&0.0) || !dtype.is_float() {
                    return Err(fail(format!("{dtype}{shape:?} does not take images of {} channels", mean.len()))
                        .help("give a mean and a standard deviation other than 0 for every channel of a floating input"));
                }
                let bounds: Vec<Bound> = bounds.into_iter().map(|x| Bound { axis: [0, 3, 1, 2][x.axis], ..x }).collect();
                self.image((name, &bounds), dtype, [n, h, w, c], (mean, deviation)).map_err(fail)?
            }
        };
        self.state.scopes.set(name, Some(id));
        Ok(())
    }

    /// A tensor that the caller gives.
    fn given(&mut self, name: &str, dtype: DType, shape: &[usize], bounds: &[Bound]) -> ValueId {
        let id = self.b.input(name, dtype, shape);
        self.b.bound(id, bounds)
    }

    /// An image of bytes as the model takes it.
    fn image(
        &mut self,
        (name, bounds): (&str, &[Bound]),
        dtype: DType,
        shape: [usize; 4],
        (mean, deviation): (&[f64], &[f64]),
    ) -> Result<ValueId, String> {
        let bytes = self.given(name, DType::U8, &shape, bounds);
        let planes = self.b.transpose(bytes, &[0, 3, 1, 2])?;
        let by_channel = |b: &mut Builder, f: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..mean.len()).map(f).collect();
            b.constant(Literal::floats(DType::F32, &[mean.len(), 1, 1], &values))
        };
        let scale = by_channel(self.b, &|c| 1.0 / (255.0 * deviation[c]));
        let shift = by_channel(self.b, &|c| -mean[c] / deviation[c]);
        self.b.map(&[planes, scale, shift], |f, x| {
            let value = f.cast(x[0], DType::F32);
            let scaled = f.binary(Binary::Mul, value, x[1]);
            let normal = f.binary(Binary::Add, scaled, x[2]);
            f.cast(normal, dtype)
        })
    }

    fn node(&mut self, index: usize, node: &proto::Node) {
        let wanted: Vec<bool> = node.output.iter().map(|o| !o.is_empty()).collect();
        let duplicate = node.output.iter().find(|o| !o.is_empty() && self.state.scopes.defines(o));
        if let Some(name) = duplicate {
            let diag = Diag::new(format!("{}: output {name:?} is defined twice", node.op_type));
            let diag = self.describe(diag, index, node);
            return self.state.diags.push(diag);
        }
        self.state.nodes += 1;
        let outputs = match self.results(index, node, wanted) {
            Ok(outputs) => outputs,
            Err(diag) => {
                self.state.diags.extend(diag);
                return node.output.iter().filter(|o| !o.is_empty()).for_each(|o| self.state.scopes.set(o, None));
            }
        };
        let missing = node.output.iter().skip(outputs.len()).any(|o| !o.is_empty());
        for (i, name) in node.output.iter().enumerate().filter(|o| !o.1.is_empty()) {
            self.state.scopes.set(name, outputs.get(i).copied());
        }
        if missing {
            let diag = Diag::new(format!("{}: more outputs are used than wpk computes", node.op_type));
            let diag = self.describe(diag, index, node);
            self.state.diags.push(diag);
        }
    }

    /// The outputs of a node, or what is wrong with it where that is not reported already.
    fn results(&mut self, index: usize, node: &proto::Node, wanted: Vec<bool>) -> Result<Vec<ValueId>, Option<Diag>> {
        let origin = Origin::node(&node.name, &node.op_type, index);
        let name = operator(node);
        let source = self.source;
        let function = function_of(&source.model, node);
        let op = ops::find(&name);
        let custom = self.state.custom.0.iter().find(|c| c.name() == name).cloned();
        if op.is_none() && function.is_none() && custom.is_none() {
            self.state.unsupported.entry(name).or_default().push(origin.to_string());
            return Err(None);
        }
        let mut inputs = vec![];
        for name in &node.input {
            inputs.push(match self.state.scopes.get(name) {
                _ if name.is_empty() => None,
                Name::Known(id) => Some(id),
                Name::Broken => return Err(None),
                Name::Unknown => {
                    let diag = Diag::new(format!("{}: input {name:?} is not defined before it", node.op_type));
                    let help = "the graph has a cycle or lost a node: export the model again";
                    return Err(Some(self.describe(diag, index, node).help(help)));
                }
            });
        }
        let counted = |x: &Bound| x.end.terms().any(|(count, _)| !self.state.sizes.values().any(|s| *s == count));
        if !ops::counted::reads_no_extents(&name) && inputs.iter().flatten().any(|&i| self.b.bounds_of(i).iter().any(counted)) {
            let diag = Diag::new(format!(
                "{}: its input has as many elements as the model's data say, which this operator does not take",
                node.op_type
            ));
            return Err(Some(
                self.describe(diag, index, node).help("make that input a result of the model, and do the rest in the application"),
            ));
        }
        self.b.origin = origin;
        let result = match (custom, op, function) {
            (Some(custom), ..) => self.custom(&custom, node, &inputs),
            (None, _, Some(function)) => self.call(function, node, &inputs),
            (None, Some(op), None) => {
                let (attrs, opset) = (Attributes::new(node), self.state.version);
                (op.import)(&mut Context { b: self.b, attrs, opset, inputs, wanted, state: self.state, source })
            }
            (None, None, None) => Ok(vec![]),
        };
        result.map_err(|refusal| {
            let reported = refusal.is_reported();
            let diag = Diag { help: refusal.help, ..Diag::new(format!("{}: {}", node.op_type, refusal.message)) };
            (!reported).then(|| self.describe(diag, index, node))
        })
    }

    /// A node of an operator of the user's.
    fn custom(&mut self, custom: &Custom, node: &proto::Node, inputs: &[Option<ValueId>]) -> ops::Imported {
        let inputs =
            inputs.iter().copied().collect::<Option<Vec<ValueId>>>().ok_or("an input is left out, which custom operators do not take")?;
        let types = inputs.iter().map(|&v| (self.b.dtype(v), self.b.shape(v))).collect();
        let node = crate::custom::Node { attributes: Attributes::new(node), inputs: types };
        let call = custom.call(&node, &self.state.custom.1)?;
        Ok(self.b.add(Op::Custom(Box::new(call)), &inputs)?)
    }

    /// Adds the node and its inputs to a message.
    fn describe(&self, diag: Diag, index: usize, node: &proto::Node) -> Diag {
        let mut diag = diag.note("node", format!("#{index} {:?} (opset {})", node.name, self.state.version));
        for (i, name) in node.input.iter().enumerate().filter(|n| !n.1.is_empty()) {
            if let Name::Known(id) = self.state.scopes.get(name) {
                let producer = self.b.graph.node(id).map_or_else(String::new, |n| format!(" from {}", n.origin));
                let constant = if self.b.graph.literal(id).is_some() { " constant" } else { "" };
                diag = diag.note("input", format!("{i}: {}{:?}{constant} {name:?}{producer}", self.b.dtype(id), self.b.shape(id)));
            }
        }
        diag
    }
}

/// The name of a node's operator, behind `domain::` where that is not the default.
pub fn operator(node: &proto::Node) -> String {
    match node.domain.as_str() {
        "" | "ai.onnx" => node.op_type.clone(),
        domain => format!("{domain}::{}", node.op_type),
    }
}

/// The function of the model that a node calls.
fn function_of<'a>(model: &'a proto::Model, node: &proto::Node) -> Option<&'a proto::Function> {
    model.functions.iter().find(|f| f.name == node.op_type && f.domain == node.domain)
}

/// Whether a node's operator is supported, or a function that the model defines.
pub fn is_known(model: &proto::Model, node: &proto::Node) -> bool {
    ops::find(&operator(node)).is_some() || function_of(model, node).is_some()
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
