//! `callfeed renormalize`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ConfigFile, Failure, Running, running::Answer, say, say_foreign};
use crate::store::History;

/// Webhooks that are asked for at once.
const PAGE: usize = 500;

/// Run a corrected plugin over history: show what it says differently, and add corrections to the feed.
///
/// The feed is only added to: an event that says something else now is followed by one with the same subject whose
/// `data.corrects` is the id of the event it replaces. Asks the running gateway, at `admin.listen`, webhook by webhook: it can
/// be stopped at any time and done again, and adds nothing twice. Webhooks are there for as long as `store.keep_webhooks`
/// says; those whose events are forgotten already are left out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// The route whose webhooks are looked at.
    #[arg(long)]
    route: String,
    /// Only webhooks received since this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Timestamp,
    /// Show the differences and add nothing.
    #[arg(long)]
    dry_run: bool,
    /// One webhook that changes a line, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Debug, Default)]
struct Sum {
    webhooks: u64,
    corrected: u64,
    added: u64,
    not_made: u64,
    refused: u64,
    forgotten: u64,
    failed: u64,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let gateway = args.running.reach(&args.config)?;
    let history = History::open(&args.config.store()?).await?;
    let query = if args.dry_run { "?dry_run" } else { "" };
    let (mut sum, mut after) = (Sum::default(), 0);
    loop {
        let page = history.webhooks(&args.route, args.since, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = *last;
        for number in page {
            let answer = match gateway
                .post_one(&format!("webhooks/{number}/renormalize{query}"))
                .await?
            {
                Answer::Done(answer) => answer,
                Answer::NotThisOne(why) => json!({ "webhook": number, "changes": [], "failed": why }),
            };
            sum.add(&answer);
            tell(&answer, args.json);
        }
    }
    let Sum {
        webhooks,
        corrected,
        added,
        not_made,
        refused,
        forgotten,
        failed,
    } = sum;
    if !args.json {
        let done = if args.dry_run { "would be" } else { "are" };
        say(&format!(
            "{webhooks} webhooks: {corrected} events {done} corrected, {added} {done} added, {not_made} are not made of them \
             any more, {refused} webhooks are refused, {forgotten} became events that the feed does not have any more, {failed} failed"
        ));
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Silent),
    }
}

impl Sum {
    fn add(&mut self, answer: &Value) {
        self.webhooks += 1;
        self.refused += u64::from(answer["refused"].is_string());
        self.forgotten += u64::from(answer["forgotten"] == true);
        self.failed += u64::from(answer["failed"].is_string());
        for change in answer["changes"].as_array().into_iter().flatten() {
            *match change["what"].as_str() {
                Some("corrected") => &mut self.corrected,
                Some("added") => &mut self.added,
                _ => &mut self.not_made,
            } += 1;
        }
    }
}

fn tell(answer: &Value, json: bool) {
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let reasons = ["refused", "failed"].map(|name| Some((name, answer[name].as_str()?)));
    if changes.is_empty() && reasons == [None, None] {
        return;
    }
    if json {
        say(&answer.to_string());
        return;
    }
    say(&format!("webhook {}", answer["webhook"]));
    for (name, reason) in reasons.into_iter().flatten() {
        say_foreign(&format!("  {name}: {reason}"));
    }
    for change in changes {
        let text = |name: &str| change[name].as_str().unwrap_or_default();
        match text("what") {
            "corrected" => say(&format!("  {} corrected by {}", text("event"), text("by"))),
            what => say(&format!("  {} {}", text("event"), what.replace('-', " "))),
        }
        for line in differences(&change["before"], &change["after"]) {
            say_foreign(&format!("    {line}"));
        }
    }
}

/// Every leaf that is not the same, by its JSON Pointer (RFC 6901).
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    leaves(before, &mut String::new(), &mut old);
    leaves(after, &mut String::new(), &mut new);
    let mut pointers: Vec<&String> = old.iter().chain(&new).map(|(pointer, _)| pointer).collect();
    pointers.sort();
    pointers.dedup();
    let at = |side: &[(String, String)], pointer: &String| {
        side.iter()
            .find(|(known, _)| known == pointer)
            .map(|(_, value)| value.clone())
    };
    let mut lines = Vec::new();
    for pointer in pointers {
        let (old, new) = (at(&old, pointer), at(&new, pointer));
        if old != new {
            lines.extend(old.map(|value| format!("- {pointer}: {value}")));
            lines.extend(new.map(|value| format!("+ {pointer}: {value}")));
        }
    }
    lines
}

fn leaves(value: &Value, pointer: &mut String, found: &mut Vec<(String, String)>) {
    let length = pointer.len();
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                leaves(member, pointer, found);
                pointer.truncate(length);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                leaves(item, pointer, found);
                pointer.truncate(length);
            }
        }
        Value::Null if pointer.is_empty() => {}
        leaf => found.push((pointer.clone(), leaf.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_leaves_that_differ_are_told() {
        let before = json!({ "type": "a", "data": { "a/b": [1, { "c": null }], "gone": {} } });
        let after = json!({ "type": "a", "data": { "a/b": [1, { "c": 2 }, 3] } });
        assert_eq!(
            differences(&before, &after),
            [
                "- /data/a~1b/1/c: null",
                "+ /data/a~1b/1/c: 2",
                "+ /data/a~1b/2: 3",
                "- /data/gone: {}"
            ]
        );
        assert_eq!(differences(&Value::Null, &json!({ "a": 1 })), ["+ /a: 1"]);
    }
}
