-- The first schema. Columns are TEXT, BIGINT and BLOB only; moments are milliseconds since 1970, UTC.

-- Living processes. Dead = no row.
CREATE TABLE owners (
  id TEXT NOT NULL PRIMARY KEY,
  beat BIGINT NOT NULL
);

-- state: running, done, ticket.
CREATE TABLE keys (
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  state TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  exchange TEXT NOT NULL,
  owner TEXT NOT NULL,
  fence BIGINT NOT NULL,
  token TEXT,
  ticket TEXT,
  run TEXT,
  step TEXT,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  status BIGINT,
  headers TEXT,
  outcome TEXT,
  request BLOB,
  body BLOB,
  PRIMARY KEY (scope, key)
);
CREATE INDEX keys_expires ON keys (expires);
CREATE INDEX keys_kept ON keys (owner) WHERE state = 'running' AND request IS NOT NULL;
CREATE INDEX keys_exchange ON keys (exchange, scope) WHERE state = 'done';
CREATE INDEX keys_run ON keys (scope, run) WHERE run IS NOT NULL;

CREATE TABLE tickets (
  id TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  scope TEXT NOT NULL,
  subject TEXT NOT NULL,
  key_scope TEXT,
  key TEXT,
  run TEXT,
  step TEXT,
  route TEXT,
  title TEXT NOT NULL,
  facts TEXT NOT NULL,
  policy TEXT NOT NULL,
  not_before BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  claimed_by TEXT,
  claim_until BIGINT,
  owner TEXT,
  token TEXT,
  fence BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  reason TEXT,
  decision TEXT,
  decided_by TEXT,
  decided_at BIGINT,
  content BLOB,
  answer BLOB
);
-- One undecided ticket for each thing.
CREATE UNIQUE INDEX tickets_subject ON tickets (kind, subject) WHERE state IN ('open', 'claimed', 'retrying');
CREATE INDEX tickets_key ON tickets (key_scope, key) WHERE key IS NOT NULL;
-- Where a state's rows may be many, the index names it too: a planner without statistics wants an equality.
CREATE INDEX tickets_due ON tickets (state, policy, route, not_before, id) WHERE state = 'open' AND policy = 'when_healthy';
CREATE INDEX tickets_claimed ON tickets (state, claim_until) WHERE state = 'claimed';
CREATE INDEX tickets_expires ON tickets (state, expires) WHERE state IN ('open', 'claimed', 'retrying');
CREATE INDEX tickets_over ON tickets (state, updated) WHERE state IN ('resolved', 'expired');
CREATE INDEX tickets_run ON tickets (run, id) WHERE run IS NOT NULL;
CREATE INDEX tickets_scope ON tickets (scope, id);
CREATE INDEX tickets_route ON tickets (route, id) WHERE route IS NOT NULL;
CREATE INDEX tickets_route_state ON tickets (route, state, id) WHERE route IS NOT NULL;
CREATE INDEX tickets_kind ON tickets (kind, id);
CREATE INDEX tickets_state ON tickets (state, id);
CREATE INDEX tickets_kind_state ON tickets (kind, state, id);
CREATE INDEX tickets_scope_kind ON tickets (scope, kind, id);
CREATE INDEX tickets_scope_state ON tickets (scope, state, id);
CREATE INDEX tickets_scope_kind_state ON tickets (scope, kind, state, id);

CREATE TABLE effects (
  id TEXT NOT NULL PRIMARY KEY,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  target TEXT NOT NULL,
  state TEXT NOT NULL,
  headers TEXT NOT NULL,
  run TEXT,
  step TEXT,
  requires TEXT NOT NULL,
  due BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  owner TEXT,
  token TEXT,
  fence BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  error TEXT,
  ticket TEXT,
  result_status BIGINT,
  result_headers TEXT,
  payload BLOB NOT NULL,
  result_body BLOB
);
CREATE UNIQUE INDEX effects_key ON effects (scope, key);
CREATE INDEX effects_due ON effects (state, target, due, id) WHERE state = 'recorded';
CREATE INDEX effects_over ON effects (state, updated, expires) WHERE state IN ('done', 'failed', 'cancelled');
CREATE INDEX effects_run ON effects (run, id) WHERE run IS NOT NULL;
CREATE INDEX effects_scope ON effects (scope, id);
CREATE INDEX effects_state ON effects (state, id);
CREATE INDEX effects_target ON effects (target, id);
CREATE INDEX effects_scope_state ON effects (scope, state, id);
CREATE INDEX effects_target_state ON effects (target, state, id);

