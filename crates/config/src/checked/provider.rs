//! An endpoint with credentials that speaks one dialect, and where it deviates from it.
//!
//! [`Kind`] is the catalogue: it names the vendor or server and gives every default. What the
//! gateway does depends on the fields of [`Quirks`] alone, never on the kind, so that a new server
//! needs no code.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use holdfast_wire::turn::Dialect;

use crate::secret::Secret;
use crate::words::words;

/// An endpoint with credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Shown in logs, metrics and the `Holdfast-Target` header. Unique.
    pub name: String,
    pub kind: Kind,
    pub dialect: Dialect,
    pub base_url: BaseUrl,
    pub auth: Auth,
    /// How the credential is sent.
    pub auth_style: AuthStyle,
    /// What falls together: after a failure, targets in another domain come first.
    pub domain: String,
    /// Sent instead of the caller's `anthropic-version`; `None` = the caller's, or the writer's own
    /// for a translated call.
    pub anthropic_version: Option<String>,
    /// Extra request headers, names in lower case. They replace a caller's header of that name.
    pub headers: Vec<(String, Secret)>,
    pub quirks: Quirks,
    pub http2: Http2,
    pub connections: Connections,
    pub tls: Tls,
}

/// Whose credential a provider gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Auth {
    /// A key that Holdfast holds.
    Key(Secret),
    /// The caller's own credential, passed through to this provider and to no other.
    Caller,
    /// None at all.
    None,
}

/// A parsed base address. Holds no credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BaseUrl {
    pub scheme: Scheme,
    /// In lower case; an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    /// What comes before `/messages` or `/chat/completions`: it starts with `/`, does not end with
    /// one, and holds the version (`/v1`, `/api/v1`). May be empty.
    pub path: String,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scheme {
    Http,
    Https,
}

/// Why a text is not a base address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UrlError {
    Scheme,
    Host,
    Port,
    Credentials,
    Query,
    Character,
}

/// Where a server deviates from its dialect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quirks {
    /// The most stop sequences taken in one call; `None` = no limit known.
    pub stop_limit: Option<u32>,
    /// Tool-call ids must be nine characters of `[a-zA-Z0-9]`.
    pub tool_id_alnum9: bool,
    /// The name of the field that limits the answer (OpenAI dialect only).
    pub max_tokens_field: MaxTokensField,
    /// How a begun answer is handed over to go on with.
    pub prefill: Prefill,
    /// The server takes `stream_options.include_usage` (OpenAI dialect only).
    pub stream_options: bool,
}

/// How many connections a provider may get from one worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connections {
    /// Idle HTTP/1.1 connections that are kept.
    pub max_h1_idle: u32,
    /// Calls at once on one HTTP/2 connection; the next call opens another one.
    pub h2_streams_per_connection: u32,
    /// The most HTTP/2 connections.
    pub h2_max_connections: u32,
}

/// How a provider's certificate is checked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tls {
    /// Certificates (PEM) trusted for this provider besides the system's.
    pub ca_file: Option<PathBuf>,
}

words! {
    /// Which vendor or server a provider is: it sets the dialect, the address and the quirks.
    pub enum Kind {
        /// Anthropic Messages, and servers that speak it.
        Anthropic = "anthropic",
        /// OpenAI Chat Completions at OpenAI itself.
        OpenAi = "openai",
        /// A vLLM server.
        Vllm = "vllm",
        /// Ollama's OpenAI-compatible side.
        Ollama = "ollama",
        /// The server of llama.cpp.
        LlamaCpp = "llama-cpp",
        /// OpenRouter.
        OpenRouter = "openrouter",
        /// DeepSeek.
        DeepSeek = "deepseek",
        /// Mistral.
        Mistral = "mistral",
        /// Any other server that speaks OpenAI Chat Completions.
        OpenAiCompatible = "openai-compatible",
    }
}

words! {
    /// How the credential is sent.
    pub enum AuthStyle {
        /// `Authorization: Bearer <key>`.
        Bearer = "bearer",
        /// `x-api-key: <key>`.
        XApiKey = "x-api-key",
    }
}

words! {
    /// The name of the field that limits an answer's tokens.
    pub enum MaxTokensField {
        /// The old name, which compatible servers know.
        MaxTokens = "max_tokens",
        /// The new name, which OpenAI's reasoning models demand.
        MaxCompletionTokens = "max_completion_tokens",
    }
}

