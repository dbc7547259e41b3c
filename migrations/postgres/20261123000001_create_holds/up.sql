-- The local ledger: what attempts of a process that serves alone from this store hold of their limits. On Postgres
-- nothing writes here, because replicas share their limits by other tables; they exist so that the queries are
-- written, compiled and tested once for both backends.
CREATE TABLE local_holds (
    id BIGINT PRIMARY KEY,
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    send_by_us BIGINT NOT NULL,
    first_byte_us BIGINT,
    finish_us BIGINT,
    is_aborted BOOLEAN NOT NULL,
    is_exact BOOLEAN NOT NULL,
    used_input_tokens BIGINT NOT NULL,
    used_output_tokens BIGINT NOT NULL
);

-- `model` is empty for all of an account.
CREATE TABLE local_cooldowns (
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    model TEXT NOT NULL,
    until_us BIGINT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (provider, account, model)
);

-- Since when every attempt is written down, and for how long each is kept after it can have been counted.
CREATE TABLE local_coverage (
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    model TEXT NOT NULL,
    since_us BIGINT NOT NULL,
    kept_us BIGINT NOT NULL,
    PRIMARY KEY (provider, account, model)
);

-- An operator's word: every limit of the provider (empty: of all) is full for one window from then.
CREATE TABLE local_blocks (
    id BIGSERIAL PRIMARY KEY,
    provider TEXT NOT NULL,
    since_us BIGINT NOT NULL
);
