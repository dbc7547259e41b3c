-- NULL = unlimited. A release that does not know these columns leaves them at what they are here.
ALTER TABLE tenants ADD COLUMN rpm BIGINT;
ALTER TABLE tenants ADD COLUMN rpd BIGINT;
ALTER TABLE tenants ADD COLUMN tpm BIGINT;
ALTER TABLE tenants ADD COLUMN tpd BIGINT;
ALTER TABLE tenants ADD COLUMN tpmonth BIGINT;
ALTER TABLE tenants ADD COLUMN parallel BIGINT;
ALTER TABLE tenants ADD COLUMN weight BIGINT NOT NULL DEFAULT 1 CHECK (weight >= 1);
-- A JSON array of names.
ALTER TABLE tenants ADD COLUMN models TEXT;
ALTER TABLE tenants ADD COLUMN no_training BOOLEAN NOT NULL DEFAULT FALSE;
