//! `callfeed check`.

use serde_json::json;

use super::{ConfigFile, Failure, display, say};
use crate::{config::Problems, gateway::Prepared};

/// Reads the configuration, its secrets, certificates and plugins, and reports every problem at once with its line and
/// remedy. Opens no socket and no store.
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
            .map(|route| {
                json!({ "name": route.name, "path": route.path,
            "provider": route.provider, "assurance": prepared.plugins[&route.provider].descriptor.assurance.as_str() })
            })
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
    }
    Ok(())
}

fn report(problems: Problems, json: bool) -> Failure {
    if !json {
        return Failure::Config(problems);
    }
    say(&json!({ "ok": false, "problems": problems }).to_string());
    Failure::ConfigSaid
}
