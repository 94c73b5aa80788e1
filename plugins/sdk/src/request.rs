//! Reading a request.

use crate::{Body, Field, Rejection, Request, json};

impl Request {
    /// The first value of a header. `name` is lower case, and one that [`Descriptor::headers`](crate::Descriptor)
    /// declares: the gateway passes on no other.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// Every value of a header, in the order received.
    pub fn header_values<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r str> {
        values(&self.headers, name)
    }

    /// The first value of a query parameter, decoded.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        values(&self.query, name).next()
    }

    /// The first value of a form field, decoded.
    pub fn form_value(&self, name: &str) -> Option<&str> {
        values(&self.form, name).next()
    }

    /// The body's bytes, as received; empty when there is no body.
    pub fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::None => &[],
            Body::Text(text) => text.as_bytes(),
            Body::Binary(bytes) => bytes,
        }
    }

    /// The body as text.
    ///
    /// # Errors
    ///
    /// [`Malformed`](crate::RejectionKind::Malformed) with `body-missing` or `body-not-text`.
    pub fn text(&self) -> Result<&str, Rejection> {
        match &self.body {
            Body::Text(text) => Ok(text),
            Body::None => Err(Rejection::malformed("body-missing")),
            Body::Binary(_) => Err(Rejection::malformed("body-not-text")),
        }
    }

    /// The body as a checked JSON document.
    ///
    /// # Errors
    ///
    /// Those of [`text`](Self::text) and of [`json::Document::parse`].
    pub fn json(&self) -> Result<json::Document<'_>, Rejection> {
        json::Document::parse(self.text()?)
    }
}

fn values<'r>(fields: &'r [Field], name: &str) -> impl Iterator<Item = &'r str> {
    fields
        .iter()
        .filter(move |field| field.name == name)
        .map(|field| field.value.as_str())
}
