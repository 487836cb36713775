//! Text as an element of tensors.

use wpk_plan::DType;

/// An element of text: UTF-8 of at most 63 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Text([u8; DType::Text.bytes()]);

impl Text {
    /// The element of its bytes in memory, followed by zeros.
    pub fn from_le_bytes(bytes: [u8; DType::Text.bytes()]) -> Self {
        Self(bytes)
    }

    /// As a string; bytes that are not UTF-8 end it.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        let valid = match std::str::from_utf8(&self.0[..end]) {
            Ok(_) => end,
            Err(e) => e.valid_up_to(),
        };
        std::str::from_utf8(&self.0[..valid]).unwrap_or_default()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self([0; DType::Text.bytes()])
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}
