//! `callfeed check`.

use serde_json::{Value, json};

use super::{ConfigFile, Failure, display, say, say_foreign};
use crate::{
    config::{Problems, Route},
    gateway::Prepared,
    plugin::Descriptor,
};

const DEPTH_MAX: u8 = 4;

/// Check a configuration, with its plugins and secrets, without starting anything.
///
/// Certificates are read, too, and every problem is reported at once with its line and remedy. No socket is opened and no
/// store.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let file = display(&args.config.path);
    let mut read = args.config.read();
    // Nothing is created, so compiled plugins are not kept either.
    match &mut read {
        Ok(checked) => checked.config.limits.plugin_cache = None,
        Err(refused) => refused.readable.limits.plugin_cache = None,
    }
    let prepared = match Prepared::new(read).await {
        Ok(prepared) => prepared,
        Err(problems) => return Err(report(problems, args.json)),
    };
    let warnings = &prepared.warnings;
    let config = &prepared.config;
    if args.json {
        let routes: Vec<_> = config
            .routes
            .iter()
            .map(|route| route_json(route, &prepared.plugins[&route.provider].descriptor))
            .collect();
        let subscribers: Vec<_> = config
            .subscribers
            .iter()
            .map(|subscriber| subscriber.name.as_str())
            .collect();
        say(&json!({ "ok": true, "routes": routes, "subscribers": subscribers, "warnings": warnings }).to_string());
        return Ok(());
    }
    for warning in warnings {
        say(&warning.to_string());
    }
    say(&format!(
        "{file} is right: {} routes, {} subscribers",
        config.routes.len(),
        config.subscribers.len()
    ));
    for route in &config.routes {
        let descriptor = &prepared.plugins[&route.provider].descriptor;
        let proof = if route.allow_unsigned {
            "unsigned webhooks allowed"
        } else {
            descriptor.assurance.as_str()
        };
        say(&format!(
            "  {} → {} {} ({proof})",
            route.path, descriptor.display_name, descriptor.version
        ));
        for line in takes(descriptor) {
            say_foreign(&format!("      {line}"));
        }
    }
    Ok(())
}

fn route_json(route: &Route, descriptor: &Descriptor) -> Value {
    let secrets: Vec<_> = descriptor
        .secrets
        .iter()
        .map(|secret| json!({ "name": secret.name, "required": secret.required, "summary": secret.summary }))
        .collect();
    json!({
        "name": route.name, "path": route.path, "provider": route.provider,
        "assurance": descriptor.assurance.as_str(), "secrets": secrets, "headers": descriptor.headers,
        "options_schema": descriptor.options_schema,
    })
}

/// What a route can say to its plugin, a line each: secrets and options, and the headers that are passed on.
pub(super) fn takes(descriptor: &Descriptor) -> Vec<String> {
    let mut lines = Vec::new();
    for secret in &descriptor.secrets {
        let need = if secret.required { "required" } else { "optional" };
        lines.push(format!("secret {} ({need}): {}", secret.name, secret.summary));
    }
    for (name, schema) in descriptor.options() {
        let mut line = format!("option {name} ({}", kind(schema, &descriptor.options_schema, DEPTH_MAX));
        if let Some(default) = schema.get("default") {
            line.push_str(&format!("; default {default}"));
        }
        line.push(')');
        if let Some(description) = schema["description"].as_str() {
            line.push_str(&format!(": {description}"));
        }
        lines.push(line);
    }
    let headers: Vec<_> = descriptor
        .headers
        .iter()
        .map(|entry| match entry.strip_prefix("option:/") {
            Some(option) => format!("what option {option} names"),
            None => entry.clone(),
        })
        .collect();
    if !headers.is_empty() {
        lines.push(format!("headers: {}", headers.join(", ")));
    }
    lines
}

/// What a value of this schema looks like, in a few words.
fn kind(schema: &Value, root: &Value, depth: u8) -> String {
    const VALUES_MAX: usize = 20;
    const EXAMPLES: usize = 3;
    // A schema may refer to itself.
    let Some(depth) = depth.checked_sub(1) else {
        return "any value".to_owned();
    };
    let schema = match schema["$ref"].as_str().and_then(|name| name.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or(schema),
        None => schema,
    };
    if let Some(values) = schema["enum"].as_array() {
        let shown = |count: usize| {
            let values: Vec<_> = values.iter().take(count).map(Value::to_string).collect();
            values.join(", ")
        };
        return match values.len().checked_sub(VALUES_MAX + 1) {
            None => shown(VALUES_MAX),
            Some(_) => format!("{} and {} more", shown(EXAMPLES), values.len() - EXAMPLES),
        };
    }
    if let Some(forms) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let forms: Vec<_> = forms.iter().map(|form| kind(form, root, depth)).collect();
        return forms.join(" or ");
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", kind(&schema["items"], root, depth)),
        Some("string") => "text".to_owned(),
        Some(other) => other.to_owned(),
        None => "any value".to_owned(),
    }
}

fn report(problems: Problems, json: bool) -> Failure {
    if !json {
        return Failure::Config(problems);
    }
    say(&json!({ "ok": false, "problems": problems }).to_string());
    Failure::ConfigSaid
}
