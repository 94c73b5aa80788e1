-- A delivery that is wanted once more has the whole schedule before it, and its attempts go on counting: the number of the
-- last one before the schedule began; 0 for the first schedule.
ALTER TABLE waiting ADD COLUMN begun_after INTEGER NOT NULL DEFAULT 0;
