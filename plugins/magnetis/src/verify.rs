//! `X-CALLTRACKING-SIGNATURE`: base64 of an HMAC-SHA1 over the URL and the variables.
//!
//! How the variables become text is open (see [`canonical`](crate::canonical)), so each reading is tried, over each URL
//! the operator may have entered at the vendor's. The one that fits is named in the verdict, for the operator to pin.

use callfeed_plugin::{
    Body, Field, Rejection, Request, Verdict,
    crypto::{self, Failure, Part},
    encoding, environment,
};

use crate::{
    AUTO, Options,
    canonical::{Message, Recipe, Variables},
};

pub(crate) const HEADER: &str = "x-calltracking-signature";
pub(crate) const SECRET: &str = "signing";

const ALGORITHM: &str = "sha1";

/// The longest candidate whose digest is logged: anybody can post a long body with a signature that does not fit.
const DESCRIBED_BYTES_MAX: usize = 64 << 10;

/// Bytes of a SHA-1.
const MAC_LENGTH: usize = 20;

pub(crate) fn verify(request: &Request) -> Result<Verdict, Rejection> {
    let Some(header) = request.header(HEADER) else {
        // For the gateway to judge: it refuses this unless the route allows unsigned webhooks.
        return Ok(Verdict::authentic("unsigned"));
    };
    let signature = encoding::base64(header.trim())
        .filter(|signature| signature.len() == MAC_LENGTH)
        .ok_or_else(|| Rejection::unauthenticated("signature-malformed").detail("not base64 of 20 bytes"))?;
    // What follows the route's path would be part of the signed URL, and the first variables could be moved there.
    if !request.path.is_empty() {
        return Err(Rejection::unauthenticated("path-unexpected").detail("the path goes on after the route's"));
    }
    let options: Options = environment::options()?;
    let recipes = recipes(&options)?;
    let variables = variables(request);

    // One at a time: a real webhook is usually done after the first, and a long body makes every one of them costly.
    let mut tried: Vec<(Recipe, Message)> = Vec::new();
    for recipe in recipes {
        // Two readings that give the same string count as the first of them.
        let Some(message) = recipe
            .message(&variables)
            .filter(|message| tried.iter().all(|(_, known)| known != message))
        else {
            continue;
        };
        for candidate in candidates(recipe, &message, &request.urls) {
            match crypto::verify_hmac(SECRET, ALGORITHM, &candidate.parts(), &signature) {
                Ok(()) => return accept(&candidate, request, &variables),
                Err(Failure::Mismatch) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        tried.push((recipe, message));
    }
    let tried: Vec<String> = tried
        .iter()
        .flat_map(|(recipe, message)| candidates(*recipe, message, &request.urls))
        .map(|candidate| candidate.describe(request.bytes()))
        .collect();
    let body = match variables {
        Variables::Form { .. } => "a form",
        Variables::Json(_) => "a JSON object",
        Variables::Unreadable => "neither a form nor a JSON object with every key once",
    };
    let detail = match tried.as_slice() {
        [] => format!(
            "the body is {body}, to which {} does not apply",
            options.canonicalization
        ),
        tried => format!("the body is {body}; tried {}", tried.join("; ")),
    };
    Err(Rejection::unauthenticated("signature-mismatch").detail(detail))
}

/// The readings a route accepts, in the order in which they are tried.
fn recipes(options: &Options) -> Result<Vec<Recipe>, Rejection> {
    if options.canonicalization == AUTO {
        return Ok(Recipe::ALL.into_iter().filter(|recipe| recipe.binds_body()).collect());
    }
    let recipe = Recipe::named(&options.canonicalization)
        .ok_or_else(|| Rejection::unsupported("options-invalid").detail("no such canonicalization"))?;
    if recipe.binds_body() || options.allow_unbound {
        return Ok(vec![recipe]);
    }
    Err(Rejection::unauthenticated("canonicalization-unbound").detail(format!(
        "{} does not bind the body, and allow_unbound is not set",
        recipe.name()
    )))
}

fn variables(request: &Request) -> Variables<'_> {
    if !request.form.is_empty() {
        return Variables::of_form(
            request
                .form
                .iter()
                .map(|field| (field.name.as_str(), field.value.as_str()))
                .collect(),
        );
    }
    match &request.body {
        Body::Text(text) => Variables::of_json(text),
        Body::None | Body::Binary(_) => Variables::Unreadable,
    }
}

/// A string that may have been signed.
struct Candidate<'a> {
    recipe: Recipe,
    message: &'a Message,
    /// Where the message has one: its place in the list, and the URL.
    url: Option<(usize, &'a str)>,
}

/// The message with each URL, or by itself where it has none.
fn candidates<'a>(recipe: Recipe, message: &'a Message, urls: &'a [String]) -> impl Iterator<Item = Candidate<'a>> {
    let (alone, urls) = match message {
        Message::Body => (Some(None), &[][..]),
        Message::UrlThen(_) | Message::UrlThenBody => (None, urls),
    };
    let numbered = urls.iter().enumerate().map(|(at, url)| Some((at, url.as_str())));
    alone
        .into_iter()
        .chain(numbered)
        .map(move |url| Candidate { recipe, message, url })
}

impl Candidate<'_> {
    fn parts(&self) -> Vec<Part<'_>> {
        let url = self.url.map(|(_, url)| Part::Text(url));
        let rest = match self.message {
            Message::UrlThen(text) => Part::Text(text),
            Message::UrlThenBody | Message::Body => Part::Body,
        };
        url.into_iter().chain([rest]).collect()
    }

    /// For the operator to compare with what the vendor says was signed. A digest without a key gives nothing away that
    /// could be used to sign.
    fn describe(&self, body: &[u8]) -> String {
        let recipe = self.recipe.name();
        let parts = self.parts();
        let length = |part: &Part<'_>| match part {
            Part::Text(text) => text.len(),
            Part::Bytes(bytes) => bytes.len(),
            Part::Body => body.len(),
            Part::Secret(_) => 0,
        };
        let bytes: usize = parts.iter().map(length).sum();
        let url = self
            .url
            .map_or(String::new(), |(at, _)| format!(" with url {}", at + 1));
        if bytes > DESCRIBED_BYTES_MAX {
            return format!("{recipe}{url}: {bytes} bytes");
        }
        match crypto::hash(ALGORITHM, &parts) {
            Ok(digest) => format!("{recipe}{url}: {bytes} bytes, sha1 {}", encoding::to_hex(&digest)),
            // The host limits how much is hashed for one webhook; the length is still worth having.
            Err(_) => format!("{recipe}{url}: {bytes} bytes"),
        }
    }
}

