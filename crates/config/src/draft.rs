//! The configuration as it is written: every section and field of the file, all optional.
//!
//! The comments of this file are the reference: they become `docs/configuration.md` and the
//! descriptions in the JSON Schema. What the values mean together is checked in [`crate::check`].

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::checked::{
    AuthStyle, Delivery, EmptyAnswer, Http2, KeepTickets, Kind, LogFormat, LogLevel,
    MaxTokensField, OnRefusal, Prefill, TicketRetry, UpstreamStream,
};
use crate::shape::{Field, Read, Reader, Sections, Spanned, shape};
use crate::values::{
    Count, CountOrZero, LongTime, Named, Rate, SecretText, Share, Size, Time, Tokens,
};
use crate::words::{Words, words};
use crate::yaml::{Node, Value};
use holdfast_wire::turn::Dialect;

words! {
    /// Whose credential a provider gets.
    pub(crate) enum AuthWord {
        /// The provider's `key`.
        Key = "key",
        /// The caller's own.
        Caller = "caller",
        /// None.
        None = "none",
    }
}

impl Words for Dialect {
    const WORDS: &'static [(&'static str, Self)] =
        &[("anthropic", Self::Anthropic), ("openai", Self::OpenAi)];
}

shape! {
    /// The whole file.
    Draft as "configuration" {
        /// Where callers are served: address and port. Anything but loopback needs `callers`, or
        /// providers that all take the caller's own credential: then only model calls are taken. Read
        /// at start only.
        listen: Vec<Spanned<String>> = "127.0.0.1:4000",
        /// How many worker threads; without it one per core. Read at start only.
        workers: Count,
        /// How long running answers may go on after SIGTERM.
        drain: Time = "30s",
        /// Who may call, each with a key. Without any, everybody who reaches the address may.
        callers: Vec<CallerDraft>,
        /// The endpoints that answer, in any order.
        providers: Vec<ProviderDraft>,
        /// The model names that callers use, and what each stands for. The exact name wins, then the
        /// longest wildcard.
        routes: Vec<RouteDraft>,
        /// What a workflow's steps demand, whichever route answers them. The exact name wins, then
        /// the longest wildcard.
        steps: Vec<StepDraft>,
        /// What holds for every route that does not say otherwise.
        defaults: DefaultsDraft,
        /// Everything that is bounded.
        limits: LimitsDraft,
        /// What is logged.
        log: LogDraft,
        /// Where keys, effects, tickets and runs are kept. Without it: `holdfast.db` beside this
        /// file. Read at start only.
        store: StoreDraft,
        /// Where side effects may go.
        effects: EffectsDraft,
        /// Who is told of events. Each delivery is signed and made once.
        webhooks: Vec<WebhookDraft>,
        /// The review queue.
        review: ReviewDraft,
        /// The watch over runs.
        runs: RunsDraft,
    }
}

shape! {
    /// Somebody who may call. A caller sends the key as `Authorization: Bearer` or as `x-api-key`.
    CallerDraft as "caller" {
        /// Shown in the ledger and in metrics; never the key.
        name: String,
        /// The key. Only its hash is kept.
        key: SecretText,
        /// Instead of `key`: its SHA-256 as 64 hexadecimal digits (`printf %s "$KEY" | sha256sum`).
        key_sha256: String,
        /// The routes (as written in their `model`) that this caller may use; without it all.
        routes: Vec<Spanned<String>>,
        /// May see and decide what belongs to other callers: tickets, effects, runs, approvals.
        reviewer: bool = "false",
    }
}

shape! {
    /// An endpoint with credentials that speaks one dialect.
    ProviderDraft as "provider" {
        /// A name of your choice, for targets, logs and metrics.
        name: String,
        /// Which vendor or server it is: sets the dialect, the address and the quirks. May be left
        /// out where `name` is one of these words.
        kind: Kind,
        /// The protocol, where it is not the usual one of its kind.
        dialect: Dialect,
        /// The address, with or without `/v1`. Each kind of a vendor has one already.
        base_url: String,
        /// The vendor's key.
        key: SecretText,
        /// Whose credential is sent: `key`, the `caller`'s own (passed to this provider and to no
        /// other), or `none`. Without it: `key` where there is one, else `none`.
        auth: AuthWord,
        /// The header for the key. Without it: `x-api-key` for the Anthropic dialect, `bearer` for
        /// the rest.
        auth_style: AuthStyle,
        /// What falls together: after a failure, targets in another domain are asked first. Without
        /// it: the last two labels of the host's name, or host and port.
        domain: String,
        /// Sent instead of the caller's `anthropic-version`.
        anthropic_version: String,
        /// Extra request headers; each value is a secret.
        headers: Named<SecretText>,
        /// Where the server deviates from its dialect.
        quirks: QuirksDraft,
        /// Whether HTTP/2 is spoken.
        http2: Http2 = "auto",
        /// How many connections, for each worker.
        connections: ConnectionsDraft,
        /// How its certificate is checked.
        tls: TlsDraft,
        /// Time limits of calls to this provider, over those of the route.
        timeouts: TimeoutsDraft,
    }
}

