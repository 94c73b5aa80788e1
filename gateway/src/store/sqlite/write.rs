//! What the writer does inside a transaction. Every statement that changes the feed is here.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{
    Connection, OptionalExtension as _, Result, ToSql, params,
    types::{ToSqlOutput, ValueRef},
};
use sha2::{Digest as _, Sha256};

use super::retention::Sweep;
use crate::{
    event::{ERASED, Event, Kept, RawWebhook},
    store::{
        Breaker, Mapped, Place, Progress, Receipt, Replay, Settlement, Steady, Stopped, Submission, Waiting, Wishes,
    },
};

/// Where the numbering is, and what the open transaction added to it. Copied before a transaction and taken over after
/// it is durable.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) head: u64,
    pub(super) last_webhook: u64,
    /// In order, gapless, ending with the head.
    pub(super) kept: Vec<Arc<Kept>>,
    /// Whether something was erased.
    pub(super) erased: bool,
    /// Where the next step of retention goes on, per table; 0 is the beginning.
    pub(super) sweep: Sweep,
}

impl Draft {
    pub(super) fn load(connection: &Connection) -> Result<Self> {
        let newest = |sql| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
        Ok(Self {
            head: newest("SELECT ifnull(max(seq), 0) FROM event")?,
            last_webhook: newest("SELECT ifnull(max(number), 0) FROM webhook")?,
            ..Self::default()
        })
    }
}

pub(super) fn begin(connection: &Connection) -> Result<()> {
    run(connection, "BEGIN IMMEDIATE")
}

pub(super) fn commit(connection: &Connection) -> Result<()> {
    run(connection, "COMMIT")
}

pub(super) fn rollback(connection: &Connection) -> Result<()> {
    run(connection, "ROLLBACK")
}

/// Runs the work so that its failure leaves the transaction as it was before.
pub(super) fn apart<T>(connection: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    run(connection, "SAVEPOINT apart")?;
    let result = work();
    if result.is_err() {
        run(connection, "ROLLBACK TO apart")?;
    }
    run(connection, "RELEASE apart")?;
    result
}

fn run(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Writes a page and changes nothing, to learn whether the disk takes it.
pub(super) fn probe(connection: &Connection) -> Result<()> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    connection.pragma_update(None, "user_version", version)
}

pub(super) fn keep(connection: &Connection, draft: &mut Draft, now: Timestamp, it: &Submission) -> Result<Receipt> {
    match &it.outcome {
        Mapped::Events(events) => {
            let mut number = None;
            let webhook = |draft: &mut Draft| match number {
                Some(number) => Ok(number),
                None => add_webhook(connection, draft, &it.webhook).inspect(|added| number = Some(*added)),
            };
            add_events(connection, draft, now, &it.webhook.route, events, webhook).map(Receipt::Events)
        }
        Mapped::Quarantined { reason, detail } => {
            let key = quarantine_key(&it.webhook);
            let known = connection
                .prepare_cached("SELECT number FROM quarantine WHERE key = ?")?
                .query_row([key], |row| row.get(0))
                .optional()?;
            if let Some(number) = known {
                return Ok(Receipt::Quarantined(number));
            }
            let number = add_webhook(connection, draft, &it.webhook)?;
            connection
                .prepare_cached("INSERT INTO quarantine (number, reason, detail, key) VALUES (?, ?, ?, ?)")?
                .execute(params![number, reason.as_str(), detail, key])?;
            Ok(Receipt::Quarantined(number))
        }
    }
}

pub(super) fn keep_again(
    connection: &Connection,
    draft: &mut Draft,
    now: Timestamp,
    webhook: u64,
    outcome: &Mapped,
) -> Result<Option<Receipt>> {
    let route: Option<String> = connection
        .prepare_cached("SELECT route FROM webhook WHERE number = ? AND target <> ''")?
        .query_row([webhook], |row| row.get(0))
        .optional()?;
    let Some(route) = route else { return Ok(None) };
    let receipt = match outcome {
        Mapped::Events(events) => {
            let places = add_events(connection, draft, now, &route, events, |_| Ok(webhook))?;
            connection
                .prepare_cached("DELETE FROM quarantine WHERE number = ?")?
                .execute([webhook])?;
            Receipt::Events(places)
        }
        Mapped::Quarantined { reason, detail } => {
            connection
                .prepare_cached("UPDATE quarantine SET reason = ?, detail = ? WHERE number = ?")?
                .execute(params![reason.as_str(), detail, webhook])?;
            Receipt::Quarantined(webhook)
        }
    };
    Ok(Some(receipt))
}

