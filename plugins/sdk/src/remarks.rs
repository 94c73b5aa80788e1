//! What a mapping has to say about its own reading.
//!
//! Some values can be read in two ways, and some contradict each other. A plugin decides, and says so in the event, where
//! somebody who wonders about a value will look: under [`KEY`] in `extra`, by the value's path in the webhook.
//!
//! ```
//! use callfeed_plugin::{json::Document, remarks::{self, Remarks}};
//!
//! let document = Document::parse(r#"{"date":"2023-10-29 02:30:00"}"#)?;
//! let mut body = document.object()?;
//! let mut remarks = Remarks::default();
//! remarks.add("date", "local-time-repeated");
//! let remarks = remarks.into_raw();
//! if let Some(remarks) = &remarks {
//!     body.add(remarks::KEY, remarks);
//! }
//! assert_eq!(
//!     serde_json::to_string(&body).unwrap(),
//!     r#"{"date":"2023-10-29 02:30:00","callfeed:remarks":{"date":"local-time-repeated"}}"#,
//! );
//! # Ok::<(), callfeed_plugin::Rejection>(())
//! ```

use std::collections::BTreeMap;

use crate::json::RawValue;

/// The member of `extra` that holds the remarks. No provider has a key like it.
pub const KEY: &str = "callfeed:remarks";

/// Short, stable remarks by path.
#[derive(Debug, Default)]
pub struct Remarks {
    by_path: BTreeMap<String, &'static str>,
}

impl Remarks {
    /// Adds a remark; the first about a path stays.
    pub fn add(&mut self, path: impl Into<String>, remark: &'static str) {
        self.by_path.entry(path.into()).or_insert(remark);
    }

    /// As JSON; `None` when there is nothing to say.
    pub fn into_raw(self) -> Option<Box<RawValue>> {
        if self.by_path.is_empty() {
            return None;
        }
        Some(serde_json::value::to_raw_value(&self.by_path).expect("a map of texts cannot fail to serialize"))
    }
}
