//! A captured request, read with patience: what tools for capturing and people who copy make of one.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::super::case;
use crate::event::RawWebhook;

/// Why a text is no captured request. Nothing of the text is in it: there are secrets in captures.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// A request as it was captured.
#[derive(Debug, Clone)]
pub struct Capture {
    pub webhook: RawWebhook,
    /// What the provider may have been told, likeliest first, without query unless it was given with one.
    pub urls: Vec<String>,
}

/// What became of the body between the wire and here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paste {
    Faithful,
    /// A newline at its end was not sent.
    NewlineAdded,
    /// One that was sent is missing.
    NewlineLost,
    /// Lines that ended in LF end in CRLF.
    LinesWidened,
    /// Lines that ended in CRLF end in LF.
    LinesNarrowed,
}

impl Paste {
    /// What it takes to read the body as it was sent.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Faithful => None,
            Self::NewlineAdded => Some("without the newline at the end of the capture, which was not sent"),
            Self::NewlineLost => Some("with a newline at its end, which the capture has lost"),
            Self::LinesWidened => Some("with its lines ending in LF, which the capture has made CRLF"),
            Self::LinesNarrowed => Some("with its lines ending in CRLF, which the capture has made LF"),
        }
    }
}

impl Capture {
    /// Reads a request line, headers and a body; the lines may end in LF or CRLF, the headers be those of HTTP/2, the version
    /// or all of the first line be missing. `url` is what the provider was told.
    ///
    /// # Errors
    ///
    /// What is missing, and how to give it.
    pub fn read(text: &[u8], url: Option<&str>) -> Result<Self, Unreadable> {
        let text = text
            .strip_prefix("\u{feff}".as_bytes())
            .unwrap_or(text)
            .trim_ascii_start();
        let fail = |what: &str| Err(Unreadable(what.to_owned()));
        if text.is_empty() {
            return fail("the capture is empty: paste or pipe the request with its headers");
        }
        if text.starts_with(b"{") || text.starts_with(b"[") {
            return fail(
                "the capture begins with the body: what proves a webhook is usually in its headers, so paste those before \
                 it, with an empty line between",
            );
        }
        let (head, body) = case::head_and_body(text).unwrap_or((text, b""));
        let Ok(head) = std::str::from_utf8(head) else {
            return fail("the head of the request is not UTF-8");
        };
        let mut capture = Head::default();
        for (at, line) in head.lines().enumerate() {
            if !(capture.take_request_line(at, line) || capture.take_header(line)) {
                return Err(Unreadable(format!(
                    "line {} is neither a request line, as `POST /hooks/acme HTTP/1.1` is, nor a header; an empty line has \
                     to stand between the headers and the body",
                    at + 1
                )));
            }
        }
        capture.complete(Bytes::copy_from_slice(body), url)
    }

    /// The body as it is here, and as it may have been sent.
    pub fn readings(&self) -> Vec<(Paste, Bytes)> {
        let body = &self.webhook.body;
        let mut readings = vec![(Paste::Faithful, body.clone())];
        let without = body
            .strip_suffix(b"\n")
            .map(|body| body.strip_suffix(b"\r").unwrap_or(body));
        match without {
            Some(without) => readings.push((Paste::NewlineAdded, body.slice_ref(without))),
            None if !body.is_empty() => readings.push((Paste::NewlineLost, [body, &b"\n"[..]].concat().into())),
            None => {}
        }
        if let Ok(text) = std::str::from_utf8(body) {
            if text.contains("\r\n") {
                readings.push((Paste::LinesWidened, text.replace("\r\n", "\n").into()));
            } else if text.contains('\n') {
                readings.push((Paste::LinesNarrowed, text.replace('\n', "\r\n").into()));
            }
        }
        readings
    }

