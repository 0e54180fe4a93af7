//! The way back of a translated request's answer: tool names as the caller knows them, and the text
//! cut where a stop string was met that the target could not take.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Translated;
use super::stops::Cutter;
use crate::turn::{Block, Delta, Event, Stop, StopKind};

/// What has to be done with an answer's events. Most answers need none.
#[derive(Clone, Debug, Default)]
pub struct Back {
    names: BTreeMap<String, String>,
    cutter: Option<Cutter>,
    /// The text block that is open.
    text: Option<u32>,
    cut: bool,
}

impl Back {
    /// `None` = the answer needs nothing.
    pub fn of(translated: &Translated) -> Option<Self> {
        let needed = !translated.names.is_empty() || !translated.stops.is_empty();
        needed.then(|| Self {
            names: translated.names.clone(),
            cutter: (!translated.stops.is_empty()).then(|| Cutter::new(translated.stops.clone())),
            ..Self::default()
        })
    }

    /// The answer was ended here; the vendor's call may be given up.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Passes an event on as the caller is to see it. Once the answer was cut, nothing more passes.
    pub fn event(&mut self, event: Event<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if self.cut {
            return;
        }
        match event {
            Event::BlockStart {
                index,
                choice,
                block: Block::Tool { id, name, input },
            } => {
                let name = match self.names.get(name.as_ref()) {
                    Some(name) => Cow::Borrowed(name.as_str()),
                    None => name,
                };
                let block = Block::Tool { id, name, input };
                sink(Event::BlockStart {
                    index,
                    choice,
                    block,
                });
            }
            Event::BlockStart {
                index,
                choice,
                block: Block::Text { text },
            } if self.cutter.is_some() => {
                self.text = Some(index);
                let block = Block::Text { text: "".into() };
                sink(Event::BlockStart {
                    index,
                    choice,
                    block,
                });
                self.text(index, &text, sink);
            }
            Event::Delta {
                index,
                delta: Delta::Text(text),
            } if self.cutter.is_some() => self.text(index, &text, sink),
            Event::BlockStop { index } if self.text == Some(index) => {
                self.text = None;
                let rest = self.cutter.as_mut().map(Cutter::finish).unwrap_or_default();
                write(index, &rest, sink);
                if !self.end(index, sink) {
                    sink(event);
                }
            }
            event => sink(event),
        }
    }

    fn text(&mut self, index: u32, text: &str, sink: &mut impl FnMut(Event<'_>)) {
        let Some(cutter) = &mut self.cutter else {
            return;
        };
        let free = cutter.push(text);
        write(index, &free, sink);
        self.end(index, sink);
    }

    /// Ends the answer if a stop string was met.
    fn end(&mut self, index: u32, sink: &mut impl FnMut(Event<'_>)) -> bool {
        let Some(met) = self.cutter.as_ref().and_then(Cutter::met) else {
            return false;
        };
        self.cut = true;
        sink(Event::BlockStop { index });
        sink(Event::Stop {
            choice: 0,
            stop: Stop {
                kind: StopKind::StopSequence,
                said: "stop_sequence".into(),
                sequence: Some(met.into()),
                details: None,
            },
        });
        sink(Event::End);
        true
    }
}

fn write(index: u32, text: &str, sink: &mut impl FnMut(Event<'_>)) {
    if !text.is_empty() {
        sink(Event::Delta {
            index,
            delta: Delta::Text(text.into()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(names: &[(&str, &str)], stops: &[&str]) -> Back {
        let own = |text: &&str| (*text).to_owned();
        Back::of(&Translated {
            names: names
                .iter()
                .map(|(there, here)| (own(there), own(here)))
                .collect(),
            stops: stops.iter().map(own).collect(),
            ..Translated::default()
        })
        .unwrap()
    }

    fn pass(back: &mut Back, events: Vec<Event<'_>>) -> Vec<String> {
        let mut seen = Vec::new();
        for event in events {
            back.event(event, &mut |event| {
                seen.push(match event {
                    Event::Delta {
                        delta: Delta::Text(text),
                        ..
                    } => text.into_owned(),
                    Event::BlockStart {
                        block: Block::Tool { name, .. },
                        ..
                    } => name.into_owned(),
                    Event::BlockStart { .. } => "start".to_owned(),
                    Event::BlockStop { .. } => "stop".to_owned(),
                    Event::Stop { stop, .. } => format!("{:?} {:?}", stop.kind, stop.sequence),
                    Event::End => "end".to_owned(),
                    other => format!("{other:?}"),
                });
            });
        }
        seen
    }

    fn text(text: &'static str) -> Event<'static> {
        Event::Delta {
            index: 0,
            delta: Delta::Text(text.into()),
        }
    }

    fn open() -> Event<'static> {
        Event::BlockStart {
            index: 0,
            choice: 0,
            block: Block::Text { text: "".into() },
        }
    }

    #[test]
    fn an_unchanged_request_needs_no_way_back() {
        assert!(Back::of(&Translated::default()).is_none());
    }

    #[test]
    fn the_text_ends_before_the_stop_string() {
        let mut back = back(&[], &["\n\n"]);
        let events = vec![open(), text("one\n"), text("\ntwo"), text("three")];
        let seen = pass(&mut back, events);
        assert_eq!(
            seen,
            [
                "start",
                "one",
                "stop",
                "StopSequence Some(\"\\n\\n\")",
                "end"
            ]
        );
        assert!(back.is_cut());
    }

    #[test]
    fn what_waited_comes_before_the_end_of_its_block() {
        let mut back = back(&[], &["\n\n"]);
        let seen = pass(
            &mut back,
            vec![open(), text("one\n"), Event::BlockStop { index: 0 }],
        );
        assert_eq!(seen, ["start", "one", "\n", "stop"]);
        assert!(!back.is_cut());
    }

    #[test]
    fn tools_have_the_callers_names() {
        let tool = Block::Tool {
            id: "1".into(),
            name: "a_b".into(),
            input: None,
        };
        let start = Event::BlockStart {
            index: 0,
            choice: 0,
            block: tool,
        };
        assert_eq!(
            pass(&mut back(&[("a_b", "a.b")], &[]), vec![start]),
            ["a.b"]
        );
    }
}
