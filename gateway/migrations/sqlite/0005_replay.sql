-- What the clock showed at the last settlement: a start that finds it ahead knows that the clock was set back since.
ALTER TABLE subscriber ADD COLUMN settled_at_us INTEGER;

-- Deliveries an operator wants once more, until the subscriber's loop has recorded that it knows. No ticket is given twice.
CREATE TABLE replay (
    ticket     INTEGER PRIMARY KEY AUTOINCREMENT,
    seq        INTEGER NOT NULL,
    subscriber INTEGER NOT NULL
) STRICT;
