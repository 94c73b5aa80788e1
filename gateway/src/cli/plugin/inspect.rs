//! `callfeed plugin inspect`.

use serde_json::json;

use super::{Subject, mebibytes, milliseconds};
use crate::{
    cli::{Failure, check::takes, say, say_foreign},
    kit::{
        Case, Stand,
        bench::{self, Costs, Part},
        inspect,
    },
    plugin::SecretSpec,
};

/// Calls for what one takes.
const CALLS: usize = 200;

/// Print what a plugin is: contract, provider, events, secrets, options, headers, imports, size and load time.
///
/// Needs neither a gateway nor a configuration. What a call takes is measured with its cases, where
/// there are any.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let found = args.subject.find()?;
    let limits = args.subject.limits();
    let cache = tempfile::tempdir()?;
    let inspected = inspect::inspect(&limits, cache.path(), async |stand| found.load(stand).await).await?;
    let descriptor = &inspected.plugin.descriptor;
    // Cases that are wrong are a thing to be seen here, and no reason to see nothing.
    let carried = match found.carried() {
        Ok(None) => Ok(0),
        Ok(Some(files)) => match Case::all_in(&files, &descriptor.provider) {
            Ok(cases) => Ok(cases.len()),
            Err(error) => Err(error.to_string()),
        },
        Err(error) => Err(error.to_string()),
    };
    let costs = match found.cases.is_some() || carried.as_ref().is_ok_and(|cases| *cases > 0) {
        true => {
            let stand = Stand::new(&limits)?;
            let plugin = found.load(&stand).await?;
            let cases = found.read_cases(&descriptor.provider)?;
            bench::measure(&stand, &plugin, &cases, CALLS).await
        }
        false => None,
    };
    if args.json {
        let secret = |spec: &SecretSpec| {
            json!({ "name": spec.name, "summary": spec.summary, "encoding": spec.encoding.as_str(),
                "required": spec.required, "may_hmac": spec.may_hmac })
        };
        let events: Vec<_> = descriptor
            .events
            .iter()
            .map(|event| json!({ "native": event.native, "unified": event.unified }))
            .collect();
        let call = costs.as_ref().map(|costs| {
            json!({ "memory_bytes_max": costs.memory_bytes_max, "ms_p50": milliseconds_of(costs, 0.5),
                "ms_p99": milliseconds_of(costs, 0.99) })
        });
        let json = json!({
            "file": found.file, "bytes": found.file_bytes, "contract": inspected.plugin.contract,
            "provider": descriptor.provider, "display_name": descriptor.display_name, "version": descriptor.version,
            "assurance": descriptor.assurance.as_str(), "methods": descriptor.methods,
            "content_types": descriptor.content_types, "body_bytes_max": descriptor.body_bytes_max,
            "headers": descriptor.headers, "secrets": descriptor.secrets.iter().map(secret).collect::<Vec<_>>(),
            "options_schema": descriptor.options_schema, "events": events, "imports": inspected.plugin.imports,
            "cases": carried.as_ref().ok(), "cases_unreadable": carried.as_ref().err(),
            "load_ms": inspected.load.as_secs_f64() * 1e3, "load_cached_ms": inspected.load_cached.as_secs_f64() * 1e3,
            "call": call,
        });
        say(&json.to_string());
        return Ok(());
    }
    let line = |title: &str, text: &str| say_foreign(&format!("{title:<10} {text}"));
    line("file", &format!("{}, {} bytes", found.file, found.file_bytes));
    line("contract", &inspected.plugin.contract);
    line(
        "provider",
        &format!(
            "{}: {} {}",
            descriptor.provider, descriptor.display_name, descriptor.version
        ),
    );
    line("assurance", descriptor.assurance.as_str());
    let types = match descriptor.content_types.as_slice() {
        [] => "any content type".to_owned(),
        types => types.join(", "),
    };
    let takes_in = format!(
        "{}; {types}; bodies up to {}",
        descriptor.methods.join(", "),
        mebibytes(descriptor.body_bytes_max)
    );
    line("takes", &takes_in);
    for taken in takes(descriptor) {
        line("", &taken);
    }
    for (at, event) in descriptor.events.iter().enumerate() {
        let title = if at == 0 { "events" } else { "" };
        line(title, &format!("{} → {}", event.native, event.unified));
    }
    for (at, import) in inspected.plugin.imports.iter().enumerate() {
        line(if at == 0 { "imports" } else { "" }, import);
    }
    line(
        "cases",
        &match carried {
            Ok(0) => "it carries none".to_owned(),
            Err(error) => format!("it carries some that cannot be read, and no gateway serves it: {error}"),
            Ok(count) => format!("it carries {count}, and a gateway runs them before it serves it"),
        },
    );
    line(
        "load",
        &format!(
            "{} compiled, {} from the cache",
            milliseconds(inspected.load),
            milliseconds(inspected.load_cached)
        ),
    );
    match costs {
        Some(costs) => line(
            "call",
            &format!(
                "{} (p50), {} (p99), at most {}",
                milliseconds(costs.quantile(Part::Call, 0.5)),
                milliseconds(costs.quantile(Part::Call, 0.99)),
                mebibytes(costs.memory_bytes_max)
            ),
        ),
        None => line(
            "call",
            "not measured: there are no cases here; --cases names their folder",
        ),
    }
    Ok(())
}

fn milliseconds_of(costs: &Costs, share: f64) -> f64 {
    costs.quantile(Part::Call, share).as_secs_f64() * 1e3
}