shape! {
    /// Where a server deviates from its dialect. Each kind knows its own.
    QuirksDraft as "quirks" {
        /// The most stop sequences in one call.
        stop_limit: Count,
        /// Tool-call ids must be nine letters or digits.
        tool_id_alnum9: bool,
        /// The name of the field that limits the answer.
        max_tokens_field: MaxTokensField,
        /// How a begun answer is handed over to go on with; `none` asks by a user turn.
        prefill: Prefill,
        /// The server takes `stream_options.include_usage`.
        stream_options: bool,
    }
}

shape! {
    /// How many connections a provider gets from each worker.
    ConnectionsDraft as "connections" {
        /// Idle HTTP/1.1 connections that are kept.
        max_h1_idle: CountOrZero = "64",
        /// Calls at once on one HTTP/2 connection; the next call opens another one.
        h2_streams_per_connection: Count = "50",
        /// The most HTTP/2 connections.
        h2_max_connections: Count = "16",
    }
}

shape! {
    /// How a provider's certificate is checked.
    TlsDraft as "tls" {
        /// A PEM file of certificates to trust besides the system's.
        ca_file: PathBuf,
    }
}

shape! {
    /// Time limits of one attempt.
    TimeoutsDraft as "timeouts" {
        /// Name lookup, TCP and TLS together.
        connect: Time = "5s",
        /// From the request sent to the response head.
        head: Time = "30s",
        /// From the response head to the first content. Pings are not content.
        first_token: Time = "30s",
        /// Between two pieces of content. Pings are not content.
        idle: Time = "20s",
        /// The whole attempt.
        attempt: Time = "10m",
        /// How long the terminal marker may lag behind the finish reason.
        after_finish: Time = "2s",
    }
}

shape! {
    /// Waiting before the same target is asked again: a random part of a doubling span.
    BackoffDraft as "backoff" {
        /// The first span.
        base: Time = "500ms",
        /// The largest span.
        cap: Time = "8s",
    }
}

shape! {
    /// The retry budget of each target: second attempts draw on it, moving on to the next target
    /// does not.
    BudgetDraft as "budget" {
        /// Retries for each recent call.
        share: Share = "10%",
        /// Retries per second that are always allowed.
        floor_per_second: Rate = "1",
    }
}

shape! {
    /// When a target is left alone, and for how long.
    BreakerDraft as "breaker" {
        /// Opens after so many failures in a row.
        consecutive: Count = "5",
        /// Opens when this share of the calls in `window` failed.
        share: Share = "50%",
        /// What `share` looks back on.
        window: Time = "10s",
        /// `share` counts only with at least so many calls in `window`.
        min_calls: Count = "20",
        /// How long it stays open at first; doubles with every failed probe.
        open: Time = "5s",
        /// The longest it stays open.
        open_max: Time = "1m",
        /// How long it stays open after a money error: no credit, spend limit.
        money: Time = "10m",
    }
}

