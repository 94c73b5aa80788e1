//! What is read beside the writer: the feed behind its tail, and history. Every question is a closure on one of a few
//! connections, on a thread that may wait, in short reads that never hold the log back for long.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Params, Result, Row, named_params, params, types::Type};
use tokio::sync::Semaphore;

use super::{
    blocking, file,
    write::{stopped, time, us},
};
use crate::{
    event::{ERASED, EventId, Facts, Kept, RawWebhook},
    store::{Attempt, Counts, Delivery, DeliveryState, Error, Quarantined, Query, Replayable, Subscriber},
};

const CONNECTIONS_MAX: u32 = 4;

/// Events that one question looks through for where to begin.
const BEGIN_PAGE: i64 = 500_000;

/// A list ends early when it has grown this large.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// A question that takes longer is given up: while it runs, the log cannot begin anew.
const QUESTION_MAX: Duration = Duration::from_secs(30);

const EVENT: &str = "event.seq, event.id, event.kind, event.subject, event.route, event.time_us, event.kept_at_us,
                     event.numbers, event.duration_seconds, event.test, event_json.json";
const EVENT_FROM: &str = "event JOIN event_json ON event_json.seq = event.seq";
const WEBHOOK: &str = "webhook.route, webhook.received_at_us, webhook.method, webhook.target, webhook.headers,
                       webhook.peer, webhook.body, webhook.form, webhook.payload";

/// Conditions of a [`Query`] that an event meets or not. Each is open when its parameter is NULL.
const MATCHES: &str = "(:route IS NULL OR event.route = :route)
                   AND (:subject IS NULL OR event.subject = :subject)
                   AND (:kind IS NULL OR event.kind = :kind)
                   AND (:kind_prefix IS NULL OR substr(event.kind, 1, length(:kind_prefix)) = :kind_prefix)
                   AND (:since IS NULL OR event.kept_at_us >= :since)";

/// A few connections that only read.
#[derive(Debug)]
pub(in crate::store) struct Readers {
    path: PathBuf,
    /// One each for a connection that may be in use.
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// For a process that does not write.
    pub(in crate::store) async fn open(path: PathBuf) -> Result<Self, Error> {
        blocking(move || {
            file::prove_readable(&path)?;
            Ok(Self::of(&path))
        })
        .await?
    }

