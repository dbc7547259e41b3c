-- The number of a model is given once and never again to another one.
CREATE TABLE models (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    platform TEXT NOT NULL,
    model_id TEXT NOT NULL,
    UNIQUE (platform, model_id)
);
