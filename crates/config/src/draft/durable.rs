//! The sections about what is kept: the store, keys, gates, steps, effects, webhooks, the queue, runs.

use std::path::PathBuf;

use crate::checked::{GateOn, Repeats, SmtpSecurity};
use crate::draft::BackoffDraft;
use crate::shape::{Spanned, shape};
use crate::values::{AnyJson, Count, CountOrZero, LongTime, Named, SecretText, Size, Time};
use crate::words::words;

words! {
    /// How an effect is sent.
    pub(crate) enum EffectWord {
        /// An HTTP request.
        Http = "http",
        /// A mail.
        Smtp = "smtp",
    }
}

shape! {
    /// Where keys, effects, tickets and runs are kept.
    StoreDraft as "store" {
        /// `sqlite:FILE` (relative to this file; one process), `postgres://...` (any number of
        /// processes), or `none`: then nothing can be kept, and calls with a key are refused.
        url: SecretText = "sqlite:holdfast.db",
        /// SQLite: connections that read.
        readers: Count = "4",
        /// PostgreSQL: connections of each process.
        connections: Count = "8",
        /// Operations that may wait; one more is refused.
        queue: Count = "4096",
        /// The longest that one operation may take.
        timeout: Time = "5s",
        /// A process without a sign of life for this long is dead, and what it did is taken over.
        lease: Time = "15s",
        /// Seals requests, answers and payloads at rest: 32 random bytes as 64 hexadecimal digits
        /// (`openssl rand -hex 32`). Without it they are kept as they are.
        encryption_key: SecretText,
        /// Keys that were used before; what they sealed can still be read.
        old_keys: Vec<SecretText>,
        /// How long what is over is kept.
        retention: RetentionDraft,
    }
}

shape! {
    /// How long what is over is kept. What still waits is never dropped by it.
    RetentionDraft as "retention" {
        /// Exchanges of the ledger.
        exchanges: LongTime = "30d",
        /// Decided tickets and approvals.
        tickets: LongTime = "90d",
        /// Ended effects.
        effects: LongTime = "90d",
        /// Ended runs and their steps.
        runs: LongTime = "90d",
        /// Events.
        events: LongTime = "7d",
    }
}

shape! {
    /// What an `Idempotency-Key` does.
    IdempotencyDraft as "idempotency" {
        /// How long an answer is kept under its key; up to a thousandth longer.
        expiry: LongTime = "24h",
        /// What a repeat gets while the first call runs: the running answer (`join`) or 409
        /// (`refuse`).
        repeats: Repeats = "join",
        /// Whether `Holdfast-Run` with `Holdfast-Step` is a key.
        derive: bool = "true",
    }
}

shape! {
    /// What an answer must be beyond whole. All checks must pass.
    GateDraft as "gate" {
        /// A JSON Schema, written here or as `!file schema.json`.
        json_schema: AnyJson,
        /// CEL expressions that must be true. They see `text`, `json`, `length` and `finish`.
        cel: Vec<String>,
        /// The least characters.
        min_length: CountOrZero = "0",
        /// Texts that must occur.
        must_contain: Vec<String>,
        /// A refusal does not pass.
        no_refusal: bool = "false",
        /// How often a target is asked again with the reason.
        asks: CountOrZero = "1",
        /// Whether the answer must be JSON (`json`) or may be any `text`.
        on: GateOn = "text",
    }
}

shape! {
    /// What a step of a workflow demands: of the answers to calls that name it in `Holdfast-Step`,
    /// beside what their route demands, and of the result that completes it.
    StepDraft as "step" {
        /// The name of a step, or the beginning of names with a `*` at its end.
        step: String,
        /// What its answers and its result must be.
        gate: GateDraft,
    }
}

shape! {
    /// Side effects that Holdfast performs once.
    EffectsDraft as "effects" {
        /// Where they may go.
        targets: Vec<EffectTargetDraft>,
        /// How many are sent at once, to all targets together.
        parallel: Count = "64",
        /// How long an effect and its key are remembered.
        expiry: LongTime = "90d",
    }
}

shape! {
    /// Where an effect may go. Callers name it, and never a URL.
    EffectTargetDraft as "effect target" {
        /// A name of your choice.
        name: String,
        /// A request (`http`) or a mail (`smtp`).
        kind: EffectWord = "http",
        /// Whether the target performs a repeated key once. Where it does not (`false`), nothing is
        /// ever sent twice: what was lost on its way is put before a person.
        honours_keys: bool,
        /// http: scheme, host, port and base path.
        url: String,
        /// http: the methods that callers may use; the first one is the default.
        methods: Vec<String> = "POST",
        /// http: the paths behind `url`; a `*` at the end stands for anything. Without it only `url`
        /// itself.
        paths: Vec<String>,
        /// http: extra request headers; each value is a secret.
        headers: Named<SecretText>,
        /// http: the headers that callers may set.
        allow_headers: Vec<String>,
        /// http: the header for the key.
        key_header: String = "Idempotency-Key",
        /// http: signs each request (HMAC-SHA256 after Standard Webhooks).
        sign: SecretText,
        /// smtp: the mail server.
        host: String,
        /// smtp: its port; without it 465 for `tls`, 587 for `starttls`, 25 for `none`.
        port: Count,
        /// smtp: how it is spoken to.
        security: SmtpSecurity = "tls",
        /// smtp: who logs in.
        username: String,
        /// smtp: the password.
        password: SecretText,
        /// smtp: the sender.
        from: String,
        /// smtp: who may be written to: addresses, or `*@example.org`.
        allow_to: Vec<String>,
        /// Whether it may be at a private address (10.0.0.0/8, 127.0.0.1, ...).
        allow_private: bool = "false",
        /// The longest that one attempt may take.
        timeout: Time = "30s",
        /// The most attempts, the first included.
        attempts: Count = "8",
        /// Waiting between attempts.
        backoff: BackoffDraft,
        /// The largest payload.
        payload_bytes: Size = "1MiB",
        /// How many are sent there at once.
        parallel: Count = "8",
        /// A PEM file of certificates to trust besides the system's.
        ca_file: PathBuf,
    }
}

shape! {
    /// Somebody who is told of events (ticket opened, effect in doubt, run orphaned, ...).
    WebhookDraft as "webhook" {
        /// A name of your choice.
        name: String,
        /// Where the events are sent.
        url: Spanned<String>,
        /// Signs each delivery (HMAC-SHA256 after Standard Webhooks).
        secret: SecretText,
        /// Kinds of events, like `ticket.opened` or `ticket.*`; without it all.
        events: Vec<String>,
        /// Whether it may be at a private address.
        allow_private: bool = "false",
    }
}

shape! {
    /// The review queue.
    ReviewDraft as "review" {
        /// How long a person has a ticket, where no other time is asked for.
        claim: Time = "10m",
        /// How long an approval without a deadline waits for somebody; one with a deadline may be
        /// looked at for so long after it. Tickets of calls have the `ticket_expiry` of their route.
        approval_expiry: LongTime = "7d",
        /// Between two automatic retries of a route.
        retry_interval: Time = "10s",
        /// Automatic retries at once.
        retry_parallel: Count = "1",
    }
}

shape! {
    /// The watch over runs.
    RunsDraft as "runs" {
        /// A run without a sign of life for this long is an orphan, where it named no other time.
        /// Without it only runs with a deadline or a heartbeat of their own are watched.
        heartbeat: Time,
        /// How often runs are looked at.
        check_every: Time = "1s",
    }
}
