//! Attributes of a node, read by name and type.

use super::proto;

/// The attributes of one node.
pub struct Attributes<'a> {
    node: &'a proto::Node,
}

impl<'a> Attributes<'a> {
    /// Of a node.
    pub fn new(node: &'a proto::Node) -> Self {
        Self { node }
    }

    /// The attribute of that name.
    pub fn get(&self, name: &str) -> Option<&'a proto::Attribute> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    /// An integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).map(|a| a.i)
    }

    /// A flag: an integer that is not zero.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name).map_or(default, |i| i != 0)
    }

    /// A number.
    pub fn float(&self, name: &str) -> Option<f64> {
        self.get(name).map(|a| f64::from(a.f))
    }

    /// Integers.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.get(name).map(|a| a.ints.clone())
    }

    /// Numbers.
    pub fn floats(&self, name: &str) -> Option<Vec<f64>> {
        self.get(name).map(|a| a.floats.iter().map(|&f| f64::from(f)).collect())
    }

    /// Several texts.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.get(name).iter().flat_map(|a| &a.strings).map(|s| String::from_utf8_lossy(s).into_owned()).collect()
    }

    /// Text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|a| String::from_utf8_lossy(&a.s).into_owned())
    }
}
