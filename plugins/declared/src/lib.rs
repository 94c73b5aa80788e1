//! Any provider that the configuration describes: `[[provider]]`.
//!
//! The route's options are a [`callfeed_description::Description`], compiled from the block by the gateway. What this
//! plugin says of itself is of no provider: the gateway puts name, events, secrets and headers of the block in its place.
//! As with every plugin, the gateway believes its own verification and not what is concluded here.

mod convert;
mod map;
mod place;
mod scheme;

use callfeed_description::{Mapping, Options, Scheme, Unreadable};
use callfeed_plugin::{
    Descriptor, Outcome, Provider, Rejection, Request, Verdict, environment, json::Document, kind, register,
};

/// The plugin.
pub struct Declared;

register!(Declared);

impl Provider for Declared {
    fn describe() -> Descriptor {
        Descriptor::new("declared", "A described provider", env!("CARGO_PKG_VERSION")).event("*", kind::PROVIDER_OTHER)
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let options = environment::options_json();
        let part = Options::parse(&options).and_then(|options| options.scheme());
        let part = part.map_err(unreadable)?;
        match part.read().map_err(unreadable)? {
            Scheme::Signature(signature) => scheme::check_signature(&signature, request),
            Scheme::Token(token) => scheme::check_token(&token, request),
        }
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let options = environment::options_json();
        let part = Options::parse(&options).and_then(|options| options.mapping());
        let part = part.map_err(unreadable)?;
        let mapping: Mapping<'_> = part.read().map_err(unreadable)?;
        map::outcome(&mapping, &document(request)?)
    }
}

fn unreadable(_: Unreadable) -> Rejection {
    Rejection::unsupported("description-unreadable")
}

/// The body, or the fields of a form as if they were the members of one.
fn document(request: &Request) -> Result<Document<'_>, Rejection> {
    if request.form.is_empty() {
        request.json()
    } else {
        Ok(Document::of_fields(&request.form))
    }
}
