//! Generated answers: any blocks with any text, in one piece or many, side by side or one by one.

use std::borrow::Cow;

use holdfast_wire::turn::{Block, Delta, Event, Stop, StopKind, Usage};
use proptest::prelude::*;

/// An answer as it was thought up.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) blocks: Vec<Planned>,
    pub(crate) usage: Usage,
    pub(crate) stop: StopKind,
    /// Tool calls that follow each other grow in turns and close together, as Chat readers give them.
    pub(crate) interleaved: bool,
    pub(crate) pings: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Kind,
    /// What the opening itself carries comes first.
    pub(crate) opening: bool,
    pub(crate) pieces: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Text,
    Thinking { signature: String },
    Redacted,
    Tool,
    Refusal,
    Server,
}

impl Planned {
    pub(crate) fn content(&self) -> String {
        self.pieces.concat()
    }

    fn block(&self, index: u32, content: Cow<'static, str>) -> Block<'static> {
        match &self.kind {
            Kind::Text => Block::Text { text: content },
            Kind::Refusal => Block::Refusal { text: content },
            Kind::Thinking { .. } => Block::Thinking {
                thinking: content,
                signature: "".into(),
            },
            Kind::Redacted => Block::RedactedThinking {
                data: self.content().into(),
            },
            Kind::Tool => Block::Tool {
                id: format!("call_{index}").into(),
                name: "look \"up\"".into(),
                input: (!content.is_empty()).then_some(content),
            },
            Kind::Server => Block::Opaque {
                kind: "server_tool_use".into(),
                raw: format!("{{\"type\":\"server_tool_use\",\n\"id\":\"srvtoolu_{index}\",\"name\":\"web\",\"input\":{{}}}}").into(),
                partial_input: true,
            },
        }
    }

    fn events(&self, index: u32) -> Vec<Event<'static>> {
        let mut pieces = self.pieces.clone();
        // Half arguments never come in an opening.
        let whole = self.kind != Kind::Tool || pieces.len() == 1;
        let opens = self.opening && whole && self.kind != Kind::Server && !pieces.is_empty();
        let opening = if opens {
            pieces.remove(0)
        } else {
            String::new()
        };
        let mut events = vec![Event::BlockStart {
            index,
            choice: 0,
            block: self.block(index, opening.into()),
        }];
        let delta = |text: String| match &self.kind {
            Kind::Text => Delta::Text(text.into()),
            Kind::Refusal => Delta::Refusal(text.into()),
            Kind::Thinking { .. } => Delta::Thinking(text.into()),
            Kind::Tool | Kind::Server | Kind::Redacted => Delta::Arguments(text.into()),
        };
        if self.kind != Kind::Redacted {
            let deltas = pieces.into_iter().map(delta);
            events.extend(deltas.map(|delta| Event::Delta { index, delta }));
        }
        if let Kind::Thinking { signature } = &self.kind {
            let delta = Delta::Signature(signature.clone().into());
            events.push(Event::Delta { index, delta });
        }
        events
    }
}

impl Plan {
    pub(crate) fn events(&self) -> Vec<Event<'static>> {
        let mut events = vec![Event::Start {
            id: "foreign".into(),
            model: "theirs".into(),
        }];
        let indexed: Vec<(u32, &Planned)> = (0..).zip(&self.blocks).collect();
        let together = |a: &(u32, &Planned), b: &(u32, &Planned)| {
            self.interleaved && a.1.kind == Kind::Tool && b.1.kind == Kind::Tool
        };
        for group in indexed.chunk_by(together) {
            let mut turns: Vec<_> = group
                .iter()
                .map(|(index, block)| block.events(*index).into_iter())
                .collect();
            // All open first; then each grows in its turn.
            loop {
                let before = events.len();
                for turn in &mut turns {
                    events.extend(turn.next());
                    if self.pings {
                        events.push(Event::Ping);
                    }
                }
                if events[before..].iter().all(|event| *event == Event::Ping) {
                    break;
                }
            }
            let stops = group.iter().map(|(index, _)| *index);
            events.extend(stops.map(|index| Event::BlockStop { index }));
        }
        events.extend([Event::Usage(self.usage), self.stop(), Event::End]);
        events
    }

    fn stop(&self) -> Event<'static> {
        let met = self.stop == StopKind::StopSequence;
        Event::Stop {
            choice: 0,
            stop: Stop {
                kind: self.stop,
                said: "their word".into(),
                sequence: met.then_some("\n\nHuman:".into()),
                details: (self.stop == StopKind::Refusal)
                    .then_some("{\"type\":\"refusal\",\r\n\"category\":null}".into()),
            },
        }
    }
}

