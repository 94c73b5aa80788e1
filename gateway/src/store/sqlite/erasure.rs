//! What a call or a person left in the store: found beside the writer, and overwritten by it.

use std::{collections::HashSet, sync::Arc};

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::{
    read::{self, Readers, place},
    write::{Draft, time},
};
use crate::{
    event::ERASED,
    store::{Error, Whose},
};

/// Events, and webhooks in quarantine, that one question looks through for what is to be erased.
const FIND_PAGE: i64 = 20_000;
const QUARANTINE_PAGE: usize = 500;

impl Readers {
    /// Everything that is to be erased.
    pub(super) async fn find(&self, whose: Whose) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut subjects: HashSet<String> = HashSet::new();
        match whose.clone() {
            Whose::Subject(subject) => drop(subjects.insert(subject)),
            Whose::Number(number) => {
                let mut after = 0;
                loop {
                    let number = number.clone();
                    let (page, last) = self
                        .ask(move |connection| subjects_of(connection, &number, after))
                        .await?;
                    subjects.extend(page);
                    let Some(last) = last else { break };
                    after = last;
                }
            }
        }
        // What a call's other events say of the person goes, too.
        let (subjects, mut after) = (Arc::new(subjects), 0);
        loop {
            let wanted = Arc::clone(&subjects);
            let (page, last) = self
                .ask(move |connection| places_of(connection, &wanted, after))
                .await?;
            found.events.extend(page);
            let Some(last) = last else { break };
            after = last;
        }
        let word = match &whose {
            Whose::Subject(subject) => subject.split_once('/').map_or(subject.as_str(), |(_, id)| id),
            Whose::Number(number) => number.trim_start_matches('+'),
        };
        let mut before = None;
        loop {
            let page = self.quarantine(QUARANTINE_PAGE, before).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.number);
            let speaking = page
                .iter()
                .filter(|entry| speaks_of(&entry.webhook.body, word.as_bytes()));
            found.quarantined.extend(speaking.map(|entry| entry.number));
        }
        Ok(found)
    }
}

/// What is to be erased.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By place.
    pub(super) events: Vec<u64>,
    /// By number.
    pub(super) quarantined: Vec<u64>,
}

/// The subjects of events that a number has a part in, of the next events; and the last place looked at, unless it is the
/// end.
fn subjects_of(connection: &Connection, number: &str, after: u64) -> Result<(Vec<String>, Option<u64>)> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, iif(EXISTS (SELECT 1 FROM json_each(numbers) WHERE value = ?), subject, NULL)
         FROM event WHERE seq > ? ORDER BY seq LIMIT ?",
    )?;
    let rows = statement.query_map(params![number, place(after), FIND_PAGE], |row| {
        Ok((row.get::<_, u64>(0)?, row.get::<_, Option<String>>(1)?))
    })?;
    let (mut found, mut last) = (Vec::new(), None);
    for row in rows {
        let (seq, subject) = row?;
        last = Some(seq);
        found.extend(subject);
    }
    Ok((found, last))
}

fn places_of(connection: &Connection, subjects: &HashSet<String>, after: u64) -> Result<(Vec<u64>, Option<u64>)> {
    let mut statement =
        connection.prepare_cached("SELECT seq, subject FROM event WHERE seq > ? ORDER BY seq LIMIT ?")?;
    let mut rows = statement.query(params![place(after), FIND_PAGE])?;
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

/// Whether a body has this word, and not only as a part of a longer one.
fn speaks_of(body: &[u8], word: &[u8]) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    !word.is_empty()
        && body.windows(word.len()).enumerate().any(|(start, window)| {
            window == word
                && !is_part(start.checked_sub(1).and_then(|before| body.get(before)))
                && !is_part(body.get(start + word.len()))
        })
}

/// What one transaction erases.
#[derive(Debug)]
pub(super) enum Erase {
    /// By place.
    Events(Vec<u64>),
    /// By the number of the webhook.
    Quarantined(Vec<u64>),
}

pub(super) fn erase(connection: &Connection, draft: &mut Draft, what: &Erase) -> Result<()> {
    // Overwrites what is no longer used instead of only letting go of it.
    connection.pragma_update(None, "secure_delete", true)?;
    let erased = match what {
        Erase::Events(seqs) => seqs.iter().try_for_each(|seq| erase_event(connection, *seq)),
        Erase::Quarantined(numbers) => numbers.iter().try_for_each(|number| {
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
