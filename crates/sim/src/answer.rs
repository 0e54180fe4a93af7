//! The healthy answer to a request, in words of neither dialect.
//!
//! Pure and deterministic: the same request always gets the same answer, from whichever vendor it is asked.
//! Rendering it in a dialect is `render`; breaking it is `fault`.

use serde_json::{Value, json};

use crate::ask::{Ask, Choice, Dialect, Shape, Tool, Turn};
use crate::schema;
use crate::text;

/// Bytes of one piece of tool arguments or JSON text.
const PIECE: usize = 5;

/// One part of an answer, cut in the pieces that a stream sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block {
    Thinking {
        pieces: Vec<String>,
        signature: String,
    },
    Text {
        pieces: Vec<String>,
    },
    Tool {
        id: String,
        name: String,
        pieces: Vec<String>,
    },
    /// A tool that the vendor itself runs, and where the turn pauses.
    ServerTool {
        id: String,
        name: String,
        input: Value,
    },
}

/// Why the answer ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    End,
    Sequence(String),
    Tools,
    Limit,
    Pause,
    /// These very words (none: null) in place of the true reason.
    Raw(Option<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) blocks: Vec<Block>,
    pub(crate) stop: Stop,
    pub(crate) input_tokens: usize,
    pub(crate) output_tokens: usize,
}

/// The signature of a thinking block, which a vendor checks when the block comes back.
pub(crate) fn signature(thought: &str) -> String {
    format!("c2lt{}", text::sum(thought))
}

/// Makes the answer. `serial` numbers the calls of a server, so that ids differ.
pub(crate) fn make(ask: &Ask, serial: u64) -> Answer {
    let (mut blocks, mut stop) = if calls_tools(ask) {
        tool_answer(ask)
    } else {
        text_answer(ask)
    };
    if let Some(limit) = ask.limit
        && cut_to(&mut blocks, limit)
    {
        stop = Stop::Limit;
    }
    let output_tokens = blocks.iter().map(count).sum();
    if ask.thinking && ask.turn == Turn::Question {
        blocks.insert(0, thinking(ask));
    }
    Answer {
        id: format!("{:08x}{serial:08x}", crc32fast::hash(ask.model.as_bytes())),
        model: ask.model.clone(),
        blocks,
        stop,
        input_tokens: ask.input_tokens,
        output_tokens,
    }
}

fn calls_tools(ask: &Ask) -> bool {
    // The text before the calls was cut: after its rest come the calls.
    let before_calls = ask.markers.say && matches!(ask.turn, Turn::Continue(_));
    let may = (ask.turn == Turn::Question || before_calls) && !ask.tools.is_empty();
    match ask.choice {
        Choice::Forbidden => false,
        Choice::Any | Choice::Named(_) => may,
        Choice::Auto => may && !ask.markers.text,
    }
}

fn tool_answer(ask: &Ask) -> (Vec<Block>, Stop) {
    let mut blocks = Vec::new();
    let said = match &ask.turn {
        Turn::Continue(prefix) => resume(&ask.full_text(), prefix, ask.markers.overlap),
        _ if ask.markers.say => ask.full_text(),
        _ => String::new(),
    };
    if !said.is_empty() {
        blocks.push(Block::Text {
            pieces: text::tokens(&said),
        });
    }
    let wanted = match &ask.choice {
        Choice::Named(name) => Some(name),
        _ => ask.markers.tool.as_ref(),
    };
    let first = wanted
        .and_then(|name| ask.tools.iter().position(|tool| tool.name == *name))
        .unwrap_or(0);
    for number in 0..ask.markers.tools {
        let place = if wanted.is_some() {
            first
        } else {
            number % ask.tools.len()
        };
        blocks.push(call(&ask.tools[place], ask.markers.seed, number));
    }
    (blocks, Stop::Tools)
}

fn call(tool: &Tool, seed: u64, number: usize) -> Block {
    let seed = seed
        .wrapping_add(number as u64)
        .wrapping_add(u64::from(crc32fast::hash(tool.name.as_bytes())));
    let arguments = schema::fit(&tool.schema, seed);
    // A schema of another type than object still needs arguments that are an object.
    let arguments = if arguments.is_object() {
        arguments
    } else {
        json!({})
    };
    let arguments = arguments.to_string();
    Block::Tool {
        id: format!("{}_{number}", text::sum(&arguments)),
        name: tool.name.clone(),
        pieces: text::pieces(&arguments, PIECE),
    }
}

fn text_answer(ask: &Ask) -> (Vec<Block>, Stop) {
    match &ask.shape {
        Shape::Schema(schema) => return json_answer(&schema::fit(schema, ask.markers.seed)),
        Shape::AnyJson => return json_answer(&json!({"answer": ask.full_text()})),
        Shape::Free => {}
    }
    let full = ask.full_text();
    let mut rest = match &ask.turn {
        Turn::Question if ask.markers.pause && ask.dialect == Dialect::Anthropic => {
            return paused(&full);
        }
        Turn::Continue(prefix) => resume(&full, prefix, ask.markers.overlap),
        Turn::Paused(prefix) => resume(&full, prefix, 0),
        Turn::Question | Turn::ToolResult => full,
    };
    let mut stop = Stop::End;
    let first = ask
        .stops
        .iter()
        .filter(|word| !word.is_empty())
        .filter_map(|word| rest.find(word.as_str()).map(|at| (at, word)))
        .min();
    if let Some((at, word)) = first {
        rest.truncate(at);
        stop = Stop::Sequence(word.clone());
    }
    (
        vec![Block::Text {
            pieces: text::tokens(&rest),
        }],
        stop,
    )
}

