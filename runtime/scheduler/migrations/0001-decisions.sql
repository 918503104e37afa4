-- The first columns of each table are those of SPEC-001; what stands behind them is ours.

CREATE TABLE backends (
  backend_id TEXT PRIMARY KEY,
  vendor TEXT,
  region TEXT,
  cost_per_shot NUMERIC,
  availability FLOAT,
  capabilities JSONB,
  last_calibration_id TEXT,
  body BYTEA NOT NULL
);

CREATE TABLE calibration_snapshots (
  id TEXT PRIMARY KEY,
  backend_id TEXT REFERENCES backends(backend_id),
  created_at TIMESTAMP,
  gates JSONB,
  readout_errors JSONB,
  raw_metrics JSONB,
  body BYTEA NOT NULL
);

CREATE TABLE scheduler_decisions (
  id UUID PRIMARY KEY,
  job_id UUID,
  chosen_backend TEXT,
  score FLOAT,
  reasons JSONB,
  decision_manifest_path TEXT,
  created_at TIMESTAMP,
  number INTEGER NOT NULL UNIQUE,
  digest TEXT NOT NULL UNIQUE,
  body BYTEA NOT NULL,
  envelope BYTEA
);

CREATE INDEX scheduler_decisions_by_job ON scheduler_decisions (job_id, number);

CREATE TABLE reservations (
  id TEXT PRIMARY KEY,
  backend_id TEXT NOT NULL REFERENCES backends(backend_id),
  starts_at TEXT NOT NULL,
  ends_at TEXT NOT NULL,
  body BYTEA NOT NULL
);
