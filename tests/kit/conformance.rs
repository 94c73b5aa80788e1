//! The built-in plugins, the examples and the described providers pass every check of the kit.

use std::{fs, sync::Arc, time::Duration};

use callfeed::{
    config::{self, Limits},
    kit::{self, Case, Options, Outcome, Report, Stand},
    plugin::Plugin,
};
use harness::guest;

/// Less than on the command line, and more time for it: the host is not optimised here.
fn options() -> Options {
    Options {
        mutations: 600,
        bytes: 24,
        body_bytes_max: 64 << 10,
        ..Options::default()
    }
}

fn limits() -> Limits {
    Limits {
        plugin_time: Duration::from_millis(200),
        ..Limits::default()
    }
}

/// What failed, in full.
pub(crate) fn failures(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        if let Outcome::Failed { failures, count } = &finding.outcome {
            text += &format!("\n{} ({count}):", finding.check.name());
            for failure in failures {
                text += &format!("\n  {}", failure.what);
            }
        }
    }
    text
}

async fn conforms(provider: &str) {
    let stand = Stand::new(&limits()).expect("the engine starts");
    let (plugins, problems) = stand.runtime.load(&[]).await;
    assert!(problems.is_empty(), "{problems:?}");
    passes(&stand, &plugins[provider], &format!("plugins/{provider}")).await;
}

async fn example_conforms(provider: &str) {
    let stand = Stand::new(&limits()).expect("the engine starts");
    let wasm = fs::read(guest::example_file(provider)).expect("it was built just now");
    let plugin = stand
        .load(provider, &wasm)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    passes(&stand, &plugin, &format!("plugins/examples/{provider}")).await;
}

/// The same cases through the description beside the plugin.
async fn description_conforms(provider: &str) {
    let stand = Stand::new(&limits()).expect("the engine starts");
    let project = format!("plugins/examples/{provider}");
    let file = guest::workspace().join(&project).join("provider.toml");
    let (described, warnings) = config::load_providers(&file).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(warnings.is_empty(), "{warnings:?}");
    let plugin = stand
        .declare(&described[0])
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    passes(&stand, &plugin, &project).await;
}

async fn passes(stand: &Stand, plugin: &Arc<Plugin>, project: &str) {
    let directory = guest::workspace().join(project).join("cases");
    let cases = Case::read_all(&directory, &plugin.descriptor.provider).unwrap_or_else(|error| panic!("{error}"));
    let report = kit::examine(stand, plugin, &cases, &options(), &mut |_| ()).await;
    assert!(report.passed(), "{project}:{}", failures(&report));
    let tried = report
        .findings
        .iter()
        .filter(|finding| matches!(finding.outcome, Outcome::Passed(_)));
    assert!(tried.count() >= 14, "{project}: {report:?}");
}

macro_rules! conformance {
    ($($test:ident $function:ident $provider:literal,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                $function($provider).await;
            }
        )*
    };
}

conformance! {
    magnetis conforms "magnetis",
    magpipe conforms "magpipe",
    salpre conforms "salpre",
    topcalls conforms "topcalls",
    voxagent conforms "voxagent",
    aircall example_conforms "aircall",
    elevenlabs example_conforms "elevenlabs",
    retell example_conforms "retell",
    telnyx example_conforms "telnyx",
    twilio example_conforms "twilio",
    zoom_phone example_conforms "zoom-phone",
    described_elevenlabs description_conforms "elevenlabs",
    described_retell description_conforms "retell",
    described_telnyx description_conforms "telnyx",
}