/// A shape with the fields of a policy, which stand in `defaults` and in every route.
macro_rules! shape_with_policy {
    (
        $(#[doc = $about:literal])*
        $name:ident as $title:literal { $($own:tt)* }
    ) => {
        shape! {
            $(#[doc = $about])*
            $name as $title {
                $($own)*
                /// How a stream reaches the caller: `live` as it comes, `guarded` with tool
                /// calls and the end held until all of it is proven, `whole` with everything held.
                /// Calls without `stream` are always `whole`.
                delivery: Delivery = "guarded",
                /// Whether a text that was cut after it was shown may be continued by another target, if it is at most 1 MiB long.
                join: bool = "true",
                /// The most calls to one target for one exchange, the first included.
                attempts_per_target: Count = "2",
                /// The most calls to all targets together for one exchange.
                max_attempts: Count = "6",
                /// The longest that one exchange may take, over all attempts and waits.
                deadline: Time = "10m",
                /// Time limits of one attempt.
                timeouts: TimeoutsDraft,
                /// Waiting before the same target is asked again.
                backoff: BackoffDraft,
                /// A refusal is an answer (`deliver`), or a reason to ask the `next` target.
                on_refusal: OnRefusal = "deliver",
                /// An answer without content is a failure (`broken`) or an answer (`whole`).
                empty_answer: EmptyAnswer = "broken",
                /// How often a waiting caller of a stream gets a keep-alive.
                heartbeat: Time = "10s",
                /// How often a paused turn (`pause_turn`) is sent back for one exchange.
                max_continuations: CountOrZero = "8",
                /// What an `Idempotency-Key` does.
                idempotency: IdempotencyDraft,
                /// Which calls that nobody could answer are kept for review: those with a key
                /// (`keyed`), `all`, or `never`.
                tickets: KeepTickets = "keyed",
                /// When a kept call is tried again without a person: when its caller repeats it
                /// (`on_repeat`), by itself when a target is back (`when_healthy`), or `never`.
                ticket_retry: TicketRetry = "on_repeat",
                /// How long a ticket waits for somebody.
                ticket_expiry: LongTime = "7d",
                /// How long after a failure a kept call may be tried again.
                retry_after: Time = "5s",
                /// What an answer must be beyond whole.
                gate: GateDraft,
            }
        }

        impl $name {
            pub(crate) fn policy(&self) -> PolicyFields<'_> {
                PolicyFields {
                    delivery: &self.delivery,
                    join: &self.join,
                    attempts_per_target: &self.attempts_per_target,
                    max_attempts: &self.max_attempts,
                    deadline: &self.deadline,
                    timeouts: &self.timeouts,
                    backoff: &self.backoff,
                    on_refusal: &self.on_refusal,
                    empty_answer: &self.empty_answer,
                    heartbeat: &self.heartbeat,
                    max_continuations: &self.max_continuations,
                    idempotency: &self.idempotency,
                    tickets: &self.tickets,
                    ticket_retry: &self.ticket_retry,
                    ticket_expiry: &self.ticket_expiry,
                    retry_after: &self.retry_after,
                    gate: &self.gate,
                }
            }
        }
    };
}

/// The fields of a policy, wherever they stand.
#[derive(Clone, Copy)]
pub(crate) struct PolicyFields<'a> {
    pub(crate) delivery: &'a Field<Delivery>,
    pub(crate) join: &'a Field<bool>,
    pub(crate) attempts_per_target: &'a Field<Count>,
    pub(crate) max_attempts: &'a Field<Count>,
    pub(crate) deadline: &'a Field<Time>,
    pub(crate) timeouts: &'a Field<TimeoutsDraft>,
    pub(crate) backoff: &'a Field<BackoffDraft>,
    pub(crate) on_refusal: &'a Field<OnRefusal>,
    pub(crate) empty_answer: &'a Field<EmptyAnswer>,
    pub(crate) heartbeat: &'a Field<Time>,
    pub(crate) max_continuations: &'a Field<CountOrZero>,
    pub(crate) idempotency: &'a Field<IdempotencyDraft>,
    pub(crate) tickets: &'a Field<KeepTickets>,
    pub(crate) ticket_retry: &'a Field<TicketRetry>,
    pub(crate) ticket_expiry: &'a Field<LongTime>,
    pub(crate) retry_after: &'a Field<Time>,
    pub(crate) gate: &'a Field<GateDraft>,
}

shape_with_policy! {
    /// What holds for every route that does not say otherwise. `budget` and `breaker` belong to the
    /// targets, which routes share, so they stand here only.
    DefaultsDraft as "defaults" {
        /// The retry budget of each target.
        budget: BudgetDraft,
        /// The circuit breaker of each target.
        breaker: BreakerDraft,
    }
}

shape_with_policy! {
    /// A model name that callers use, and the targets that it stands for.
    RouteDraft as "route" {
        /// A model name, or the beginning of names with a `*` at its end.
        model: String,
        /// What is asked, in this order. A target may be written short: `provider/model`, or just
        /// `provider` to pass the caller's model name on.
        targets: Vec<TargetDraft>,
    }
}

