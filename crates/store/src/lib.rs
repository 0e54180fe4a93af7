//! What Holdfast keeps: idempotency keys with stored answers, tickets, effects, runs, approvals, the
//! ledger and the events, in SQLite or PostgreSQL.
