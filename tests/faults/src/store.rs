//! What the store says, read as `callfeed events`, `deliveries` and `quarantine` read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result};
use callfeed::{
    config,
    event::{ERASED, Kept, RawWebhook},
    store::{DeliveryState, History, Query},
};
use rusqlite::{Connection, OpenFlags};

use crate::model::{Event, Progress, Quarantined, Record};

/// Rows asked for at once.
const PAGE: usize = 1000;

/// How much to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What has to be true at any moment.
    Always,
    /// Also where each event came from, every attempt of what is dead, and what is left of what was erased.
    Everything,
}

/// The store at this path, for reading.
pub async fn open(store: &config::Store, path: &Path) -> Result<History> {
    let store = config::Store {
        location: config::Location::Sqlite(path.to_owned()),
        ..store.clone()
    };
    Ok(History::open(&store).await?)
}

/// Everything on record.
pub async fn read(history: &History, depth: Depth) -> Result<Record> {
    let mut events = Vec::new();
    let mut before = None;
    loop {
        let query = Query {
            before,
            limit: PAGE,
            ..Query::default()
        };
        let page = history.events(query).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        for kept in page {
            let webhook = match depth {
                Depth::Always => None,
                Depth::Everything => history.webhook(kept.id).await?,
            };
            let rest = match depth {
                Depth::Everything if kept.kind == ERASED => rest(history, &kept, webhook.as_ref()).await?,
                Depth::Always | Depth::Everything => String::new(),
            };
            events.push(Event {
                seq: kept.seq,
                kept_at: kept.kept_at,
                id: kept.id.to_string(),
                kind: kept.kind,
                subject: kept.subject,
                route: kept.route,
                json: kept.json,
                webhook: webhook.map(|webhook| webhook.body),
                rest,
                recalled: false,
            });
        }
    }
    events.reverse();
    Ok(Record {
        subscribers: subscribers(history, depth).await?,
        quarantine: quarantine(history).await?,
        events,
        ..Record::default()
    })
}

/// What is left of one that was erased, but for the body of its webhook.
async fn rest(history: &History, event: &Kept, webhook: Option<&RawWebhook>) -> Result<String> {
    let mut rest = event.facts.numbers.concat();
    if let Some(webhook) = webhook {
        let texts = [&webhook.target, &webhook.form].into_iter();
        rest.extend(texts.chain(&webhook.peer).chain(&webhook.payload).map(String::as_str));
        rest.extend(webhook.headers.iter().flat_map(|(name, value)| [name.as_str(), value]));
    }
    for (_, attempt) in history.attempts(event.id, None).await? {
        rest.extend([attempt.request_headers, attempt.response]);
    }
    Ok(rest)
}

async fn quarantine(history: &History) -> Result<Vec<Quarantined>> {
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = history.quarantine(PAGE, before).await?;
        let Some(last) = page.last() else { return Ok(found) };
        before = Some(last.number);
        found.extend(page.into_iter().map(|it| Quarantined {
            route: it.webhook.route,
            body: it.webhook.body,
            received_at: it.webhook.received_at,
        }));
    }
}

async fn subscribers(history: &History, depth: Depth) -> Result<BTreeMap<String, Progress>> {
    let mut found = BTreeMap::new();
    for subscriber in history.subscribers().await? {
        let name = &subscriber.name;
        let mut progress = Progress {
            cursor: subscriber.cursor,
            waiting: deliveries(history, name, DeliveryState::Waiting).await?,
            dead: deliveries(history, name, DeliveryState::Dead).await?,
            ..Progress::default()
        };
        if depth == Depth::Everything {
            progress.delivered = deliveries(history, name, DeliveryState::Delivered).await?;
        }
        found.insert(subscriber.name, progress);
    }
    if depth == Depth::Everything {
        attempts(history, &mut found).await?;
    }
    Ok(found)
}

async fn deliveries(history: &History, subscriber: &str, state: DeliveryState) -> Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    let mut before = None;
    loop {
        let query = Query {
            subscriber: Some(subscriber.to_owned()),
            state: Some(state),
            before,
            limit: PAGE,
            ..Query::default()
        };
        let page = history.deliveries(query).await?;
        let Some(last) = page.last() else { return Ok(found) };
        before = Some(last.seq);
        found.extend(page.into_iter().map(|delivery| delivery.seq));
    }
}

/// Every attempt of what is dead.
async fn attempts(history: &History, subscribers: &mut BTreeMap<String, Progress>) -> Result<()> {
    for (name, progress) in subscribers {
        let mut before = None;
        loop {
            let query = Query {
                subscriber: Some(name.clone()),
                state: Some(DeliveryState::Dead),
                before,
                limit: PAGE,
                ..Query::default()
            };
            let page = history.deliveries(query).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.seq);
            for delivery in page {
                let attempts = history.attempts(delivery.id, Some(name.clone())).await?;
                let attempts = attempts.iter().map(|(_, attempt)| (attempt.number, attempt.status));
                progress.attempts.insert(delivery.seq, attempts.collect());
            }
        }
    }
    Ok(())
}

/// Someone else who reads, or could, and leaves everything as it is in the end.
pub fn reader(path: &Path) -> Result<Connection> {
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    reader.query_row("SELECT count(*) FROM event", [], |_| Ok(()))?;
    Ok(reader)
}

/// Proves a copy of the file page by page; says what is wrong with it.
pub fn damage(copy: &Path) -> Result<Option<String>> {
    let connection = Connection::open(copy).with_context(|| format!("failed to open {}", copy.display()))?;
    let answer: rusqlite::Result<String> = connection.query_row("PRAGMA integrity_check(3)", [], |row| row.get(0));
    Ok(match answer {
        Ok(answer) if answer == "ok" => None,
        Ok(damage) => Some(damage),
        Err(error) => Some(error.to_string()),
    })
}
