-- What the clock showed at the last settlement: a start that finds it ahead knows that the clock was set back since.
ALTER TABLE subscriber ADD COLUMN settled_at_us INTEGER;
