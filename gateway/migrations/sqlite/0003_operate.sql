-- What a webhook became, for when it is looked at again. Numbers grow, so its pages are written in order.
CREATE INDEX event_webhook ON event (webhook);

-- Keys that are remembered longer than their events.
CREATE TABLE former_key (
    seq        INTEGER PRIMARY KEY,
    key        BLOB    NOT NULL,
    kept_at_us INTEGER NOT NULL
) STRICT;