    /// The same request with another body.
    pub(super) fn with_body(&self, body: Bytes) -> Self {
        let mut capture = self.clone();
        capture.webhook.body = body;
        capture
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.webhook.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// How many bytes the sender said the body has, where that is not what is here.
    pub fn length_said(&self) -> Option<usize> {
        let said = self.header("content-length")?.parse().ok()?;
        (said != self.webhook.body.len()).then_some(said)
    }

    pub(super) fn path(&self) -> &str {
        let target = &self.webhook.target;
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.webhook.target.split_once('?').map(|(_, query)| query)
    }
}

#[derive(Default)]
struct Head {
    method: Option<String>,
    target: Option<String>,
    scheme: Option<String>,
    authority: Option<String>,
    headers: Vec<(String, String)>,
}

impl Head {
    fn take_request_line(&mut self, at: usize, line: &str) -> bool {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let (method, target) = match words[..] {
            [method, target] => (method, target),
            [method, target, version] if version.starts_with("HTTP/") => (method, target),
            _ => return false,
        };
        let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if at > 0 || !is_method || !(target.starts_with('/') || target.contains("://")) {
            return false;
        }
        self.method = Some(method.to_owned());
        self.take_target(target);
        true
    }

    fn take_target(&mut self, target: &str) {
        let (before, target) = split_url(target);
        if let Some((scheme, authority)) = before {
            self.scheme = Some(scheme.to_owned());
            self.authority = Some(authority.to_owned());
        }
        self.target = Some(if target.is_empty() { "/" } else { target }.to_owned());
    }

    fn take_header(&mut self, line: &str) -> bool {
        // HTTP/2 says what stands in a request line as headers whose names begin with a colon.
        let after = usize::from(line.starts_with(':'));
        let Some(colon) = line[after..].find(':').map(|at| at + after) else {
            return false;
        };
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim().to_owned());
        if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return false;
        }
        match name.as_str() {
            ":method" => self.method = Some(value),
            ":path" => self.take_target(&value),
            ":scheme" => self.scheme = Some(value),
            ":authority" => self.authority = Some(value),
            _ => self.headers.push((name, value)),
        }
        true
    }

    fn complete(self, body: Bytes, url: Option<&str>) -> Result<Capture, Unreadable> {
        let given = url.map(split_url);
        if let Some((before, _)) = given
            && !before.is_some_and(|(scheme, authority)| matches!(scheme, "http" | "https") && !authority.is_empty())
        {
            return Err(Unreadable(
                "--url is not that of a webhook; write it as the provider was told it, such as \
                 https://hooks.example.com/hooks/acme"
                    .to_owned(),
            ));
        }
        let own = given
            .map(|(_, target)| target)
            .filter(|target| !matches!(*target, "" | "/"));
        let Some(target) = self.target.clone().or_else(|| own.map(str::to_owned)) else {
            return Err(Unreadable(
                "the capture has no request line, as `POST /hooks/acme HTTP/1.1` is; put one before the headers, or say with \
                 --url where the request went"
                    .to_owned(),
            ));
        };
        let path = target.split_once('?').map_or(target.as_str(), |(path, _)| path);
        let urls = match url {
            Some(url) if own.is_some() => vec![url.to_owned()],
            Some(url) => vec![format!("{}{path}", url.trim_end_matches('/'))],
            None => self.likely_urls(path),
        };
        Ok(Capture {
            webhook: RawWebhook {
                route: String::new(),
                received_at: Timestamp::UNIX_EPOCH,
                method: self.method.unwrap_or_else(|| "POST".to_owned()),
                target,
                headers: self.headers,
                peer: None,
                body,
                form: String::new(),
                payload: None,
            },
            urls,
        })
    }

    /// From what the request and the proxies before us say of it.
    fn likely_urls(&self, path: &str) -> Vec<String> {
        let header = |wanted: &str| {
            let mut headers = self.headers.iter();
            headers
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_str())
        };
        let hosts = [self.authority.as_deref(), header("x-forwarded-host"), header("host")];
        let said = self.scheme.as_deref().or_else(|| header("x-forwarded-proto"));
        let mut urls = Vec::new();
        for host in hosts.into_iter().flatten() {
            for scheme in [said, Some("https"), Some("http")].into_iter().flatten() {
                let url = format!("{scheme}://{host}{path}");
                if !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
        if urls.is_empty() {
            urls.push(format!("https://localhost{path}"));
        }
        urls
    }
}

