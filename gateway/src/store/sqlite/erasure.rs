//! What a call or a person left in the store: found beside the writer, and overwritten by it.

use std::{collections::HashSet, sync::Arc};

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::{
    read::{self, Readers, place},
    write::{Draft, time},
};
use crate::{
    event::ERASED,
    store::{Error, Whose, mark::Mark},
};

/// Events, and numbers of webhooks, that one question looks through.
const PAGE: u64 = 20_000;

/// Bytes of events that one question looks through.
const PAGE_BYTES: usize = 256 << 20;

/// Webhooks whose content one question looks through.
const CONTENT_PAGE: usize = 500;

/// What is looked for, and how far it was.
#[derive(Debug)]
pub(super) struct Search {
    mark: Mark,
    /// Routes whose webhooks do not speak of them.
    strangers: Arc<[String]>,
    /// Of their calls and messages, as far as they are known.
    subjects: Arc<HashSet<String>>,
    by_number: bool,
    /// The last event looked at, by place.
    event: u64,
    /// The last webhook looked at, by number.
    webhook: u64,
}

/// What is to be erased.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By place.
    pub(super) events: Vec<u64>,
    /// Those that no event names, by number.
    pub(super) webhooks: Vec<u64>,
}

impl Search {
    pub(super) fn new(whose: Whose) -> Self {
        let by_number = matches!(whose, Whose::Number(_));
        let (mark, subjects, strangers) = match whose {
            Whose::Subject { subject, strangers } => {
                let id = subject.split_once('/').map_or(subject.as_str(), |(_, id)| id);
                (Mark::Value(id.to_owned()), HashSet::from([subject]), strangers)
            }
            Whose::Number(number) => (Mark::number(&number), HashSet::new(), Vec::new()),
        };
        Self {
            mark,
            strangers: strangers.into(),
            by_number,
            subjects: Arc::new(subjects),
            event: 0,
            webhook: 0,
        }
    }
}

impl Readers {
    /// What is to be erased of everything, and from the second time on of what came since.
    pub(super) async fn find(&self, search: &mut Search) -> Result<Found, Error> {
        let mut found = Found::default();
        // Before the events: what leaves quarantine meanwhile is found among those then.
        loop {
            let (mark, strangers, after) = (search.mark.clone(), Arc::clone(&search.strangers), search.webhook);
            let page = self.ask(move |connection| webhooks_of(connection, &mark, &strangers, after));
            let (page, last) = page.await?;
            found.webhooks.extend(page);
            let Some(last) = last else { break };
            search.webhook = last;
        }
        let (known, mut after) = (search.subjects.len(), search.event);
        if search.by_number {
            loop {
                let (mark, after) = (search.mark.clone(), search.event);
                let page = self.ask(move |connection| subjects_of(connection, &mark, after));
                let (page, last) = page.await?;
                Arc::make_mut(&mut search.subjects).extend(page);
                let Some(last) = last else { break };
                search.event = last;
            }
        }
        if search.subjects.len() > known {
            // What a call's other events say of the person goes, too.
            after = 0;
        }
        loop {
            let wanted = Arc::clone(&search.subjects);
            let page = self.ask(move |connection| places_of(connection, &wanted, after));
            let (page, last) = page.await?;
            found.events.extend(page);
            let Some(last) = last else { break };
            after = last;
        }
        if !search.by_number {
            search.event = after;
        }
        Ok(found)
    }
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.webhooks.is_empty()
    }
}

/// The subjects of the next of those events that a number has a part in, by a party of the call or by the lead; and the
/// last place looked at, unless it is the end.
fn subjects_of(connection: &Connection, mark: &Mark, after: u64) -> Result<(Vec<String>, Option<u64>)> {
    let mut statement = connection.prepare_cached(
        "SELECT event.seq, subject, numbers, octet_length(json),
                iif(instr(json, '\"lead\"'), json_extract(json, '$.data.lead.phone'), NULL)
         FROM event JOIN event_json ON event_json.seq = event.seq
         WHERE event.seq > ? ORDER BY event.seq LIMIT ?",
    )?;
    let mut rows = statement.query(params![place(after), place(PAGE)])?;
    let (mut found, mut last, mut bytes) = (Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        let said = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_bytes_or_null()?.unwrap_or_default());
        if mark.is_in(said(2)?) || mark.is_in(said(4)?) {
            found.push(row.get(1)?);
        }
        bytes += row.get::<_, usize>(3)?;
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok((found, last))
}

