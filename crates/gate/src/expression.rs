//! CEL expressions over an answer.
//!
//! The language has no unbounded loop, but nested ones over a model's lists multiply. How deep an
//! expression nests is known when it is compiled, how long the lists are when an answer is there; an
//! answer for which the product is too large is refused before anything is evaluated.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, Value as Cel};
use holdfast_core::gate::Refusal;
use serde_json::Value;

use crate::{Error, LONGEST_EXPRESSION};

/// What an expression may name.
const VARIABLES: [&str; 4] = ["text", "json", "length", "finish"];
/// How deep an expression may nest: its reader goes down once for each level, on the caller's stack.
const DEEPEST_NESTING: u16 = 32;
/// The most parts of an expression.
const MOST_NODES: usize = 2000;
/// How deep its parts may lie in each other once it is read: chains (`a + b + c`) nest as well. Without
/// optimisation the library takes some 40 KiB of stack for each level.
const DEEPEST_TREE: u32 = 32;
/// How deep loops (`all`, `exists`, `map`, ...) may nest.
const DEEPEST_LOOP: u32 = 3;
/// The most rounds of the innermost loop.
const MOST_ROUNDS: u64 = 200_000;
/// The most bytes of text that loops may go over.
const MOST_TEXT: u64 = 256 << 20;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What an expression sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) text: &'a str,
    /// `None` = `null`: it is no JSON, or no expression asks.
    pub(crate) json: Option<&'a Value>,
    /// In characters.
    pub(crate) length: usize,
    pub(crate) finish: &'static str,
}

#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    program: IdedExpr,
    facts: Facts,
}

/// What is known of an expression before it is evaluated.
#[derive(Clone, Debug, Default)]
struct Facts {
    reads_json: bool,
    reads_text: bool,
    /// How deep loops nest.
    loops: u32,
    /// How deep its parts lie in each other, and how deep we are while we read.
    tree: u32,
    here: u32,
    /// The longest list or map that is written in it.
    longest: usize,
    /// The first name that is no variable.
    unknown: Option<String>,
}

impl Expression {
    pub(crate) fn compile(number: usize, source: &str) -> Result<Self, Error> {
        if source.len() > LONGEST_EXPRESSION {
            return Err(Error::TooLong {
                what: format!("CEL expression {number}"),
                limit: LONGEST_EXPRESSION,
            });
        }
        let wrong = |why: String| Error::Expression { number, why };
        if nesting(source) > usize::from(DEEPEST_NESTING) {
            return Err(wrong(format!("it nests deeper than {DEEPEST_NESTING}")));
        }
        let parser = PrattParser::new()
            .max_recursion_depth(DEEPEST_NESTING)
            .max_expression_node_count(MOST_NODES);
        let program = caught(|| parser.parse(source))
            .ok_or_else(|| wrong("it can't be read".to_owned()))?
            .map_err(|errors| syntax(number, &errors))?;
        let mut facts = Facts::default();
        facts.read(&program, &mut Vec::new(), 0);
        if let Some(name) = &facts.unknown {
            let known = VARIABLES.join(", ");
            return Err(wrong(format!(
                "there is no variable `{name}`; there are {known}"
            )));
        }
        if facts.loops > DEEPEST_LOOP {
            return Err(wrong(format!("its loops nest deeper than {DEEPEST_LOOP}")));
        }
        if facts.tree > DEEPEST_TREE {
            return Err(wrong(format!("it nests deeper than {DEEPEST_TREE}")));
        }
        let expression = Self {
            source: source.to_owned(),
            program,
            facts,
        };
        expression.try_out().map_err(wrong)?;
        Ok(expression)
    }

    pub(crate) fn reads_json(&self) -> bool {
        self.facts.reads_json
    }

    pub(crate) fn check(&self, sight: &Sight<'_>) -> Result<(), Refusal> {
        let source = self.source.trim();
        let refusal = |why: &str| Err(Refusal::new("cel", format!("`{source}` {why}")));
        if self.is_too_much(sight) {
            return refusal("can't be checked: the answer is too large for its loops");
        }
        match self.evaluate(sight) {
            Ok(Cel::Bool(true)) => Ok(()),
            Ok(Cel::Bool(false)) => refusal("is not true"),
            Ok(other) => refusal(&format!("is a {}, not true or false", other.type_of())),
            Err(_) if self.facts.reads_json && sight.json.is_none() => {
                refusal("can't be checked: the answer is not JSON")
            }
            Err(error) => {
                let said = |words: &str| format!("`{source}` can't be checked: {words}");
                let reason = words(&error).unwrap_or_else(|| error.to_string());
                let told = self.unquoted(&error);
                Err(Refusal::quoting("cel", said(&reason), said(&told)))
            }
        }
    }