/// Adds those that are new, of a webhook that is asked for when one is.
fn add_events(
    connection: &Connection,
    draft: &mut Draft,
    now: Timestamp,
    route: &str,
    events: &[Event],
    mut webhook: impl FnMut(&mut Draft) -> Result<u64>,
) -> Result<Vec<Place>> {
    let mut places = Vec::with_capacity(events.len());
    for event in events {
        let seq = draft.head + 1;
        if let Some(seq) = known(connection, event, seq)? {
            places.push(Place::Known(seq));
            continue;
        }
        let webhook = webhook(draft)?;
        let kept = add_event(connection, seq, now, webhook, route, event)?;
        draft.head = seq;
        draft.kept.push(Arc::new(kept));
        places.push(Place::New(seq));
    }
    Ok(places)
}

/// What makes two webhooks the same one where no plugin can say it. Headers differ each time a provider tries again.
fn quarantine_key(webhook: &RawWebhook) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [webhook.route.as_bytes(), webhook.target.as_bytes(), &webhook.body] {
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// The place of an event that is already in the feed; otherwise its key is taken for the place it will have.
fn known(connection: &Connection, event: &Event, seq: u64) -> Result<Option<u64>> {
    let key = event.id.key();
    let taken = connection
        .prepare_cached("INSERT INTO event_key (key, seq) VALUES (?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![key, seq])?;
    if taken == 1 {
        return Ok(None);
    }
    connection
        .prepare_cached("SELECT seq FROM event_key WHERE key = ?")?
        .query_row([key], |row| row.get(0))
        .map(Some)
}

fn add_webhook(connection: &Connection, draft: &mut Draft, webhook: &RawWebhook) -> Result<u64> {
    let number = draft.last_webhook + 1;
    connection
        .prepare_cached(
            "INSERT INTO webhook (number, received_at_us, route, method, target, peer, form, payload, headers, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            number,
            us(webhook.received_at),
            webhook.route,
            webhook.method,
            webhook.target,
            webhook.peer,
            webhook.form,
            webhook.payload,
            json(&webhook.headers),
            &webhook.body[..],
        ])?;
    draft.last_webhook = number;
    Ok(number)
}

fn add_event(
    connection: &Connection,
    seq: u64,
    kept_at: Timestamp,
    webhook: u64,
    route: &str,
    event: &Event,
) -> Result<Kept> {
    let json = event.close_json(seq);
    connection
        .prepare_cached("INSERT INTO event_json (seq, json) VALUES (?, ?)")?
        .execute(params![seq, Text(&json)])?;
    let numbers = (!event.facts.numbers.is_empty()).then(|| self::json(&event.facts.numbers));
    connection
        .prepare_cached(
            "INSERT INTO event (seq, kept_at_us, time_us, webhook, id, kind, route, subject, numbers,
                                duration_seconds, test)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            seq,
            us(kept_at),
            us(event.time),
            webhook,
            event.id.as_str(),
            event.kind,
            route,
            event.subject,
            numbers,
            event.facts.duration_seconds,
            event.facts.test,
        ])?;
    Ok(Kept {
        seq,
        id: event.id,
        kind: event.kind.clone(),
        subject: event.subject.clone(),
        route: route.to_owned(),
        time: event.time,
        kept_at,
        facts: event.facts.clone(),
        json,
    })
}