fn json_answer(value: &Value) -> (Vec<Block>, Stop) {
    (
        vec![Block::Text {
            pieces: text::pieces(&value.to_string(), PIECE),
        }],
        Stop::End,
    )
}

/// The rest of `full` after `prefix`, with `overlap` words said again. A prefix that is none is answered from the start.
fn resume(full: &str, prefix: &str, overlap: usize) -> String {
    let Some(rest) = full.strip_prefix(prefix) else {
        return full.to_owned();
    };
    if overlap == 0 {
        return rest.to_owned();
    }
    let again = text::tokens(prefix);
    let from = again.len().saturating_sub(overlap);
    again[from..].concat().trim_start().to_owned() + rest
}

fn paused(full: &str) -> (Vec<Block>, Stop) {
    let mut pieces = text::tokens(full);
    pieces.truncate(pieces.len() / 2);
    let tool = Block::ServerTool {
        id: format!("srvtoolu_{}", text::sum(full)),
        name: "web_search".to_owned(),
        input: json!({"query": "holdfast"}),
    };
    (vec![Block::Text { pieces }, tool], Stop::Pause)
}

fn thinking(ask: &Ask) -> Block {
    let thought = text::make_text(ask.markers.seed.wrapping_add(1), 8);
    Block::Thinking {
        pieces: text::tokens(&thought),
        signature: signature(&thought),
    }
}

fn count(block: &Block) -> usize {
    match block {
        Block::Text { pieces } | Block::Tool { pieces, .. } | Block::Thinking { pieces, .. } => {
            pieces.len()
        }
        Block::ServerTool { .. } => 1,
    }
}

/// Cuts the answer to `limit` tokens; whether anything was cut.
fn cut_to(blocks: &mut Vec<Block>, limit: usize) -> bool {
    let mut left = limit;
    for index in 0..blocks.len() {
        let length = count(&blocks[index]);
        if length > left {
            match &mut blocks[index] {
                Block::Text { pieces }
                | Block::Tool { pieces, .. }
                | Block::Thinking { pieces, .. } => pieces.truncate(left),
                Block::ServerTool { .. } => {}
            }
            blocks.truncate(if left == 0 { index } else { index + 1 });
            return true;
        }
        left -= length;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Rules, read};
    use crate::text::check_text;

    fn answer(body: &Value) -> Answer {
        let rules = Rules {
            counting: false,
            refuse_prefill: false,
        };
        make(
            &read(Dialect::OpenAi, None, body.to_string().as_bytes(), rules).unwrap(),
            0,
        )
    }

    fn said(answer: &Answer) -> String {
        answer
            .blocks
            .iter()
            .filter_map(|block| {
                if let Block::Text { pieces } = block {
                    Some(pieces.concat())
                } else {
                    None
                }
            })
            .collect()
    }

    #[test]
    fn a_limit_cuts_at_that_many_words_and_says_so() {
        let cut = answer(
            &json!({"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "[[words:9]]"}]}),
        );
        assert_eq!((cut.stop.clone(), cut.output_tokens), (Stop::Limit, 4));
        let whole = answer(
            &json!({"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "[[words:9]]"}]}),
        );
        assert_eq!(whole.stop, Stop::End);
        assert!(check_text(&said(&whole)));
        assert!(said(&whole).starts_with(&said(&cut)));
    }

    #[test]
    fn a_stop_string_ends_the_text_before_it() {
        let stopped = answer(
            &json!({"model": "m", "stop": ["#sum"], "messages": [{"role": "user", "content": "[[words:9]]"}]}),
        );
        assert_eq!(stopped.stop, Stop::Sequence("#sum".to_owned()));
        assert!(said(&stopped).ends_with(' '));
    }

    #[test]
    fn a_continuation_completes_the_prefix_whatever_the_cut() {
        let ask = json!({"role": "user", "content": "[[seed:3 words:30]]"});
        let full = said(&answer(&json!({"model": "m", "messages": [&ask]})));
        for (index, _) in full.char_indices().skip(1) {
            let rest = said(&answer(&json!({"model": "m", "messages": [
                &ask, {"role": "assistant", "content": &full[..index]}, {"role": "user", "content": "go on"}]})));
            assert_eq!(full[..index].to_owned() + &rest, full);
        }
    }

    #[test]
    fn an_overlap_says_the_last_words_again() {
        let full = text::make_text(3, 9);
        let words = text::tokens(&full);
        let prefix = words[..5].concat();
        assert_eq!(resume(&full, &prefix, 2), words[3..].concat().trim_start());
    }

    #[test]
    fn parallel_calls_are_numbered_and_their_arguments_parse() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "[[tools:2]]"}], "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]});
        let calls = answer(&body);
        assert_eq!(calls.blocks.len(), 2);
        for block in &calls.blocks {
            let Block::Tool { pieces, .. } = block else {
                panic!("{block:?}")
            };
            let arguments: Value = serde_json::from_str(&pieces.concat()).unwrap();
            assert!(check_text(arguments["city"].as_str().unwrap()));
        }
        assert_ne!(calls.blocks[0], calls.blocks[1]);
    }
}