fn places_of(connection: &Connection, subjects: &HashSet<String>, after: u64) -> Result<(Vec<u64>, Option<u64>)> {
    let mut statement =
        connection.prepare_cached("SELECT seq, subject FROM event WHERE seq > ? ORDER BY seq LIMIT ?")?;
    let mut rows = statement.query(params![place(after), place(PAGE)])?;
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        last = Some(seq);
        if subjects.contains(row.get_ref(1)?.as_str()?) {
            found.push(seq);
        }
    }
    Ok((found, last))
}

/// The next of those webhooks that no event names and that speak of it; and the last one looked at, unless it is the end.
fn webhooks_of(
    connection: &Connection,
    mark: &Mark,
    strangers: &[String],
    after: u64,
) -> Result<(Vec<u64>, Option<u64>)> {
    let ends = "SELECT (SELECT min(number) FROM webhook WHERE number > ?), (SELECT max(number) FROM webhook)";
    let (first, newest): (Option<u64>, Option<u64>) = connection
        .prepare_cached(ends)?
        .query_row([place(after)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(newest)) = (first, newest) else {
        return Ok((Vec::new(), None));
    };
    let last = newest.min(first + PAGE);
    let mut statement = connection.prepare_cached(
        "SELECT number, route, target, payload, body FROM webhook
         WHERE number >= ? AND number <= ? AND target <> ''
           AND NOT EXISTS (SELECT 1 FROM event WHERE event.webhook = webhook.number)
         ORDER BY number LIMIT ?",
    )?;
    let mut rows = statement.query(params![first, last, CONTENT_PAGE as i64])?;
    let (mut found, mut looked_at, mut number) = (Vec::new(), 0, first);
    while let Some(row) = rows.next()? {
        number = row.get(0)?;
        looked_at += 1;
        let route = row.get_ref(1)?.as_str()?;
        if strangers.iter().any(|stranger| stranger == route) {
            continue;
        }
        let content = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_bytes_or_null()?.unwrap_or_default());
        if mark.is_in_target(row.get_ref(2)?.as_str()?) || mark.is_in(content(3)?) || mark.is_in(content(4)?) {
            found.push(number);
        }
    }
    Ok((found, Some(if looked_at == CONTENT_PAGE { number } else { last })))
}

/// What one transaction erases.
#[derive(Debug)]
pub(super) enum Erase {
    /// By place.
    Events(Vec<u64>),
    /// By number.
    Webhooks(Vec<u64>),
}

pub(super) fn erase(connection: &Connection, draft: &mut Draft, what: &Erase) -> Result<()> {
    // Overwrites what is no longer used instead of only letting go of it.
    connection.pragma_update(None, "secure_delete", true)?;
    let erased = match what {
        Erase::Events(seqs) => seqs.iter().try_for_each(|seq| erase_event(connection, *seq)),
        Erase::Webhooks(numbers) => numbers.iter().try_for_each(|number| {
            empty_webhook(connection, *number)?;
            connection
                .prepare_cached("DELETE FROM quarantine WHERE number = ?")?
                .execute([number])
                .map(drop)
        }),
    };
    connection.pragma_update(None, "secure_delete", false)?;
    draft.erased = true;
    erased
}

fn erase_event(connection: &Connection, seq: u64) -> Result<()> {
    let event = connection
        .prepare_cached("SELECT id, route, time_us, webhook FROM event WHERE seq = ?")?
        .query_row([seq], |row| {
            Ok((
                read::id(row, 0)?,
                row.get::<_, String>(1)?,
                time(row, 2)?,
                row.get::<_, u64>(3)?,
            ))
        })
        .optional()?;
    let Some((id, route, time, webhook)) = event else {
        return Ok(());
    };
    let tombstone = serde_json::json!({
        "specversion": "1.0", "id": id.as_str(), "source": format!("/routes/{route}"), "type": ERASED,
        "time": time.to_string(), "sequence": seq.to_string(),
    });
    connection
        .prepare_cached("UPDATE event_json SET json = ? WHERE seq = ?")?
        .execute(params![tombstone.to_string(), seq])?;
    connection
        .prepare_cached(
            "UPDATE event SET kind = ?, subject = '', numbers = NULL, duration_seconds = NULL WHERE seq = ?",
        )?
        .execute(params![ERASED, seq])?;
    connection
        .prepare_cached("UPDATE attempt SET request_headers = '', response = '' WHERE seq = ?")?
        .execute([seq])?;
    empty_webhook(connection, webhook)
}

/// The row stays: the newest one carries the numbering.
fn empty_webhook(connection: &Connection, number: u64) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE webhook SET target = '', peer = NULL, form = '', payload = NULL, headers = '[]', body = x''
             WHERE number = ?",
        )?
        .execute([number])
        .map(drop)
}