/// Text with everything that an escape can get wrong.
pub(crate) fn nasty() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "\"",
        "\\",
        "\\\"",
        "\\ud83d",
        "\\u0000",
        "\0",
        "\u{1f}",
        "\u{7f}",
        "\n\n",
        "\r\n",
        "\r",
        "\t",
        "\u{8}\u{c}\u{b}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "é“”…",
        "😀",
        "\u{10FFFF}",
        "\u{FEFF}",
        "data: [DONE]\n\n",
        "event: error",
        ": ",
        "</script>",
        "null",
        "{}",
        "",
        " ",
    ]);
    prop::collection::vec(
        prop_oneof![
            3 => special.prop_map(str::to_owned),
            1 => any::<String>(),
            1 => "[a-z ]{0,12}",
        ],
        0..5,
    )
    .prop_map(|pieces| pieces.concat())
}

/// Arguments as JSON text: often with what parsers stumble over, sometimes none at all.
fn arguments() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "",
        "{}",
        " ",
        "{ }",
        "null",
        r#"{"a":"\ud800"}"#,
        "{\n\"a\" :\r\n[1e400, {}]\n}",
        r#"{"a":"\u2028","a":"\/"}"#,
        "[\"not an object\"]",
    ]);
    let object = prop::collection::vec((nasty(), nasty()), 1..4).prop_map(|members| {
        let members = members
            .into_iter()
            .map(|(name, value)| (name, value.into()));
        serde_json::Value::Object(members.collect()).to_string()
    });
    prop_oneof![1 => odd.prop_map(str::to_owned), 2 => object]
}

/// `text` in pieces, some of them empty.
fn pieces(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    (
        text,
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    )
        .prop_map(|(text, cuts)| {
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
            cuts.extend([0, chars.len()]);
            cuts.sort_unstable();
            let spans = cuts
                .windows(2)
                .map(|cut| chars[cut[0]..cut[1]].iter().collect());
            spans.collect()
        })
}

pub(crate) fn text_block() -> impl Strategy<Value = Planned> {
    block(Just(Kind::Text), nasty())
}

fn block(
    kind: impl Strategy<Value = Kind>,
    text: impl Strategy<Value = String>,
) -> impl Strategy<Value = Planned> {
    (kind, pieces(text), any::<bool>()).prop_map(|(kind, pieces, opening)| Planned {
        kind,
        opening,
        pieces,
    })
}

fn any_block() -> impl Strategy<Value = Planned> {
    prop_oneof![
        3 => text_block(),
        2 => block(nasty().prop_map(|signature| Kind::Thinking { signature }), nasty()),
        1 => block(Just(Kind::Redacted), nasty()),
        4 => block(Just(Kind::Tool), arguments()),
        1 => block(Just(Kind::Refusal), nasty()),
        1 => block(Just(Kind::Server), arguments()),
    ]
}

pub(crate) fn usage() -> impl Strategy<Value = Usage> {
    let count = || prop::option::of(0..1_u64 << 50);
    (count(), count(), count(), count(), count()).prop_map(
        |(input, cache_read, cache_write, output, reasoning)| Usage {
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
        },
    )
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let stop = prop::sample::select(vec![
        StopKind::EndTurn,
        StopKind::StopSequence,
        StopKind::ToolUse,
        StopKind::MaxTokens,
        StopKind::ContextWindow,
        StopKind::Pause,
        StopKind::Refusal,
    ]);
    let blocks = prop::collection::vec(any_block(), 0..6);
    (blocks, usage(), stop, any::<bool>(), any::<bool>()).prop_map(
        |(blocks, usage, stop, interleaved, pings)| Plan {
            blocks,
            usage,
            stop,
            interleaved,
            pings,
        },
    )
}
