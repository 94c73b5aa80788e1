//! What has been kept long enough goes, in steps that one transaction can take.

use jiff::Timestamp;
use rusqlite::{Connection, Result, named_params, params};

use super::write::{Draft, json, us};
use crate::store::{PruneBefore, PruneReport};

/// Rows that one step of retention looks at, per table.
const PRUNE_STEP: usize = 500;

/// Where the next step goes on, per table; 0 is the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sweep {
    events: u64,
    webhooks: u64,
    /// The whole key of the last row: one event may have more attempts than a step looks at.
    attempts: (u64, i64, i64),
}

/// One step of retention in each table.
///
/// A step looks at the next rows in order and ends the sweep when none of them is old, be it held or not: numbers and
/// times grow together, but for clocks that were set. The next sweep begins at the beginning.
pub(super) fn prune(connection: &Connection, draft: &mut Draft, before: &PruneBefore) -> Result<PruneReport> {
    let (events, more_events) = prune_events(connection, draft, before)?;
    let (webhooks, more_webhooks) = prune_webhooks(connection, draft, before)?;
    let (attempts, more_attempts) = prune_attempts(connection, draft, before.attempts)?;
    let more_keys = prune_keys(connection, before.ids)?;
    Ok(PruneReport {
        events,
        webhooks,
        attempts,
        more: more_events || more_webhooks || more_attempts || more_keys,
    })
}