shape! {
    /// A provider, a model name and that model's limits.
    TargetFields as "target" {
        /// The `name` of a provider.
        provider: String,
        /// The vendor's name of the model; without it the name that the caller used.
        model: String,
        /// The most tokens that the model can answer. A larger wish is lowered to it, and it is the
        /// `max_tokens` for a caller that names none where the vendor demands one (64000 if this is not set).
        max_output_tokens: Tokens,
        /// Tokens that fit into the model: a call that was too long for one target goes to one where
        /// more fit.
        context_window: Tokens,
        /// Whether the model takes images.
        images: bool = "true",
        /// Whether the model takes documents (PDF).
        documents: bool = "true",
        /// Whether a call without `stream` is made as a stream to the vendor, so that a stall is
        /// noticed early: `auto` does it where the stream folds into exactly the same body.
        upstream_stream: UpstreamStream = "auto",
        /// How a begun answer is handed to this target, where it differs from its provider's.
        prefill: Prefill,
        /// Time limits of calls to this target, over those of its provider.
        timeouts: TimeoutsDraft,
    }
}

shape! {
    /// Everything that is bounded.
    LimitsDraft as "limits" {
        /// The largest request body. Larger: 413.
        body_bytes: Size = "32MiB",
        /// The largest request head. Larger: 431.
        header_bytes: Size = "64KiB",
        /// The most request headers. More: 431.
        headers: Count = "100",
        /// The deepest nesting of a request's JSON. Deeper: 400.
        json_depth: Count = "128",
        /// How long a caller may take to send the request head.
        header_timeout: Time = "10s",
        /// How long an HTTP/1.1 connection may be idle between two requests, before it is closed.
        idle_timeout: Time = "2m",
        /// How long a caller may take to send the request body.
        body_timeout: Time = "1m",
        /// How long a caller may leave what it was sent unread, before its connection is ended, or its stream of an HTTP/2 connection.
        write_timeout: Time = "1m",
        /// The largest answer that is held whole.
        answer_bytes: Size = "64MiB",
        /// The largest single event of a vendor's stream.
        event_bytes: Size = "16MiB",
        /// Requests and held answers over all calls at once. Beyond: 503.
        buffered_bytes: Size = "1GiB",
        /// The most open connections of callers. Beyond: refused with `Retry-After`, but for `/healthz`.
        connections: Count = "10000",
        /// The most calls at once. Beyond: refused with `Retry-After`.
        in_flight: Count = "4096",
        /// How many exchanges the ledger in memory remembers.
        ledger_records: Count = "10000",
        /// Finished exchanges that wait to be stored, and as many runs whose sign of life does. Beyond: not stored, and counted.
        queued_writes: Count = "10000",
        /// The longest that a caller may wait for something to happen (`?wait=`).
        wait: Time = "1m",
    }
}

shape! {
    /// What is written to standard error. Never the content of a message, never a secret.
    LogDraft as "log" {
        /// The shape of a line.
        format: LogFormat = "text",
        /// The least important events that are logged. `info` has the calls that needed more than one attempt or were told an error, `debug` every call.
        level: LogLevel = "info",
    }
}

mod durable;

pub(crate) use durable::{
    EffectTargetDraft, EffectWord, EffectsDraft, GateDraft, IdempotencyDraft, RetentionDraft,
    ReviewDraft, RunsDraft, StepDraft, StoreDraft, WebhookDraft,
};

/// A target, long or short.
#[derive(Clone, Debug)]
pub(crate) struct TargetDraft(pub(crate) TargetFields);

// === impl TargetDraft ===

impl Read for TargetDraft {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Scalar(_)) {
            return TargetFields::read(node, reader).map(Self);
        }
        let text = reader.text(node, "a target")?.value;
        let (provider, model) = match text.split_once('/') {
            Some((provider, model)) => (provider, Some(model)),
            None => (text.as_str(), None),
        };
        let place = |value: &str| {
            Field::Given(Spanned {
                value: value.to_owned(),
                span: node.span.clone(),
            })
        };
        Some(Self(TargetFields {
            at: node.span.clone(),
            provider: place(provider),
            model: model.map_or(Field::Absent, place),
            ..TargetFields::default()
        }))
    }

    fn schema(sections: &mut Sections) -> Json {
        json!({ "anyOf": [{ "type": "string" }, TargetFields::schema(sections)] })
    }

    fn word() -> String {
        TargetFields::word()
    }
}
