-- The ledger in pages, many finished exchanges in one row. Those that were booked before stay in
-- `exchanges` until they are forgotten.

-- A slot is the beginning of the ids in its pages; `oldest` and `newest` are the first and the last id.
CREATE TABLE ledger_pages (
  slot TEXT NOT NULL,
  page TEXT NOT NULL,
  oldest TEXT NOT NULL,
  newest TEXT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (slot, page)
);

-- Which pages have exchanges of a run.
CREATE TABLE ledger_runs (
  run TEXT NOT NULL,
  slot TEXT NOT NULL,
  page TEXT NOT NULL,
  PRIMARY KEY (run, slot, page)
);
CREATE INDEX ledger_runs_page ON ledger_runs (slot, page);