    /// Finds what no answer could mend: functions that do not exist, a result that is no truth value.
    fn try_out(&self) -> Result<(), String> {
        let nothing = Sight {
            text: "",
            json: None,
            length: 0,
            finish: "stop",
        };
        match self.evaluate(&nothing) {
            Err(ExecutionError::UndeclaredReference(name)) => {
                Err(format!("there is no function `{name}`"))
            }
            Ok(Cel::Bool(_)) | Err(_) => Ok(()),
            // What `json` gives is not known before there is some.
            Ok(_) if self.facts.reads_json => Ok(()),
            Ok(other) => Err(format!("it is a {}, not true or false", other.type_of())),
        }
    }

    /// What went wrong, without anything that the answer says.
    fn unquoted(&self, error: &ExecutionError) -> String {
        match error {
            // The key may have been computed from the answer.
            ExecutionError::NoSuchKey(key) if !self.source.contains(key.as_str()) => {
                "there is no such member".to_owned()
            }
            error => words(error).unwrap_or_else(|| "it can't be evaluated".to_owned()),
        }
    }

    fn is_too_much(&self, sight: &Sight<'_>) -> bool {
        if self.facts.loops == 0 {
            return false;
        }
        // Lists can be put together, at most as often as there are bytes to write it.
        let joins = self.source.matches('+').count() + 1;
        let longest = sight.json.map_or(0, longest).max(self.facts.longest) * joins;
        let longest = u64::try_from(longest).unwrap_or(u64::MAX);
        let rounds = (0..self.facts.loops).fold(1, |rounds: u64, _| rounds.saturating_mul(longest));
        let text = if self.facts.reads_text {
            u64::try_from(sight.text.len()).unwrap_or(u64::MAX)
        } else {
            0
        };
        rounds > MOST_ROUNDS || rounds.saturating_mul(text) > MOST_TEXT
    }

    fn evaluate(&self, sight: &Sight<'_>) -> Result<Cel, ExecutionError> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        if self.facts.reads_text {
            context.add_variable_from_value("text", sight.text);
        } else {
            context.add_variable_from_value("text", "");
        }
        let json = sight.json.filter(|_| self.facts.reads_json);
        context.add_variable_from_value("json", json.map_or(Cel::Null, cel_of));
        let length = i64::try_from(sight.length).unwrap_or(i64::MAX);
        context.add_variable_from_value("length", length);
        context.add_variable_from_value("finish", sight.finish);
        let broken = || ExecutionError::InternalError("the evaluation broke off".to_owned());
        caught(|| Cel::resolve(&self.program, &context)).ok_or_else(broken)?
    }
}

/// The library is young; what it stumbles over must not take the process with it.
fn caught<T>(act: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(act)).ok()
}

/// How deep `source` may nest at the most: brackets, signs in a row, and conditions.
fn nesting(source: &str) -> usize {
    let (mut depth, mut signs, mut conditions, mut deepest) = (0_usize, 0, 0, 0);
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let mut taken = next.len_utf8();
        match next {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '!' | '-' => signs += 1,
            '?' => conditions += 1,
            '"' | '\'' => taken = literal(rest, next),
            _ => {}
        }
        if !matches!(next, '!' | '-') && !next.is_whitespace() {
            signs = 0;
        }
        deepest = deepest.max(depth + signs + conditions);
        rest = &rest[taken..];
    }
    deepest
}

