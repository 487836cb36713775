//! Graphs within graphs: the bodies of If, Loop and Scan, and of functions that a model defines itself, wherever they are called.

use super::scopes::Name;
use super::{Importer, NODES, version};
use crate::graph::ValueId;
use crate::onnx::proto;
use crate::ops::{Imported, Refusal};

impl Importer<'_, '_> {
    /// The outputs of a graph in an attribute for some inputs.
    pub(crate) fn subgraph(&mut self, graph: &proto::Graph, inputs: &[ValueId]) -> Imported {
        let parameters: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
        if parameters.len() != inputs.len() {
            return Err(format!("its body {:?} takes {} inputs, not {}", graph.name, parameters.len(), inputs.len()).into());
        }
        self.state.scopes.push(false);
        self.initializers(graph);
        parameters.iter().zip(inputs).for_each(|(name, &value)| self.state.scopes.set(name, Some(value)));
        let results = self.body(&graph.node, graph.output.iter().map(|o| o.name.as_str()));
        self.state.scopes.pop();
        results
    }

    /// The outputs of a call of a function that the model defines.
    pub(super) fn call(&mut self, function: &proto::Function, node: &proto::Node, inputs: &[Option<ValueId>]) -> Imported {
        let key = (function.domain.clone(), function.name.clone());
        if self.state.functions.contains(&key) {
            return Err("the function calls itself".into());
        }
        let given = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let default = |name: &str| function.attribute_proto.iter().find(|a| a.name == name);
        let nodes: Vec<proto::Node> =
            function.node.iter().map(|n| with_attributes(n, &|name| given(name).or_else(|| default(name)))).collect();
        let sets = version(&function.opset_import);
        let outer = self.state.version;
        self.state.version = if sets > 1 { sets } else { outer };
        self.state.functions.push(key);
        self.state.scopes.push(true);
        for (i, name) in function.input.iter().enumerate() {
            // An input that is left out reads as one that is left out.
            if let Some(value) = inputs.get(i).copied().flatten() {
                self.state.scopes.set(name, Some(value));
            }
        }
        let absent: Vec<&str> =
            function.input.iter().enumerate().filter(|(i, _)| inputs.get(*i).copied().flatten().is_none()).map(|i| i.1.as_str()).collect();
        let nodes: Vec<proto::Node> = nodes.into_iter().map(|n| without_inputs(n, &absent)).collect();
        let results = self.body(&nodes, function.output.iter().map(String::as_str));
        self.state.scopes.pop();
        self.state.functions.pop();
        self.state.version = outer;
        results
    }

    fn body<'n>(&mut self, nodes: &[proto::Node], outputs: impl Iterator<Item = &'n str>) -> Imported {
        let origin = self.b.origin.clone();
        if self.state.nodes + nodes.len() > NODES {
            return Err(format!("loops unroll to more than {NODES} nodes").into());
        }
        self.nodes(nodes);
        self.b.origin = origin;
        let value = |name: &str| match self.state.scopes.get(name) {
            Name::Known(id) => Ok(id),
            Name::Broken => Err(Refusal::reported()),
            Name::Unknown => Err(format!("output {name:?} of its body is not defined").into()),
        };
        outputs.map(value).collect()
    }
}

/// A node of a function's body whose attributes refer to those of the call.
fn with_attributes<'a>(node: &proto::Node, given: &dyn Fn(&str) -> Option<&'a proto::Attribute>) -> proto::Node {
    let mut node = node.clone();
    node.attribute.retain_mut(|a| {
        if let Some(body) = &mut a.g {
            body.node = body.node.iter().map(|n| with_attributes(n, given)).collect();
        }
        if a.ref_attr_name.is_empty() {
            return true;
        }
        let found = given(&a.ref_attr_name);
        if let Some(found) = found {
            *a = proto::Attribute { name: std::mem::take(&mut a.name), ..found.clone() };
        }
        found.is_some()
    });
    node
}

/// The same node without some inputs.
fn without_inputs(mut node: proto::Node, absent: &[&str]) -> proto::Node {
    node.input.iter_mut().filter(|i| absent.contains(&i.as_str())).for_each(String::clear);
    node
}