words! {
    /// How a begun answer is handed to a model to go on with.
    pub enum Prefill {
        /// Not natively: a user turn quotes it and asks to go on. Works everywhere.
        None = "none",
        /// As the last message, by the assistant.
        Trailing = "trailing",
        /// As the last message, by the assistant, marked `prefix: true`.
        Prefix = "prefix",
        /// As the last message, with `continue_final_message: true` and
        /// `add_generation_prompt: false`.
        ContinueFinalMessage = "continue-final-message",
    }
}

words! {
    /// Whether HTTP/2 is spoken to a provider.
    pub enum Http2 {
        /// Where TLS agrees on it (ALPN); HTTP/1.1 without TLS.
        Auto = "auto",
        /// Never.
        Never = "never",
        /// Always, also without TLS.
        PriorKnowledge = "prior-knowledge",
    }
}

// === impl Kind ===

impl Kind {
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Anthropic => Dialect::Anthropic,
            Self::OpenAi
            | Self::Vllm
            | Self::Ollama
            | Self::LlamaCpp
            | Self::OpenRouter
            | Self::DeepSeek
            | Self::Mistral
            | Self::OpenAiCompatible => Dialect::OpenAi,
        }
    }

    /// The address used when the file names none; `None` where there is no usual one.
    pub fn base_url(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Ollama => Some("http://127.0.0.1:11434/v1"),
            Self::OpenRouter => Some("https://openrouter.ai/api/v1"),
            Self::DeepSeek => Some("https://api.deepseek.com/v1"),
            Self::Mistral => Some("https://api.mistral.ai/v1"),
            Self::Vllm | Self::LlamaCpp | Self::OpenAiCompatible => None,
        }
    }

    /// Whether the server usually wants a key.
    pub fn wants_key(self) -> bool {
        match self {
            Self::Anthropic | Self::OpenAi | Self::OpenRouter | Self::DeepSeek | Self::Mistral => {
                true
            }
            Self::Vllm | Self::Ollama | Self::LlamaCpp | Self::OpenAiCompatible => false,
        }
    }

    /// The deviations known of this server (wire facts 1.7 and 5.1).
    pub fn quirks(self) -> Quirks {
        let plain = Quirks {
            stop_limit: None,
            tool_id_alnum9: false,
            max_tokens_field: MaxTokensField::MaxTokens,
            prefill: Prefill::None,
            stream_options: true,
        };
        match self {
            Self::Anthropic | Self::OpenRouter | Self::DeepSeek | Self::OpenAiCompatible => plain,
            Self::OpenAi => Quirks {
                stop_limit: Some(4),
                max_tokens_field: MaxTokensField::MaxCompletionTokens,
                ..plain
            },
            Self::Vllm => Quirks {
                prefill: Prefill::ContinueFinalMessage,
                ..plain
            },
            Self::Ollama | Self::LlamaCpp => Quirks {
                prefill: Prefill::Trailing,
                ..plain
            },
            Self::Mistral => Quirks {
                tool_id_alnum9: true,
                prefill: Prefill::Prefix,
                stream_options: false,
                ..plain
            },
        }
    }
}

// === impl BaseUrl ===

impl BaseUrl {
    /// Reads `http(s)://host[:port][/path]`.
    ///
    /// Both customs of writing a base address are taken: with the version (`.../v1`, OpenAI's) and
    /// without (Anthropic's). Anthropic's gets `/v1` when it does not end with it; the others only
    /// when they have no path at all.
    pub fn parse(text: &str, dialect: Dialect) -> Result<Self, UrlError> {
        let mut url = Self::plain(text)?;
        url.path = versioned(&url.path, dialect);
        Ok(url)
    }

    /// As [`Self::parse`], and the path stays as it is, without a slash at its end.
    pub fn plain(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((word, rest)) if word.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((word, rest)) if word.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            _ => return Err(UrlError::Scheme),
        };
        if rest
            .bytes()
            .any(|byte| !byte.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&byte))
        {
            return Err(UrlError::Character);
        }
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        let (host, port) = split_authority(authority)?;
        Ok(Self {
            scheme,
            host,
            port: port.unwrap_or_else(|| scheme.default_port()),
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// The `Host` header and the HTTP/2 `:authority`: the port only where it is not the usual one.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == self.scheme.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// The request path of an endpoint that is named without its version: `/messages`.
    pub fn join(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.path)
    }

    /// What most likely falls together with this host: the last two labels of its name, or host and
    /// port where the name is an address or `localhost` (two servers on one machine are two).
    pub fn domain(&self) -> String {
        let labels: Vec<&str> = self.host.split('.').collect();
        let is_name = labels.len() >= 2
            && !self.host.contains(':')
            && labels
                .last()
                .is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
        if is_name {
            labels[labels.len() - 2..].join(".")
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.name(),
            self.authority(),
            self.path
        )
    }
}