CREATE TABLE runs (
  scope TEXT NOT NULL,
  id TEXT NOT NULL,
  state TEXT NOT NULL,
  declared BIGINT NOT NULL,
  expect TEXT NOT NULL,
  deadline BIGINT,
  heartbeat BIGINT,
  labels TEXT NOT NULL,
  seen BIGINT NOT NULL,
  created BIGINT NOT NULL,
  ended BIGINT,
  ticket TEXT,
  PRIMARY KEY (scope, id)
);
CREATE INDEX runs_created ON runs (created, id);
CREATE INDEX runs_scope ON runs (scope, created, id);
CREATE INDEX runs_state ON runs (state, created, id);
CREATE INDEX runs_scope_state ON runs (scope, state, created, id);
CREATE INDEX runs_deadline ON runs (state, deadline) WHERE state = 'open' AND deadline IS NOT NULL;
CREATE INDEX runs_silence ON runs (state, (seen + heartbeat)) WHERE state = 'open' AND heartbeat IS NOT NULL;
CREATE INDEX runs_seen ON runs (seen);

CREATE TABLE steps (
  scope TEXT NOT NULL,
  run TEXT NOT NULL,
  step TEXT NOT NULL,
  state TEXT NOT NULL,
  fence BIGINT NOT NULL,
  until BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  error TEXT,
  created BIGINT NOT NULL,
  begun BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  failures TEXT NOT NULL,
  result BLOB,
  PRIMARY KEY (scope, run, step)
);

CREATE TABLE approvals (
  id TEXT NOT NULL PRIMARY KEY,
  scope TEXT NOT NULL,
  key TEXT,
  fingerprint BLOB NOT NULL,
  state TEXT NOT NULL,
  question TEXT NOT NULL,
  choices TEXT NOT NULL,
  standard TEXT,
  deadline BIGINT,
  run TEXT,
  step TEXT,
  choice TEXT,
  note TEXT,
  decided_by TEXT,
  decided_at BIGINT,
  created BIGINT NOT NULL,
  ticket TEXT NOT NULL,
  context BLOB NOT NULL
);
CREATE UNIQUE INDEX approvals_key ON approvals (scope, key) WHERE key IS NOT NULL;
CREATE INDEX approvals_deadline ON approvals (state, deadline) WHERE state = 'open' AND deadline IS NOT NULL;
CREATE INDEX approvals_over ON approvals (decided_at) WHERE state <> 'open';
CREATE INDEX approvals_run ON approvals (run, id) WHERE run IS NOT NULL;
CREATE INDEX approvals_scope ON approvals (scope, id);
CREATE INDEX approvals_state ON approvals (state, id);
CREATE INDEX approvals_scope_state ON approvals (scope, state, id);

CREATE TABLE exchanges (
  id TEXT NOT NULL PRIMARY KEY,
  at BIGINT NOT NULL,
  scope TEXT NOT NULL,
  route TEXT NOT NULL,
  run TEXT,
  step TEXT,
  outcome TEXT NOT NULL,
  json TEXT NOT NULL
);
CREATE INDEX exchanges_run ON exchanges (run, id) WHERE run IS NOT NULL;

CREATE TABLE events (
  seq NUMBERED,
  at BIGINT NOT NULL,
  scope TEXT NOT NULL,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  json TEXT NOT NULL
);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_scope ON events (scope, seq);

-- What is written and taken away again to see whether writing works.
CREATE TABLE probe (
  id TEXT NOT NULL PRIMARY KEY,
  filler BLOB NOT NULL
);