fn prune_events(connection: &Connection, draft: &mut Draft, before: &PruneBefore) -> Result<(usize, bool)> {
    let subscribers = json(&before.subscribers.as_ref());
    let settled: Option<u64> = connection
        .prepare_cached(
            "SELECT min(cursor) FROM subscriber
             WHERE stopped_at_us IS NULL AND name IN (SELECT value FROM json_each(?))",
        )?
        .query_row([&subscribers], |row| row.get(0))?;
    // The newest event carries the numbering.
    let last = settled.unwrap_or(draft.head).min(draft.head.saturating_sub(1));
    let rows: Vec<(u64, [u8; 16], i64, bool, bool)> = connection
        .prepare_cached(
            "SELECT seq, id, kept_at_us, kept_at_us < :before,
                    EXISTS (SELECT 1 FROM waiting JOIN subscriber ON subscriber.id = waiting.subscriber
                            WHERE waiting.seq = event.seq AND subscriber.stopped_at_us IS NULL
                              AND subscriber.name IN (SELECT value FROM json_each(:subscribers)))
             FROM event WHERE seq > :from AND seq <= :last ORDER BY seq LIMIT :step",
        )?
        .query_map(
            named_params! {
                ":before": us(before.events), ":subscribers": subscribers, ":from": draft.sweep.events, ":last": last,
                ":step": PRUNE_STEP as i64
            },
            |row| {
                Ok((
                    row.get(0)?,
                    super::read::id(row, 1)?.key(),
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            },
        )?
        .collect::<Result<_>>()?;
    // An event takes its deliveries along, which may be many rows; they count, so that the step stays small.
    let (mut removed, mut budget, mut end) = (0, PRUNE_STEP, 0);
    for (seq, key, kept_at, old, held) in &rows {
        if budget == 0 {
            break;
        }
        end = *seq;
        if *old && !held {
            let deliveries = remove_event(connection, *seq)?;
            if *kept_at < us(before.ids) {
                forget(connection, *seq, key)?;
            } else {
                connection
                    .prepare_cached("INSERT OR REPLACE INTO former_key (seq, key, kept_at_us) VALUES (?, ?, ?)")?
                    .execute(params![seq, key, kept_at])?;
            }
            removed += 1;
            budget = budget.saturating_sub(1 + deliveries);
        }
    }
    let some_old = rows.iter().any(|(.., old, _)| *old);
    let more = some_old && (rows.len() == PRUNE_STEP || budget == 0);
    draft.sweep.events = if more { end } else { 0 };
    Ok((removed, more))
}

/// An event that comes again is new from now on.
fn forget(connection: &Connection, seq: u64, key: &[u8; 16]) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM event_key WHERE key = ? AND seq = ?")?
        .execute(params![key, seq])
        .map(drop)
}

/// Keys that are remembered longer than their events, oldest first. Behind a young one there is none that is old, but for
/// clocks that were set; it waits until that one is old, too.
fn prune_keys(connection: &Connection, before: Timestamp) -> Result<bool> {
    let rows: Vec<(u64, [u8; 16], bool)> = connection
        .prepare_cached("SELECT seq, key, kept_at_us < ? FROM former_key ORDER BY seq LIMIT ?")?
        .query_map(params![us(before), PRUNE_STEP as i64], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_>>()?;
    let mut removed = 0;
    for (seq, key, _) in rows.iter().take_while(|(.., old)| *old) {
        forget(connection, *seq, key)?;
        removed += connection
            .prepare_cached("DELETE FROM former_key WHERE seq = ?")?
            .execute([seq])?;
    }
    Ok(removed == PRUNE_STEP)
}

/// Returns how many rows of deliveries went along.
fn remove_event(connection: &Connection, seq: u64) -> Result<usize> {
    for sql in [
        "DELETE FROM event WHERE seq = ?",
        "DELETE FROM event_json WHERE seq = ?",
    ] {
        connection.prepare_cached(sql)?.execute([seq])?;
    }
    let mut deliveries = 0;
    for sql in [
        "DELETE FROM attempt WHERE seq = ?",
        "DELETE FROM dead WHERE seq = ?",
        // Of those who hold nothing back.
        "DELETE FROM waiting WHERE seq = ?",
    ] {
        deliveries += connection.prepare_cached(sql)?.execute([seq])?;
    }
    Ok(deliveries)
}

/// Those in quarantine stay as long as events do: someone may yet correct the plugin.
fn prune_webhooks(connection: &Connection, draft: &mut Draft, before: &PruneBefore) -> Result<(usize, bool)> {
    let rows: Vec<(u64, bool, bool)> = connection
        .prepare_cached(
            "SELECT number, received_at_us < :webhooks,
                    received_at_us < iif(number IN (SELECT number FROM quarantine), :events, :webhooks)
             FROM webhook WHERE number > :from AND number < :newest ORDER BY number LIMIT :step",
        )?
        .query_map(
            named_params! {
                ":webhooks": us(before.webhooks), ":events": us(before.events), ":from": draft.sweep.webhooks,
                ":newest": draft.last_webhook, ":step": PRUNE_STEP as i64
            },
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?
        .collect::<Result<_>>()?;
    let mut removed = 0;
    for (number, _, gone) in &rows {
        if *gone {
            removed += connection
                .prepare_cached("DELETE FROM webhook WHERE number = ?")?
                .execute([number])?;
            connection
                .prepare_cached("DELETE FROM quarantine WHERE number = ?")?
                .execute([number])?;
        }
    }
    let more = rows.iter().any(|(_, old, gone)| *old || *gone) && rows.len() == PRUNE_STEP;
    draft.sweep.webhooks = rows.last().filter(|_| more).map_or(0, |(number, ..)| *number);
    Ok((removed, more))
}

/// An attempt is as old as its event or younger, so the sweep goes on as long as the events are old: young attempts of old
/// events, as a replay makes them, must not hide the old ones behind them.
fn prune_attempts(connection: &Connection, draft: &mut Draft, before: Timestamp) -> Result<(usize, bool)> {
    let (seq, subscriber, number) = draft.sweep.attempts;
    let rows: Vec<(u64, i64, i64, bool, bool)> = connection
        .prepare_cached(
            "SELECT attempt.seq, attempt.subscriber, attempt.number, attempt.at_us < :before,
                    ifnull(event.kept_at_us < :before, TRUE)
             FROM attempt LEFT JOIN event ON event.seq = attempt.seq
             WHERE (attempt.seq, attempt.subscriber, attempt.number) > (:seq, :subscriber, :number)
             ORDER BY attempt.seq, attempt.subscriber, attempt.number LIMIT :step",
        )?
        .query_map(
            named_params! {
                ":before": us(before), ":seq": seq, ":subscriber": subscriber, ":number": number,
                ":step": PRUNE_STEP as i64
            },
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )?
        .collect::<Result<_>>()?;
    let mut removed = 0;
    for (seq, subscriber, number, old, _) in &rows {
        if *old {
            removed += connection
                .prepare_cached("DELETE FROM attempt WHERE seq = ? AND subscriber = ? AND number = ?")?
                .execute(params![seq, subscriber, number])?;
        }
    }
    let more = rows.iter().any(|(.., old, of_old)| *old || *of_old) && rows.len() == PRUNE_STEP;
    draft.sweep.attempts = match rows.last() {
        Some((seq, subscriber, number, ..)) if more => (*seq, *subscriber, *number),
        _ => Default::default(),
    };
    Ok((removed, more))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::store::sqlite::file;

    #[test]
    fn a_step_does_not_look_through_all_that_is_young() {
        let mut connection = Connection::open_in_memory().unwrap();
        for migration in file::MIGRATIONS {
            connection.execute_batch(migration).unwrap();
        }
        let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                    INSERT INTO former_key (seq, key, kept_at_us) SELECT i, randomblob(16), i FROM n";
        connection.execute_batch(many).unwrap();
        let steps = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&steps);
        let counting = move || {
            count.fetch_add(1, Ordering::Relaxed);
            false
        };
        connection.progress_handler(1, Some(counting)).unwrap();
        let second = Timestamp::from_microsecond(2).unwrap();
        assert!(!prune_keys(&connection, second).unwrap());
        assert!(steps.load(Ordering::Relaxed) < 20 * PRUNE_STEP, "{steps:?}");
        let left = "SELECT count(*) FROM former_key";
        assert_eq!(
            connection.query_row(left, [], |row| row.get::<_, usize>(0)).unwrap(),
            49_999
        );
    }
}