    /// Connections are made when they are first needed.
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
            idle: Arc::default(),
        }
    }

    /// Waits for those who read and refuses everyone after them.
    pub(super) async fn close(&self) {
        let all = self.permits.acquire_many(CONNECTIONS_MAX).await;
        self.permits.close();
        drop(all);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::Read("it is closed".to_owned()))?;
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let answer = blocking(move || {
            let last = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match last {
                Some(connection) => connection,
                None => file::reader(&path)?,
            };
            let started = Instant::now();
            connection.progress_handler(10_000, Some(move || started.elapsed() > QUESTION_MAX))?;
            let answer = question(&connection);
            // After a failure a fresh connection is the safer one.
            if answer.is_ok() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            drop(permit);
            answer
        });
        answer
            .await?
            .map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => Error::Read(format!(
                    "it took longer than {} s; ask for less",
                    QUESTION_MAX.as_secs()
                )),
                _ => Error::Read(error.to_string()),
            })
    }

    pub(super) async fn feed(&self, after: u64, limit: usize) -> Result<Vec<Arc<Kept>>, Error> {
        self.ask(move |connection| {
            let sql = format!("SELECT {EVENT} FROM {EVENT_FROM} WHERE event.seq > ? ORDER BY event.seq LIMIT ?");
            let row = |row: &Row<'_>| event(row).map(Arc::new);
            list(connection, &sql, params![place(after), limit as i64], row, |event| {
                event.json.len()
            })
        })
        .await
    }

    /// One for each place, in that order.
    pub(super) async fn fetch(&self, seqs: Vec<u64>) -> Result<Vec<Option<Arc<Kept>>>, Error> {
        self.ask(move |connection| {
            let sql = format!("SELECT {EVENT} FROM {EVENT_FROM} WHERE event.seq = ? AND event.kind <> '{ERASED}'");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = Vec::with_capacity(seqs.len());
            for seq in seqs {
                found.push(
                    statement
                        .query_row([place(seq)], |row| event(row).map(Arc::new))
                        .optional()?,
                );
            }
            Ok(found)
        })
        .await
    }

    /// The last place before the first event that was kept at this time or later; the head when there is none. `None` for
    /// a subscriber that has begun already.
    pub(super) async fn place_to_begin(&self, subscriber: &str, since: Timestamp) -> Result<Option<u64>, Error> {
        let name = subscriber.to_owned();
        let known = self.ask(move |connection| {
            let mut known = connection.prepare_cached("SELECT 1 FROM subscriber WHERE name = ?")?;
            known.exists([name])
        });
        if known.await? {
            return Ok(None);
        }
        let mut before = 0;
        loop {
            let (place, done) = self
                .ask(move |connection| before_first_since(connection, since, before))
                .await?;
            if done {
                return Ok(Some(place));
            }
            before = place;
        }
    }

    pub(in crate::store) async fn events(&self, query: Query) -> Result<Vec<Kept>, Error> {
        self.ask(move |connection| {
            let (kind, kind_prefix) = kinds(&query);
            let sql = format!(
                "SELECT {EVENT} FROM {EVENT_FROM}
                 WHERE event.seq < :before AND event.seq >= :from AND {MATCHES} ORDER BY event.seq DESC LIMIT :limit"
            );
            let parameters = named_params! {
                ":before": before(query.before), ":from": from_place(connection, &query)?, ":route": query.route,
                ":subject": query.subject, ":kind": kind, ":kind_prefix": kind_prefix,
                ":since": query.since.map(us), ":limit": query.limit as i64,
            };
            list(connection, &sql, parameters, event, |event| event.json.len())
        })
        .await
    }

    pub(in crate::store) async fn event(&self, id: EventId) -> Result<Option<Kept>, Error> {
        self.ask(move |connection| {
            let sql =
                format!("SELECT {EVENT} FROM {EVENT_FROM} WHERE event.seq = (SELECT seq FROM event_key WHERE key = ?)");
            connection.prepare_cached(&sql)?.query_row([id.key()], event).optional()
        })
        .await
    }

    pub(in crate::store) async fn knows(&self, id: EventId) -> Result<bool, Error> {
        self.ask(move |connection| {
            let sql = "SELECT 1 FROM event_key WHERE key = ?";
            connection.prepare_cached(sql)?.exists([id.key()])
        })
        .await
    }

    pub(in crate::store) async fn deliveries(&self, query: Query) -> Result<Vec<Delivery>, Error> {
        self.ask(move |connection| deliveries(connection, &query)).await
    }

    pub(in crate::store) async fn attempts(
        &self,
        id: EventId,
        subscriber: Option<String>,
    ) -> Result<Vec<(String, Attempt)>, Error> {
        self.ask(move |connection| {
            let sql = "SELECT subscriber.name, attempt.seq, attempt.number, attempt.at_us, attempt.duration_us,
                              attempt.status, attempt.outcome, attempt.request_headers, attempt.response
                       FROM attempt JOIN subscriber ON subscriber.id = attempt.subscriber
                       WHERE attempt.seq = (SELECT seq FROM event_key WHERE key = :key)
                         AND (:subscriber IS NULL OR subscriber.name = :subscriber)
                       ORDER BY attempt.subscriber, attempt.number";
            let attempt = |row: &Row<'_>| {
                let attempt = Attempt {
                    seq: row.get(1)?,
                    number: row.get(2)?,
                    at: time(row, 3)?,
                    duration: Duration::from_micros(row.get(4)?),
                    status: row.get(5)?,
                    outcome: row.get(6)?,
                    request_headers: row.get(7)?,
                    response: row.get(8)?,
                };
                Ok((row.get(0)?, attempt))
            };
            let parameters = named_params! { ":key": id.key(), ":subscriber": subscriber };
            list(connection, sql, parameters, attempt, |(_, attempt)| {
                attempt.request_headers.len() + attempt.response.len()
            })
        })
        .await
    }

    pub(in crate::store) async fn quarantine(
        &self,
        limit: usize,
        before_number: Option<u64>,
    ) -> Result<Vec<Quarantined>, Error> {
        self.ask(move |connection| {
            let sql = format!(
                "SELECT {WEBHOOK}, quarantine.number, quarantine.reason, quarantine.detail
                 FROM quarantine JOIN webhook ON webhook.number = quarantine.number
                 WHERE quarantine.number < ? ORDER BY quarantine.number DESC LIMIT ?"
            );
            let parameters = params![before(before_number), limit as i64];
            list(connection, &sql, parameters, quarantined, |it| it.webhook.body.len())
        })
        .await
    }

    pub(in crate::store) async fn quarantined(&self, number: u64) -> Result<Option<Quarantined>, Error> {
        self.ask(move |connection| {
            let sql = format!(
                "SELECT {WEBHOOK}, quarantine.number, quarantine.reason, quarantine.detail
                 FROM quarantine JOIN webhook ON webhook.number = quarantine.number WHERE quarantine.number = ?"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_row([place(number)], quarantined).optional()
        })
        .await
    }

    pub(in crate::store) async fn webhook(&self, id: EventId) -> Result<Option<RawWebhook>, Error> {
        self.ask(move |connection| {
            let sql = format!(
                "SELECT {WEBHOOK} FROM event JOIN webhook ON webhook.number = event.webhook
                 WHERE event.seq = (SELECT seq FROM event_key WHERE key = ?)"
            );
            connection
                .prepare_cached(&sql)?
                .query_row([id.key()], webhook)
                .optional()
        })
        .await
    }

    pub(in crate::store) async fn webhook_numbered(&self, number: u64) -> Result<Option<RawWebhook>, Error> {
        self.ask(move |connection| {
            let sql = format!("SELECT {WEBHOOK} FROM webhook WHERE number = ?");
            connection
                .prepare_cached(&sql)?
                .query_row([place(number)], webhook)
                .optional()
        })
        .await
    }

    pub(in crate::store) async fn webhooks(
        &self,
        route: String,
        since: Timestamp,
        after: u64,
        limit: usize,
    ) -> Result<Vec<u64>, Error> {
        self.ask(move |connection| {
            let sql = "SELECT number FROM webhook
                       WHERE number > ? AND route = ? AND received_at_us >= ? AND target <> ''
                         AND number NOT IN (SELECT number FROM quarantine)
                       ORDER BY number LIMIT ?";
            let parameters = params![place(after), route, us(since), limit as i64];
            list(connection, sql, parameters, |row| row.get(0), |_| 8)
        })
        .await
    }

    pub(in crate::store) async fn replayable(
        &self,
        query: Query,
        after: u64,
        until: Option<Timestamp>,
    ) -> Result<Replayable, Error> {
        self.ask(move |connection| {
            let subscriber: Option<i64> = connection
                .prepare_cached("SELECT id FROM subscriber WHERE name = ?")?
                .query_row([&query.subscriber], |row| row.get(0))
                .optional()?;
            let Some(subscriber) = subscriber else {
                return Ok(Replayable::default());
            };
            let sql = replayable(query.state, subscriber);
            let (kind, kind_prefix) = kinds(&query);
            let parameters = named_params! {
                ":after": place(after), ":from": from_place(connection, &query)?, ":until": until.map(us),
                ":route": query.route, ":subject": query.subject, ":kind": kind, ":kind_prefix": kind_prefix,
                ":since": query.since.map(us), ":limit": query.limit as i64,
            };
            let events = list(connection, &sql, parameters, event, |event| event.json.len())?;
            let waiting = connection
                .prepare_cached("SELECT count(*) FROM waiting WHERE subscriber = ?")?
                .query_row([subscriber], |row| row.get(0))?;
            Ok(Replayable { events, waiting })
        })
        .await
    }

    pub(in crate::store) async fn events_of(&self, webhook: u64) -> Result<Vec<Kept>, Error> {
        self.ask(move |connection| {
            let sql = format!("SELECT {EVENT} FROM {EVENT_FROM} WHERE event.webhook = ? ORDER BY event.seq");
            list(connection, &sql, [place(webhook)], event, |event| event.json.len())
        })
        .await
    }

    pub(in crate::store) async fn subscribers(&self) -> Result<Vec<Subscriber>, Error> {
        self.ask(|connection| {
            let sql = "SELECT name, cursor, stopped_at_us, stopped_reason,
                              (SELECT count(*) FROM waiting WHERE waiting.subscriber = subscriber.id),
                              (SELECT count(*) FROM dead WHERE dead.subscriber = subscriber.id)
                       FROM subscriber ORDER BY name";
            let subscriber = |row: &Row<'_>| {
                Ok(Subscriber {
                    name: row.get(0)?,
                    cursor: row.get(1)?,
                    stopped: stopped(row, 2)?,
                    waiting: row.get(4)?,
                    dead: row.get(5)?,
                })
            };
            list(connection, sql, [], subscriber, |it| it.name.len())
        })
        .await
    }

    pub(in crate::store) async fn counts(&self) -> Result<Counts, Error> {
        self.ask(|connection| {
            // The keys are as many as the events and lie in the smallest tree.
            let sql = "SELECT (SELECT count(*) FROM event_key) - (SELECT count(*) FROM former_key), (SELECT count(*) FROM dead),
                              (SELECT count(*) FROM waiting), (SELECT count(*) FROM quarantine)";
            connection.prepare_cached(sql)?.query_row([], |row| {
                Ok(Counts {
                    events: row.get(0)?,
                    dead: row.get(1)?,
                    waiting: row.get(2)?,
                    quarantined: row.get(3)?,
                })
            })
        })
        .await
    }
}

