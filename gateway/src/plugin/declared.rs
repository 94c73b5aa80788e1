//! Providers that the configuration describes: one built-in component, which every `[[provider]]` makes a plugin of.
//!
//! The component says nothing of a provider; what a plugin says of itself is taken from the block. For the rest of the
//! gateway it is a plugin like any other, and as little believed.

use std::{collections::BTreeSet, sync::Arc};

use callfeed_description::{Becomes, Mapping, Node, Piece, Place, Scheme, Source};
use serde_json::json;

use super::{
    Assurance, Descriptor, EventSpec, Plugin, Plugins, SecretSpec, builtin, call::Runtime, grant::KeyEncoding,
    limits::SlowLane, load,
};
use crate::config::{Problem, Provider};

impl Runtime {
    /// Adds a plugin for every provider that is described: the ones that can be, and a problem of the configuration for each
    /// that cannot.
    pub async fn declare(&self, providers: &[Provider], plugins: &mut Plugins) -> Vec<Problem> {
        if providers.is_empty() {
            return Vec::new();
        }
        let component = match component(self).await {
            Ok(component) => component,
            Err(error) => {
                let message = format!("the built-in plugin for it does not load: {error}");
                return vec![Problem::new(
                    0,
                    "provider",
                    message,
                    "this build is damaged; install it again",
                )];
            }
        };
        let mut problems = Vec::new();
        for provider in providers {
            if plugins.contains_key(&provider.name) {
                problems.push(Problem::new(
                    provider.line,
                    format!("provider[{}].name", provider.name),
                    "is the name of a built-in plugin",
                    "choose another, and name it as the provider of its routes",
                ));
                continue;
            }
            plugins.insert(provider.name.clone(), Arc::new(plugin(self, &component, provider)));
        }
        problems
    }
}

/// The plugin of one provider that is described.
///
/// # Errors
///
/// When the component that serves it does not load: this build is damaged.
pub async fn declare(runtime: &Runtime, provider: &Provider) -> Result<Plugin, load::Error> {
    Ok(plugin(runtime, &component(runtime).await?, provider))
}

async fn component(runtime: &Runtime) -> Result<Plugin, load::Error> {
    load::compile(runtime, "declared", builtin::DECLARED).await
}

fn plugin(runtime: &Runtime, component: &Plugin, provider: &Provider) -> Plugin {
    Plugin {
        name: provider.name.clone(),
        contract: component.contract.clone(),
        imports: component.imports.clone(),
        descriptor: descriptor(provider, &component.descriptor.version),
        digest: component.digest,
        cases: None,
        options_schema: jsonschema::draft202012::new(&no_options()).expect("it is a schema"),
        description: Some(provider.description.to_options()),
        pre: component.pre.clone(),
        share: runtime.share(),
        lane: SlowLane::new(),
    }
}

fn no_options() -> serde_json::Value {
    json!({ "type": "object", "additionalProperties": false })
}

/// What a plugin for this provider alone would say of itself.
fn descriptor(provider: &Provider, version: &str) -> Descriptor {
    let scheme = &provider.description.scheme;
    Descriptor {
        provider: provider.name.clone(),
        display_name: provider.display_name.clone(),
        version: version.to_owned(),
        methods: provider.methods.clone(),
        content_types: provider.content_types.clone(),
        headers: headers(scheme),
        body_bytes_max: provider.body_bytes_max,
        assurance: match scheme {
            Scheme::Signature(signature) if signature.message.contains(&Piece::Body) => Assurance::SignedBody,
            _ => Assurance::Token,
        },
        events: events(provider),
        secrets: vec![SecretSpec {
            name: provider.secret.name.clone(),
            summary: provider.secret.summary.clone(),
            encoding: KeyEncoding::named(provider.secret.encoding).expect("the configuration allows no other"),
            required: true,
            may_hmac: false,
        }],
        options_schema: no_options(),
    }
}

fn headers(scheme: &Scheme<'_>) -> Vec<String> {
    let mut names = Vec::new();
    match scheme {
        Scheme::Signature(signature) => {
            names.push(&signature.header);
            names.extend(signature.message.iter().filter_map(|piece| match piece {
                Piece::Header(name) => Some(name),
                _ => None,
            }));
            names.extend(signature.timestamp.iter().flat_map(|timestamp| &timestamp.header));
        }
        Scheme::Token(token) => names.extend(match &token.place {
            Place::Header(name) => Some(name),
            _ => None,
        }),
    }
    let mut names: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn events(provider: &Provider) -> Vec<EventSpec> {
    let mapping = &provider.description.mapping;
    let spec = |native: &str, unified: &str| EventSpec {
        native: native.to_owned(),
        unified: unified.to_owned(),
    };
    let ends = ends(mapping);
    let mut events = Vec::new();
    for (native, becomes) in &mapping.types {
        match becomes {
            Becomes::Type(kind) => events.push(spec(native, kind)),
            Becomes::ByOutcome => events.extend(ends.iter().map(|kind| spec(native, kind))),
            Becomes::Ignored => {}
        }
    }
    if !mapping.types.iter().any(|(native, _)| &**native == "*") {
        events.push(spec("*", "provider.other"));
    }
    events
}

/// What the end of a call can become: an outcome that is not known is that of a completed one.
fn ends(mapping: &Mapping<'_>) -> BTreeSet<&'static str> {
    let outcome = mapping.members.iter().find_map(|(block, node)| match node {
        Node::Object { members, .. } if &**block == "call" => members.iter().find_map(|(name, node)| match node {
            Node::Leaf(leaf) if &**name == "outcome" => Some(leaf),
            _ => None,
        }),
        _ => None,
    });
    let words = outcome.into_iter().flat_map(|leaf| {
        leaf.rules.iter().flat_map(move |rule| match &rule.source {
            Source::Const(word) => vec![word],
            Source::Pointer(_) if rule.values.is_empty() => leaf.words.iter().collect(),
            Source::Pointer(_) => rule.values.iter().map(|(_, word)| word).collect(),
        })
    });
    let ends = words.map(|word| match &**word {
        "completed" => "call.completed",
        "missed" => "call.missed",
        _ => "call.failed",
    });
    ends.chain(["call.completed"]).collect()
}
