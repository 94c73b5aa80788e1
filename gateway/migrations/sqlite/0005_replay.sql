-- The clock of the loop at its last settlement, by which the times of its record are: it passes as time does. And how far
-- it is ahead of the wall clock, which may have been set.
ALTER TABLE subscriber ADD COLUMN steady_at_us INTEGER;
ALTER TABLE subscriber ADD COLUMN ahead_us INTEGER NOT NULL DEFAULT 0;

-- Deliveries an operator wants once more, until the subscriber's loop has recorded that it knows. No ticket is given twice.
CREATE TABLE replay (
    ticket     INTEGER PRIMARY KEY AUTOINCREMENT,
    seq        INTEGER NOT NULL,
    subscriber INTEGER NOT NULL
) STRICT;
