-- The number of a model is given once and never again to another one.
CREATE TABLE models (
    id BIGSERIAL PRIMARY KEY,
    platform TEXT NOT NULL,
    model_id TEXT NOT NULL,
    UNIQUE (platform, model_id)
);
