//! Which names stand for which values: a graph sees those of the graphs around it, the body of a function does not.

use crate::graph::ValueId;
use std::collections::BTreeMap;

/// Names by scope, the innermost last.
pub struct Scopes {
    scopes: Vec<Scope>,
}

#[derive(Default)]
struct Scope {
    /// Values by name; none where the definition failed, so that what reads it is not reported too.
    names: BTreeMap<String, Option<ValueId>>,
    /// Whether names of the scopes around it are not seen.
    closed: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// A value.
    Known(ValueId),
    /// Something whose definition was refused.
    Broken,
    /// Nothing.
    Unknown,
}

impl Scopes {
    /// A single scope without names.
    pub fn new() -> Self {
        Self { scopes: vec![Scope::default()] }
    }

    /// Begins an inner scope.
    pub fn push(&mut self, closed: bool) {
        self.scopes.push(Scope { names: BTreeMap::new(), closed });
    }

    /// Ends the innermost scope.
    pub fn pop(&mut self) {
        self.scopes.pop();
    }

    /// What a name stands for here.
    pub fn get(&self, name: &str) -> Name {
        for scope in self.scopes.iter().rev() {
            match scope.names.get(name) {
                Some(Some(id)) => return Name::Known(*id),
                Some(None) => return Name::Broken,
                None if scope.closed => break,
                None => {}
            }
        }
        Name::Unknown
    }

    /// Whether the innermost scope defines a name.
    pub fn defines(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|s| s.names.contains_key(name))
    }

    /// Defines a name in the innermost scope, or notes that its definition failed.
    pub fn set(&mut self, name: &str, value: Option<ValueId>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.insert(name.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_names_hide_outer_ones_until_their_scope_ends() {
        let mut s = Scopes::new();
        s.set("x", Some(ValueId(1)));
        s.set("y", None);
        s.push(false);
        assert_eq!((s.get("x"), s.get("y"), s.get("z")), (Name::Known(ValueId(1)), Name::Broken, Name::Unknown));
        s.set("x", Some(ValueId(2)));
        assert_eq!((s.get("x"), s.defines("x"), s.defines("y")), (Name::Known(ValueId(2)), true, false));
        s.push(true);
        assert_eq!(s.get("x"), Name::Unknown);
        s.pop();
        s.pop();
        assert_eq!(s.get("x"), Name::Known(ValueId(1)));
    }
}
