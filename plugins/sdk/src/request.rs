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

    /// Holds a signed timestamp, milliseconds since the Unix epoch, to the time of receipt: at most so many seconds old,
    /// and at most so many ahead. Only what the signature covers says anything about age.
    ///
    /// # Errors
    ///
    /// [`Unauthenticated`](crate::RejectionKind::Unauthenticated) with `timestamp-too-old` or `timestamp-in-future`.
    pub fn check_age(&self, signed_at_ms: i64, old_seconds_max: u32, ahead_seconds_max: u32) -> Result<(), Rejection> {
        let age_ms = i128::from(self.received_at_ms) - i128::from(signed_at_ms);
        let code = if age_ms > i128::from(old_seconds_max) * 1000 {
            "timestamp-too-old"
        } else if age_ms < i128::from(ahead_seconds_max) * -1000 {
            "timestamp-in-future"
        } else {
            return Ok(());
        };
        Err(Rejection::unauthenticated(code).detail(format!("{} s off", age_ms.abs() / 1000)))
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

    /// The fields of a form body as one: an object of texts, and of a list of texts where a name occurs more than once.
    pub fn form_json(&self) -> json::Document<'static> {
        json::Document::of_fields(&self.form)
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

#[cfg(test)]
mod tests {
    use crate::testing::{RECEIVED_AT_MS, TestHost};

    #[test]
    fn age_has_two_sides() {
        let request = TestHost::request("POST", "");
        let check = |seconds_ago: i64| {
            let signed_at = RECEIVED_AT_MS as i64 - seconds_ago * 1000;
            request
                .check_age(signed_at, 300, 60)
                .map_err(|rejection| rejection.code)
        };
        assert_eq!((check(300), check(0), check(-60)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(check(301), Err("timestamp-too-old".to_owned()));
        assert_eq!(check(-61), Err("timestamp-in-future".to_owned()));
        for extreme in [i64::MIN, i64::MAX] {
            assert!(request.check_age(extreme, u32::MAX, u32::MAX).is_err());
        }
    }
}
