pub fn test() -> crate::Outcome { Ok(()) }