pub(super) fn settle(connection: &Connection, now: Timestamp, it: &Settlement) -> Result<()> {
    let subscriber = subscriber(connection, &it.subscriber, it.cursor)?;
    connection
        .prepare_cached(
            "UPDATE subscriber SET cursor = max(cursor, ?2), steady_at_us = ?3, ahead_us = ?4 WHERE id = ?1",
        )?
        .execute(params![subscriber, it.cursor, us(it.steady.at), us_of(it.steady.ahead)])?;

    let mut wait = connection.prepare_cached(
        "INSERT INTO waiting (seq, subscriber, attempts, begun_after, due_at_us) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET attempts = excluded.attempts, begun_after = excluded.begun_after,
                                   due_at_us = excluded.due_at_us",
    )?;
    let mut wait_no_more = connection.prepare_cached("DELETE FROM waiting WHERE seq = ? AND subscriber = ?")?;
    let mut revive = connection.prepare_cached("DELETE FROM dead WHERE seq = ? AND subscriber = ?")?;
    for waiting in &it.waiting {
        wait.execute(params![
            waiting.seq,
            subscriber,
            waiting.attempts,
            waiting.begun_after,
            us(waiting.due_at)
        ])?;
        // A replayed delivery is no longer dead.
        revive.execute(params![waiting.seq, subscriber])?;
    }
    for seq in &it.delivered {
        wait_no_more.execute(params![seq, subscriber])?;
        revive.execute(params![seq, subscriber])?;
    }
    for seq in &it.dead {
        wait_no_more.execute(params![seq, subscriber])?;
        connection
            .prepare_cached("INSERT OR REPLACE INTO dead (seq, subscriber, at_us) VALUES (?, ?, ?)")?
            .execute(params![seq, subscriber, us(now)])?;
    }

    // After a crash an attempt may be made again under the same number; the later one is the one to know about. One that
    // was under way while its event was erased may have brought its content back.
    let mut record = connection.prepare_cached(
        "INSERT OR REPLACE INTO attempt (seq, subscriber, number, at_us, duration_us, status, outcome,
                                         request_headers, response)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(erased, '', ?8), iif(erased, '', ?9)
         FROM (SELECT EXISTS (SELECT 1 FROM event WHERE seq = ?1 AND kind = ?10) AS erased)",
    )?;
    for attempt in &it.attempts {
        record.execute(params![
            attempt.seq,
            subscriber,
            attempt.number,
            us(attempt.at),
            i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
            attempt.status,
            attempt.outcome,
            attempt.request_headers,
            attempt.response,
            ERASED,
        ])?;
    }

    if let Some(ticket) = it.replays_known {
        connection
            .prepare_cached("DELETE FROM replay WHERE subscriber = ? AND ticket <= ?")?
            .execute(params![subscriber, ticket])?;
    }
    if let Some(stopped) = &it.stopped {
        connection
            .prepare_cached("UPDATE subscriber SET stopped_at_us = ?, stopped_reason = ? WHERE id = ?")?
            .execute(params![us(stopped.at), stopped.reason, subscriber])?;
    }
    if let Some(breaker) = &it.breaker {
        connection
            .prepare_cached(
                "UPDATE subscriber SET failures_in_a_row = ?, not_before_us = ?, in_flight_limit = ? WHERE id = ?",
            )?
            .execute(params![
                breaker.failures_in_a_row,
                breaker.not_before.map(us),
                breaker.in_flight_limit,
                subscriber,
            ])?;
    }
    Ok(())
}

/// The number of a subscriber. One never seen starts at this cursor.
fn subscriber(connection: &Connection, name: &str, cursor: u64) -> Result<i64> {
    let known = connection
        .prepare_cached("SELECT id FROM subscriber WHERE name = ?")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO subscriber (name, cursor) VALUES (?, ?) RETURNING id")?
        .query_row(params![name, cursor], |row| row.get(0))
}

/// One never seen begins after this place, or at the head.
pub(super) fn progress(connection: &Connection, draft: &Draft, name: &str, begin: Option<u64>) -> Result<Progress> {
    let subscriber = subscriber(connection, name, begin.unwrap_or(draft.head))?;
    let (cursor, stopped, breaker, steady): (u64, _, _, _) = connection
        .prepare_cached(
            "SELECT cursor, stopped_at_us, stopped_reason, failures_in_a_row, not_before_us, in_flight_limit,
                    steady_at_us, ahead_us
             FROM subscriber WHERE id = ?",
        )?
        .query_row([subscriber], |row| {
            Ok((row.get(0)?, stopped(row, 1)?, breaker(row, 3)?, steady(row, 6)?))
        })?;
    let waiting = connection
        .prepare_cached(
            "SELECT waiting.seq, event.subject, waiting.attempts, waiting.begun_after, waiting.due_at_us,
                    event.kept_at_us
             FROM waiting JOIN event ON event.seq = waiting.seq WHERE waiting.subscriber = ? ORDER BY waiting.seq",
        )?
        .query_map([subscriber], |row| {
            Ok(Waiting {
                seq: row.get(0)?,
                subject: row.get(1)?,
                attempts: row.get(2)?,
                begun_after: row.get(3)?,
                due_at: time(row, 4)?,
                kept_at: time(row, 5)?,
            })
        })?
        .collect::<Result<_>>()?;
    let dead_ahead = connection
        .prepare_cached("SELECT seq FROM dead WHERE seq > ? AND subscriber = ? ORDER BY seq")?
        .query_map(params![cursor, subscriber], |row| row.get(0))?
        .collect::<Result<_>>()?;
    Ok(Progress {
        cursor,
        waiting,
        dead_ahead,
        stopped,
        breaker,
        steady,
        replays: replays(connection, subscriber)?,
    })
}