fn accept(candidate: &Candidate<'_>, request: &Request, variables: &Variables<'_>) -> Result<Verdict, Rejection> {
    let recipe = candidate.recipe;
    if candidate
        .url
        .is_some_and(|(_, url)| holds_variables(recipe, url, &request.query))
    {
        return Err(Rejection::unauthenticated("query-unexpected").detail(format!(
            "{}: the query holds what a variable of the body begins with",
            recipe.name()
        )));
    }
    variables
        .check_shape(recipe)
        .map_err(|detail| Rejection::malformed("body-ambiguous").detail(format!("{}: {detail}", recipe.name())))?;
    if !recipe.binds_body() {
        environment::warn(&format!(
            "accepted a signature of form {}, which does not bind the body: anybody who has seen one can forge webhooks",
            recipe.name()
        ));
    }
    Ok(Verdict::authentic(recipe.name()))
}

/// The query is signed as received where the configured URL has none, and the variables follow it without a mark: whoever
/// has seen a webhook could move the first ones there, and the rest would still fit. What was moved begins with a root.
fn holds_variables(recipe: Recipe, url: &str, query: &[Field]) -> bool {
    let holds = |text: &str| recipe.openings().iter().any(|opening| text.contains(opening));
    let received = url.split_once('?').is_some_and(|(_, received)| holds(received));
    received || query.iter().any(|field| holds(&field.name) || holds(&field.value))
}

#[cfg(test)]
mod tests;
