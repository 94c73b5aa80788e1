-- How a subscriber fared of late, so that a start does not fall upon one that is down.
ALTER TABLE subscriber ADD COLUMN failures_in_a_row INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subscriber ADD COLUMN not_before_us INTEGER;
-- NULL: as many as configured.
ALTER TABLE subscriber ADD COLUMN in_flight_limit INTEGER;