/// Scheme and authority of a URL, if it has them, and what follows.
fn split_url(url: &str) -> (Option<(&str, &str)>, &str) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return (None, url);
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (Some((scheme, authority)), target)
}

/// A URL as it may be shown: a token may stand in its query.
pub(super) struct Shown<'u>(pub &'u str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once('?') {
            Some((url, _)) => write!(f, "{url}?…"),
            None => f.write_str(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Capture {
        Capture::read(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn one_request_in_many_hands() {
        let plain = read("POST /hooks/acme?a=b HTTP/1.1\nHost: h.example\nX-Sig: 1\n\n{}\n");
        for other in [
            "POST /hooks/acme?a=b HTTP/1.1\r\nHost: h.example\r\nX-Sig: 1\r\n\r\n{}\n",
            "\n\nPOST /hooks/acme?a=b HTTP/2\nhost: h.example\nx-sig:1\n\n{}\n",
            "\u{feff}POST /hooks/acme?a=b\nHOST: h.example \nX-SIG: 1\n\n{}\n",
        ] {
            let other = read(other);
            assert_eq!((other.webhook, other.urls), (plain.webhook.clone(), plain.urls.clone()));
        }
        assert_eq!(plain.urls[0], "https://h.example/hooks/acme");
        let pseudo = read(":method: PUT\n:scheme: https\n:authority: h.example\n:path: /a?b\nx-sig: 1\n\n");
        assert_eq!((&*pseudo.webhook.method, &*pseudo.webhook.target), ("PUT", "/a?b"));
        assert_eq!(pseudo.urls[0], "https://h.example/a");
        let absolute = read("POST http://h.example/a HTTP/1.1\n\n");
        assert_eq!(
            (&*absolute.webhook.target, &*absolute.urls[0]),
            ("/a", "http://h.example/a")
        );
    }

    #[test]
    fn the_url_stands_in_for_a_request_line() {
        let headers = b"X-Sig: 1\n\n{}";
        let capture = Capture::read(headers, Some("https://h.example/a?b")).unwrap();
        assert_eq!((&*capture.webhook.method, &*capture.webhook.target), ("POST", "/a?b"));
        assert_eq!(capture.urls, ["https://h.example/a?b"]);
        let capture = Capture::read(b"POST /a?b HTTP/1.1\n\n", Some("https://h.example/")).unwrap();
        assert_eq!(capture.urls, ["https://h.example/a"]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = |text: &str, url| Capture::read(text.as_bytes(), url).unwrap_err().to_string();
        assert!(error(" \n", None).starts_with("the capture is empty"));
        assert!(error("{\"a\":1}", None).starts_with("the capture begins with the body"));
        assert!(error("X-Sig: 1\n\n{}", None).contains("say with --url where the request went"));
        assert!(error("X-Sig: 1\n\n{}", Some("h.example/a")).starts_with("--url is not that of a webhook"));
        let wrong = error("POST / HTTP/1.1\ns3cret\n\n", None);
        assert!(
            wrong.starts_with("line 2 is neither") && !wrong.contains("s3cret"),
            "{wrong}"
        );
    }

    #[test]
    fn a_paste_is_read_as_it_may_have_been_sent() {
        let readings = |body: &str| {
            let capture = read(&format!("POST / HTTP/1.1\n\n{body}"));
            let readings = capture.readings().into_iter();
            readings
                .map(|(paste, body)| (paste, String::from_utf8(body.to_vec()).unwrap()))
                .collect::<Vec<_>>()
        };
        let reading = |paste, body: &str| (paste, body.to_owned());
        assert_eq!(
            readings("{}"),
            [reading(Paste::Faithful, "{}"), reading(Paste::NewlineLost, "{}\n")]
        );
        assert_eq!(
            readings("a\r\n")[1..],
            [reading(Paste::NewlineAdded, "a"), reading(Paste::LinesWidened, "a\n")]
        );
        assert_eq!(readings("a\nb")[2], reading(Paste::LinesNarrowed, "a\r\nb"));
        assert_eq!(readings("").len(), 1);
    }
}
