-- Recognises a webhook in quarantine that is sent again: a digest of its route, target and body. NULL for those that were
-- in quarantine before.
ALTER TABLE quarantine ADD COLUMN key BLOB;
CREATE UNIQUE INDEX quarantine_key ON quarantine (key);

-- Who holds events back is the configuration's to say.
ALTER TABLE subscriber DROP COLUMN forgotten;
