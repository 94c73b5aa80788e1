//! `callfeed erase`.

use super::{ConfigFile, Failure, Running, say};

/// Erase what is kept of a call or a person.
///
/// That is events, the webhooks they came from, what subscribers answered, and webhooks that speak of it and became no
/// event, or outlived theirs.
///
/// Each event leaves a tombstone that keeps its place in the feed and says nothing; it is not delivered any more. What
/// subscribers have received already is theirs to erase. Asks the running gateway, at `admin.listen`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    whose: Whose,
    /// Only count what would be erased.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// A call or a message: the events' subject, `<provider>/<id>`.
    #[arg(long)]
    subject: Option<String>,
    /// A person: every call, message and lead that this number has a part in. E.164, such as +33123456789.
    #[arg(long)]
    number: Option<String>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(subject) = &args.whose.subject {
        query.append_pair("subject", subject);
    }
    if let Some(number) = &args.whose.number {
        query.append_pair("number", number);
    }
    if args.dry_run {
        query.append_key_only("dry_run");
    }
    let gateway = args.running.reach(&args.config)?;
    let answer = gateway.post_json(&format!("erase?{}", query.finish())).await?;
    if args.json {
        say(&answer.to_string());
        return Ok(());
    }
    let done = if args.dry_run { "would be erased" } else { "erased" };
    say(&format!(
        "{done}: {} events with their webhooks and the answers to their deliveries, {} other webhooks",
        answer["events"], answer["webhooks"]
    ));
    Ok(())
}