fn split_authority(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UrlError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
        match after {
            "" => (host, None),
            _ => (host, Some(after.strip_prefix(':').ok_or(UrlError::Port)?)),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        return Err(UrlError::Host);
    }
    let port = match port {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && !digits.starts_with('+') => Some(port),
            _ => return Err(UrlError::Port),
        },
    };
    Ok((host.to_ascii_lowercase(), port))
}

fn versioned(path: &str, dialect: Dialect) -> String {
    let lacks = match dialect {
        Dialect::Anthropic => !path.ends_with("/v1"),
        Dialect::OpenAi => path.is_empty(),
    };
    if lacks {
        format!("{path}/v1")
    } else {
        path.to_owned()
    }
}

// === impl Scheme ===

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

// === impl UrlError ===

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the address must start with `http://` or `https://`",
            Self::Host => "the address has no valid host",
            Self::Port => "the port must be a number from 1 to 65535",
            Self::Credentials => "the address must not hold credentials",
            Self::Query => "the address must not hold a query or a fragment",
            Self::Character => "the address holds a character that must be escaped",
        })
    }
}

impl std::error::Error for UrlError {}

// === impl Connections ===

impl Default for Connections {
    fn default() -> Self {
        Self {
            max_h1_idle: 64,
            h2_streams_per_connection: 50,
            h2_max_connections: 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_customs_of_writing_an_address_are_taken() {
        let cases = [
            (
                "https://api.anthropic.com",
                Dialect::Anthropic,
                "https://api.anthropic.com/v1",
            ),
            (
                "https://api.anthropic.com/v1/",
                Dialect::Anthropic,
                "https://api.anthropic.com/v1",
            ),
            (
                "https://openrouter.ai/api",
                Dialect::Anthropic,
                "https://openrouter.ai/api/v1",
            ),
            (
                "https://api.openai.com",
                Dialect::OpenAi,
                "https://api.openai.com/v1",
            ),
            (
                "https://openrouter.ai/api/v1",
                Dialect::OpenAi,
                "https://openrouter.ai/api/v1",
            ),
            (
                "https://h/openai/v2",
                Dialect::OpenAi,
                "https://h/openai/v2",
            ),
            (
                "HTTP://LOCALHOST:8000",
                Dialect::OpenAi,
                "http://localhost:8000/v1",
            ),
            ("http://h:80", Dialect::OpenAi, "http://h/v1"),
            ("https://h:80", Dialect::OpenAi, "https://h:80/v1"),
            ("http://[::1]:9", Dialect::OpenAi, "http://[::1]:9/v1"),
        ];
        for (text, dialect, expected) in cases {
            let url = BaseUrl::parse(text, dialect).expect(text);
            assert_eq!(url.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let cases = [
            ("", UrlError::Scheme),
            ("api.openai.com", UrlError::Scheme),
            ("ftp://h", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http://:80", UrlError::Host),
            ("http://[::1", UrlError::Host),
            ("http://[zz]", UrlError::Host),
            ("http://ü", UrlError::Character),
            ("http://h/a b", UrlError::Character),
            ("http://h:0", UrlError::Port),
            ("http://h:+1", UrlError::Port),
            ("http://h:", UrlError::Port),
            ("http://::1", UrlError::Host),
            ("http://a:b@h", UrlError::Credentials),
            ("http://h?x", UrlError::Query),
            ("http://h/#x", UrlError::Query),
        ];
        for (text, expected) in cases {
            assert_eq!(
                BaseUrl::parse(text, Dialect::OpenAi),
                Err(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn a_domain_is_what_falls_together() {
        let domain = |text| BaseUrl::parse(text, Dialect::OpenAi).expect(text).domain();
        assert_eq!(domain("https://eu.api.openai.com"), "openai.com");
        assert_eq!(domain("https://openai.com"), "openai.com");
        assert_eq!(domain("http://10.0.0.1:8000"), "10.0.0.1:8000");
        assert_eq!(domain("http://localhost:8000"), "localhost:8000");
        assert_eq!(domain("http://[fe80::1]"), "fe80::1:80");
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        let loopback = |text| {
            BaseUrl::parse(text, Dialect::OpenAi)
                .expect(text)
                .is_loopback()
        };
        assert!(
            loopback("http://localhost:1")
                && loopback("http://127.0.0.9")
                && loopback("http://[::1]")
        );
        assert!(!loopback("http://10.0.0.1") && !loopback("http://localhost.example.com"));
    }
}