/// Looks at one delivery after the other, newest first, until there are enough that meet the conditions.
fn deliveries(connection: &Connection, query: &Query) -> Result<Vec<Delivery>> {
    // Each branch is read in the order of its primary key and merged, so nothing is sorted and nothing is read ahead.
    let attempted = "SELECT DISTINCT seq, subscriber FROM attempt WHERE seq < :before AND seq >= :from";
    let waiting = "SELECT seq, subscriber FROM waiting WHERE seq < :before AND seq >= :from";
    let dead = "SELECT seq, subscriber FROM dead WHERE seq < :before AND seq >= :from";
    let candidates = match query.state {
        Some(DeliveryState::Delivered) => attempted.to_owned(),
        Some(DeliveryState::Dead) => dead.to_owned(),
        Some(DeliveryState::Waiting) => waiting.to_owned(),
        None => format!("{attempted} UNION {waiting} UNION {dead}"),
    };
    let mut names = HashMap::new();
    let mut statement = connection.prepare_cached("SELECT id, name FROM subscriber")?;
    for row in statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))? {
        let (id, name) = row?;
        names.insert(id, name);
    }

    let event_sql = format!("SELECT id, kind, subject FROM event WHERE seq = :seq AND {MATCHES}");
    let mut statement = connection.prepare_cached(&format!("{candidates} ORDER BY seq DESC, subscriber DESC"))?;
    let mut rows =
        statement.query(named_params! { ":before": before(query.before), ":from": from_place(connection, query)? })?;
    let mut found: Vec<Delivery> = Vec::new();
    while let Some(row) = rows.next()? {
        let (seq, subscriber): (u64, i64) = (row.get(0)?, row.get(1)?);
        if found.len() >= query.limit && found.last().is_none_or(|last| last.seq != seq) {
            break;
        }
        let Some(name) = names.get(&subscriber) else { continue };
        if query.subscriber.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        if let Some(delivery) = delivery(connection, query, &event_sql, seq, subscriber, name)? {
            found.push(delivery);
        }
    }
    Ok(found)
}