/// The length of the text literal at the begin of `source`. Raw ones may end earlier than this says:
/// then brackets are counted that are none.
fn literal(source: &str, quote: char) -> usize {
    let triple = quote.to_string().repeat(3);
    let end: &str = if source.starts_with(&triple) {
        &triple
    } else {
        &triple[..1]
    };
    let mut at = end.len();
    while let Some(next) = source[at..].chars().next() {
        if source[at..].starts_with(end) {
            return at + end.len();
        }
        at += next.len_utf8();
        if next == '\\' {
            at += source[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    at
}

fn syntax(number: usize, errors: &cel::ParseErrors) -> Error {
    let Some(first) = errors.errors.first() else {
        let why = "it can't be read".to_owned();
        return Error::Expression { number, why };
    };
    let place = |at: isize| usize::try_from(at).unwrap_or(0);
    Error::ExpressionSyntax {
        number,
        line: place(first.pos.0),
        column: place(first.pos.1),
        why: first.msg.clone(),
    }
}

/// The library quotes whole values in its errors: those are left out. `None` = there are only its own
/// words.
fn words(error: &ExecutionError) -> Option<String> {
    let words = match error {
        ExecutionError::NoSuchKey(key) => format!("there is no member {key:?}"),
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "a division by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number is too large".to_owned(),
        ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnsupportedIndex(..)
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::UnsupportedKeyType(_)
        | ExecutionError::NotSupportedAsMethod { .. }
        | ExecutionError::DuplicateKey(_) => "a value has the wrong type".to_owned(),
        _ => return None,
    };
    Some(words)
}

fn cel_of(json: &Value) -> Cel {
    match json {
        Value::Null => Cel::Null,
        Value::Bool(truth) => Cel::Bool(*truth),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Cel::Int(number),
            (None, Some(number)) => Cel::UInt(number),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(cel_of).collect())),
        Value::Object(members) => {
            let members = members.iter();
            let map: HashMap<String, Cel> = members
                .map(|(name, value)| (name.clone(), cel_of(value)))
                .collect();
            map.into()
        }
    }
}

/// The length of the longest list or map.
fn longest(json: &Value) -> usize {
    match json {
        Value::Array(items) => items
            .iter()
            .map(longest)
            .max()
            .unwrap_or(0)
            .max(items.len()),
        Value::Object(members) => {
            let inner = members.values().map(longest).max().unwrap_or(0);
            inner.max(members.len())
        }
        _ => 0,
    }
}

impl Facts {
    /// Reads what stands in `scope` names and under `depth` loops.
    fn read<'e>(&mut self, expression: &'e IdedExpr, scope: &mut Vec<&'e str>, depth: u32) {
        self.here += 1;
        self.tree = self.tree.max(self.here);
        if self.here <= DEEPEST_TREE {
            self.part(expression, scope, depth);
        }
        self.here -= 1;
    }

    fn part<'e>(&mut self, expression: &'e IdedExpr, scope: &mut Vec<&'e str>, depth: u32) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.name(name, scope),
            Expr::Call(call) => {
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    self.read(part, scope, depth);
                }
            }
            Expr::Select(select) => self.read(&select.operand, scope, depth),
            Expr::List(list) => {
                self.longest = self.longest.max(list.elements.len());
                for element in &list.elements {
                    self.read(element, scope, depth);
                }
            }
            Expr::Map(map) => {
                self.longest = self.longest.max(map.entries.len());
                for entry in &map.entries {
                    self.entry(&entry.expr, scope, depth);
                }
            }
            Expr::Struct(made) => {
                for entry in &made.entries {
                    self.entry(&entry.expr, scope, depth);
                }
            }
            Expr::Comprehension(over) => {
                self.read(&over.iter_range, scope, depth);
                self.read(&over.accu_init, scope, depth);
                self.loops = self.loops.max(depth + 1);
                let before = scope.len();
                scope.push(&over.accu_var);
                scope.push(&over.iter_var);
                scope.extend(over.iter_var2.as_deref());
                self.read(&over.loop_cond, scope, depth + 1);
                self.read(&over.loop_step, scope, depth + 1);
                self.read(&over.result, scope, depth);
                scope.truncate(before);
            }
        }
    }

    fn entry<'e>(&mut self, entry: &'e EntryExpr, scope: &mut Vec<&'e str>, depth: u32) {
        match entry {
            EntryExpr::StructField(field) => self.read(&field.value, scope, depth),
            EntryExpr::MapEntry(entry) => {
                self.read(&entry.key, scope, depth);
                self.read(&entry.value, scope, depth);
            }
        }
    }

    fn name(&mut self, name: &str, scope: &[&str]) {
        if scope.contains(&name) {
            return;
        }
        match name {
            "text" => self.reads_text = true,
            "json" => self.reads_json = true,
            name if VARIABLES.contains(&name) => {}
            // Names of types: `type(json.a) == int`.
            "bool" | "bytes" | "double" | "dyn" | "int" | "list" | "map" | "null_type"
            | "string" | "type" | "uint" => {}
            name => {
                self.unknown.get_or_insert_with(|| name.to_owned());
            }
        }
    }
}
