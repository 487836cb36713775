//! What a command says: lines, or with `--json` one object.

use serde_json::{Map, Value};

/// A command's words so far.
pub struct Output {
    json: bool,
    object: Map<String, Value>,
}

impl Output {
    /// For a command with or without `--json`.
    pub fn new(json: bool) -> Self {
        Self { json, object: Map::new() }
    }

    /// Says something: a line now, or a member of the object.
    pub fn say(&mut self, key: &str, value: Value, line: &str) {
        if self.json {
            self.object.insert(key.to_owned(), value);
        } else {
            println!("{line}");
        }
    }

    /// Says one of several: a line now, or an element of a list.
    pub fn item(&mut self, key: &str, value: Value, line: &str) {
        if !self.json {
            return println!("{line}");
        }
        if let Value::Array(list) = self.object.entry(key).or_insert_with(|| Value::Array(vec![])) {
            list.push(value);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.json {
            println!("{}", Value::Object(std::mem::take(&mut self.object)));
        }
    }
}
