-- No foreign keys: an event outlives the tenant, the key and the model that it names.
CREATE TABLE completion_events (
    event_id BYTEA NOT NULL PRIMARY KEY CHECK (length(event_id) = 16),
    request_id TEXT NOT NULL,
    tenant_id BIGINT NOT NULL,
    key_id BIGINT NOT NULL,
    platform TEXT,
    model_id TEXT,
    outcome TEXT NOT NULL,
    streamed BOOLEAN NOT NULL,
    attempts BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    usage_reported BOOLEAN NOT NULL,
    started_us BIGINT NOT NULL,
    first_byte_us BIGINT,
    ended_us BIGINT NOT NULL
);

CREATE INDEX completion_events_by_tenant_and_end ON completion_events (tenant_id, ended_us);
CREATE INDEX completion_events_by_end ON completion_events (ended_us);