pub(super) fn wishes(connection: &Connection, name: &str) -> Result<Wishes> {
    let known = connection
        .prepare_cached("SELECT id, stopped_at_us, stopped_reason FROM subscriber WHERE name = ?")?
        .query_row([name], |row| Ok((row.get(0)?, stopped(row, 1)?)))
        .optional()?;
    let Some((subscriber, stopped)) = known else {
        return Ok(Wishes::default());
    };
    Ok(Wishes {
        stopped,
        replays: replays(connection, subscriber)?,
    })
}

fn replays(connection: &Connection, subscriber: i64) -> Result<Vec<Replay>> {
    connection
        .prepare_cached(
            "SELECT replay.ticket, replay.seq, event.subject, event.kept_at_us,
                    (SELECT ifnull(max(number), 0) FROM attempt
                     WHERE attempt.seq = replay.seq AND attempt.subscriber = replay.subscriber)
             FROM replay CROSS JOIN event ON event.seq = replay.seq
             WHERE replay.subscriber = ? ORDER BY replay.ticket",
        )?
        .query_map([subscriber], |row| {
            Ok(Replay {
                ticket: row.get(0)?,
                seq: row.get(1)?,
                subject: row.get(2)?,
                kept_at: time(row, 3)?,
                attempts: row.get(4)?,
            })
        })?
        .collect()
}

/// In the retry set at once, so that its event stays and it is dead no longer, and with a ticket, which outlives whatever
/// the subscriber's loop records of the delivery before it knows.
pub(super) fn replay(connection: &Connection, now: Timestamp, name: &str, seqs: &[u64]) -> Result<()> {
    let mut wait = connection.prepare_cached(
        "INSERT INTO waiting (seq, subscriber, attempts, begun_after, due_at_us)
         SELECT event.seq, ?2, last.number, last.number, ?3 + (SELECT ahead_us FROM subscriber WHERE id = ?2)
         FROM event CROSS JOIN (SELECT ifnull(max(number), 0) AS number FROM attempt
                                WHERE seq = ?1 AND subscriber = ?2) AS last
         WHERE event.seq = ?1
         ON CONFLICT DO NOTHING",
    )?;
    let mut revive = connection.prepare_cached("DELETE FROM dead WHERE seq = ? AND subscriber = ?")?;
    let mut ask =
        connection.prepare_cached("INSERT INTO replay (seq, subscriber) SELECT seq, ?2 FROM event WHERE seq = ?1")?;
    let subscriber = subscriber(connection, name, 0)?;
    for seq in seqs {
        wait.execute(params![seq, subscriber, us(now)])?;
        revive.execute(params![seq, subscriber])?;
        ask.execute(params![seq, subscriber])?;
    }
    Ok(())
}

pub(super) fn resume(connection: &Connection, name: &str) -> Result<()> {
    connection
        .prepare_cached("UPDATE subscriber SET stopped_at_us = NULL, stopped_reason = NULL WHERE name = ?")?
        .execute([name])
        .map(drop)
}

pub(super) fn us(time: Timestamp) -> i64 {
    time.as_microsecond()
}

pub(super) fn time(row: &rusqlite::Row<'_>, index: usize) -> Result<Timestamp> {
    Timestamp::from_microsecond(row.get(index)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Integer, error.into()))
}

fn time_if_any(row: &rusqlite::Row<'_>, index: usize) -> Result<Option<Timestamp>> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        _ => time(row, index).map(Some),
    }
}

/// Two columns, the time and the reason.
pub(super) fn stopped(row: &rusqlite::Row<'_>, index: usize) -> Result<Option<Stopped>> {
    let Some(at) = time_if_any(row, index)? else {
        return Ok(None);
    };
    Ok(Some(Stopped {
        at,
        reason: row.get::<_, Option<String>>(index + 1)?.unwrap_or_default(),
    }))
}

/// Three columns, as they are named in the schema.
fn breaker(row: &rusqlite::Row<'_>, index: usize) -> Result<Breaker> {
    Ok(Breaker {
        failures_in_a_row: row.get(index)?,
        not_before: time_if_any(row, index + 1)?,
        in_flight_limit: row.get(index + 2)?,
    })
}

/// Two columns, as they are named in the schema.
fn steady(row: &rusqlite::Row<'_>, index: usize) -> Result<Option<Steady>> {
    let ahead = SignedDuration::from_micros(row.get(index + 1)?);
    Ok(time_if_any(row, index)?.map(|at| Steady { at, ahead }))
}

fn us_of(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of text are always JSON")
}

/// Bytes that are known to be UTF-8, so that they need not be looked through again.
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}
