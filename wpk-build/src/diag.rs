//! What is wrong with a model, in words for the person who builds it.

use std::fmt;

/// Where a node of the graph came from: the ONNX nodes behind it, kept through every rewrite.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Names of ONNX nodes, or `OpType#index` where a node has none.
    pub nodes: Vec<String>,
}

impl Origin {
    /// One ONNX node.
    pub fn node(name: &str, op: &str, index: usize) -> Self {
        Self { nodes: vec![if name.is_empty() { format!("{op}#{index}") } else { name.to_owned() }] }
    }

    /// Both origins, without repetition.
    pub fn join(&self, other: &Origin) -> Self {
        let mut nodes = self.nodes.clone();
        nodes.extend(other.nodes.iter().filter(|n| !self.nodes.contains(n)).cloned());
        Self { nodes }
    }

    /// Whether one of these patterns, `*` for any text, is the name of a node behind it.
    pub fn matches(&self, patterns: &[String]) -> bool {
        self.nodes.iter().any(|n| patterns.iter().any(|pattern| matches(pattern, n)))
    }
}

/// Whether a pattern with `*` for any text matches a whole name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => {
            name.strip_prefix(start).is_some_and(|name| (0..=name.len()).any(|i| name.is_char_boundary(i) && matches(rest, &name[i..])))
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nodes.as_slice() {
            [] => f.write_str("(made by wpk)"),
            nodes if nodes.len() <= 4 => f.write_str(&nodes.join(" + ")),
            nodes => write!(f, "{} + {} + {} more", nodes[0], nodes[1], nodes.len() - 2),
        }
    }
}

/// One thing wrong with a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diag {
    /// One sentence.
    pub message: String,
    /// Details: the node, its inputs.
    pub notes: Vec<(&'static str, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diag {
    /// A message without details.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), notes: vec![], help: None }
    }

    /// Adds a detail under a short label.
    pub fn note(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.notes.push((label, text.into()));
        self
    }

    /// Says what to do.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

impl fmt::Display for Diag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for (label, text) in &self.notes {
            write!(f, "\n  {label:<5} {text}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help  {help}")?;
        }
        Ok(())
    }
}

/// Everything wrong with a model, collected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diags(pub Vec<Diag>);

impl fmt::Display for Diags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diag) in self.0.iter().enumerate() {
            write!(f, "{}{diag}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Diags {}

impl From<Diag> for Diags {
    fn from(diag: Diag) -> Self {
        Self(vec![diag])
    }
}

impl std::error::Error for Diag {}
