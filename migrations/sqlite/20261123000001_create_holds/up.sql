-- The local ledger: what attempts of a process that serves alone from this store hold of their limits.
-- Ids are minted by that process and grow with time. No indexes and no foreign keys: every attempt pays for a write
-- here, and what is kept outlives the providers, accounts and models that it names.
CREATE TABLE local_holds (
    id INTEGER PRIMARY KEY,
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
) WITHOUT ROWID;

-- Since when every attempt is written down, and for how long each is kept after it can have been counted.
CREATE TABLE local_coverage (
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    model TEXT NOT NULL,
    since_us BIGINT NOT NULL,
    kept_us BIGINT NOT NULL,
    PRIMARY KEY (provider, account, model)
) WITHOUT ROWID;

-- An operator's word: every limit of the provider (empty: of all) is full for one window from then.
CREATE TABLE local_blocks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    provider TEXT NOT NULL,
    since_us BIGINT NOT NULL
);