fn delivery(
    connection: &Connection,
    query: &Query,
    event_sql: &str,
    seq: u64,
    subscriber: i64,
    name: &str,
) -> Result<Option<Delivery>> {
    let (kind, kind_prefix) = kinds(query);
    let event = connection
        .prepare_cached(event_sql)?
        .query_row(
            named_params! {
                ":seq": seq, ":route": query.route, ":subject": query.subject, ":kind": kind,
                ":kind_prefix": kind_prefix, ":since": query.since.map(us),
            },
            |row| Ok((id(row, 0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((id, kind, subject)) = event else {
        return Ok(None);
    };
    let waiting = connection
        .prepare_cached(
            "SELECT waiting.attempts, waiting.due_at_us - subscriber.ahead_us
             FROM waiting JOIN subscriber ON subscriber.id = waiting.subscriber
             WHERE waiting.seq = ? AND waiting.subscriber = ?",
        )?
        .query_row(params![seq, subscriber], |row| {
            Ok((row.get::<_, u32>(0)?, time(row, 1)?))
        })
        .optional()?;
    let dead = connection
        .prepare_cached("SELECT 1 FROM dead WHERE seq = ? AND subscriber = ?")?
        .exists(params![seq, subscriber])?;
    let last = connection
        .prepare_cached(
            "SELECT number, at_us, status, outcome FROM attempt WHERE seq = ? AND subscriber = ?
             ORDER BY number DESC LIMIT 1",
        )?
        .query_row(params![seq, subscriber], |row| {
            Ok((
                row.get::<_, u32>(0)?,
                time(row, 1)?,
                row.get(2)?,
                row.get::<_, String>(3)?,
            ))
        })
        .optional()?;
    // Tried without success, and neither waiting nor dead: its settlement is on the way, it will be waiting.
    let state = match &last {
        _ if dead => DeliveryState::Dead,
        Some((.., outcome)) if waiting.is_none() && outcome == "delivered" => DeliveryState::Delivered,
        _ => DeliveryState::Waiting,
    };
    if query.state.is_some_and(|wanted| wanted != state) {
        return Ok(None);
    }
    let attempted = last.as_ref().map_or(0, |(number, ..)| *number);
    Ok(Some(Delivery {
        subscriber: name.to_owned(),
        seq,
        id,
        kind,
        subject,
        state,
        attempts: waiting.map_or(attempted, |(attempts, _)| attempts.max(attempted)),
        last_at: last.as_ref().map(|(_, at, ..)| *at),
        last_status: last.as_ref().and_then(|(_, _, status, _)| *status),
        due_at: waiting.map(|(_, due_at)| due_at),
    }))
}

/// The last place before the first event, of the next ones, that was kept at this time or later, and whether that is the
/// one: places and times do not grow together where the clock was set.
fn before_first_since(connection: &Connection, since: Timestamp, after: u64) -> Result<(u64, bool)> {
    let next = "SELECT seq, kept_at_us >= ? FROM event WHERE seq > ? ORDER BY seq LIMIT ?";
    let mut next = connection.prepare_cached(next)?;
    let mut rows = next.query(params![us(since), place(after), BEGIN_PAGE])?;
    let (mut before, mut looked_at) = (after, 0);
    while let Some(row) = rows.next()? {
        let (seq, since): (u64, bool) = (row.get(0)?, row.get(1)?);
        if since {
            // What is missing before it is not asked for.
            return Ok((seq - 1, true));
        }
        before = seq;
        looked_at += 1;
    }
    Ok((before, looked_at < BEGIN_PAGE))
}

/// The first place whose event was kept at this time or later, found by halving: places and times grow together. Where
/// the clock was set back it may miss a few. `None` when there is none.
fn first_since(connection: &Connection, since: Timestamp) -> Result<Option<u64>> {
    let since = us(since);
    let ends = "SELECT ifnull(min(seq), 0), ifnull(max(seq), 0) + 1 FROM event";
    let (mut low, end): (i64, i64) = connection
        .prepare_cached(ends)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut high = end;
    let mut next =
        connection.prepare_cached("SELECT seq, kept_at_us FROM event WHERE seq >= ? ORDER BY seq LIMIT 1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(i64, i64)> = next
            .query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            Some((seq, kept_at)) if kept_at < since => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok((low < end).then(|| u64::try_from(low).unwrap_or(0)))
}

/// The first place that a question may be about.
fn from_place(connection: &Connection, query: &Query) -> Result<i64> {
    match query.since {
        None => Ok(0),
        Some(since) => Ok(first_since(connection, since)?.map_or(i64::MAX, place)),
    }
}

/// One subscriber's next events, or those of them that are dead: the few are not looked for among all events. Read in the
/// order of a key either way, so that a page costs what it holds.
fn replayable(state: Option<DeliveryState>, subscriber: i64) -> String {
    let (from, seq) = match state {
        Some(DeliveryState::Dead) => (
            format!("dead CROSS JOIN event ON event.seq = dead.seq AND dead.subscriber = {subscriber}"),
            "dead.seq",
        ),
        _ => ("event".to_owned(), "event.seq"),
    };
    format!(
        "SELECT {EVENT} FROM {from} CROSS JOIN event_json ON event_json.seq = event.seq
         WHERE {seq} > :after AND {seq} >= :from AND {MATCHES} AND event.kind <> '{ERASED}'
           AND (:until IS NULL OR event.kept_at_us < :until)
         ORDER BY {seq} LIMIT :limit"
    )
}

/// Exact kind and prefix; at most one of them is there.
fn kinds(query: &Query) -> (Option<&str>, Option<&str>) {
    match query.kind.as_deref() {
        None => (None, None),
        Some(kind) => match kind.strip_suffix('*') {
            Some(prefix) => (None, Some(prefix)),
            None => (Some(kind), None),
        },
    }
}

/// A place as SQLite can hold it; one beyond is after everything.
pub(super) fn place(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn before(seq: Option<u64>) -> i64 {
    seq.map_or(i64::MAX, place)
}

/// Every row until the answer has grown too large; at least one.
fn list<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    row: impl Fn(&Row<'_>) -> Result<T>,
    weight: impl Fn(&T) -> usize,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(next) = rows.next()? {
        let it = row(next)?;
        bytes += weight(&it);
        found.push(it);
        if bytes >= ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(found)
}

fn event(row: &Row<'_>) -> Result<Kept> {
    let numbers: Option<String> = row.get(7)?;
    Ok(Kept {
        seq: row.get(0)?,
        id: id(row, 1)?,
        kind: row.get(2)?,
        subject: row.get(3)?,
        route: row.get(4)?,
        time: time(row, 5)?,
        kept_at: time(row, 6)?,
        facts: Facts {
            numbers: numbers.map_or_else(|| Ok(Vec::new()), |numbers| json(&numbers, 7))?,
            duration_seconds: row.get(8)?,
            test: row.get(9)?,
        },
        json: row.get_ref(10)?.as_bytes()?.to_vec().into(),
    })
}

fn webhook(row: &Row<'_>) -> Result<RawWebhook> {
    Ok(RawWebhook {
        route: row.get(0)?,
        received_at: time(row, 1)?,
        method: row.get(2)?,
        target: row.get(3)?,
        headers: json(&row.get::<_, String>(4)?, 4)?,
        peer: row.get(5)?,
        body: row.get::<_, Vec<u8>>(6)?.into(),
        form: row.get(7)?,
        payload: row.get(8)?,
    })
}

fn quarantined(row: &Row<'_>) -> Result<Quarantined> {
    Ok(Quarantined {
        number: row.get(9)?,
        reason: row.get(10)?,
        detail: row.get(11)?,
        webhook: webhook(row)?,
    })
}

pub(super) fn id(row: &Row<'_>, index: usize) -> Result<EventId> {
    let text = row.get_ref(index)?.as_str()?;
    text.parse()
        .map_err(|error: crate::event::NotAnEventId| conversion(index, error.into()))
}

fn json<T: serde::de::DeserializeOwned>(text: &str, index: usize) -> Result<T> {
    serde_json::from_str(text).map_err(|error| conversion(index, error.into()))
}

fn conversion(index: usize, error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_replay_is_not_sorted() {
        let connection = Connection::open_in_memory().unwrap();
        for migration in file::MIGRATIONS {
            connection.execute_batch(migration).unwrap();
        }
        for (state, first) in [
            (Some(DeliveryState::Dead), "SEARCH dead USING PRIMARY KEY (seq>?)"),
            (None, "SEARCH event USING INTEGER PRIMARY KEY (rowid>?)"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN {}", replayable(state, 1));
            let mut plan = connection.prepare(&sql).unwrap();
            let steps: Vec<String> = plan.raw_query().mapped(|row| row.get(3)).map(Result::unwrap).collect();
            assert_eq!(steps[0], first);
            assert!(steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{steps:?}");
        }
    }
}
