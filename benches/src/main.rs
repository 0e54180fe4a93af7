//! What a call, a streamed token, an open stream and a request's bytes cost.
//!
//! One program with parts that are processes of their own, so that the CPU time of the proxy in the
//! middle can be read alone: a mock vendor, a load client, a bare pass-through proxy in two shapes,
//! and the run that puts them together with nginx, haproxy, `LiteLLM` and Holdfast. Throughput is not
//! measured: it says nothing on a shared computer, CPU time per unit does.

mod listen;
mod load;
mod mock;
mod order;
mod profile;
mod proxy;
mod run;
mod script;
mod train;
mod wire;

use clap::{Parser, Subcommand};

/// The same allocator as the gateway's, so that the rows differ in what they do.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "What a call, a streamed token and an open stream cost")]
struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// A vendor that answers at once, held back, or token by token at a pace.
    Mock(mock::Args),
    /// A client that calls, checks every answer, and prints what it saw as JSON.
    Load(load::Args),
    /// A pass-through proxy that understands nothing.
    Proxy(proxy::Args),
    /// All of them in one run, with the other proxies; prints the tables.
    Run(run::Args),
    /// Instructions of Holdfast for a call or a token.
    Profile(profile::Args),
    /// The functions that a start and the usual calls run, for the linker.
    Order(order::Args),
    /// Calls of every kind for a Holdfast that counts what runs.
    Train(train::Args),
}

fn main() -> Result<(), Error> {
    match Args::parse().part {
        Part::Mock(args) => mock::main(&args),
        Part::Load(args) => load::main(args),
        Part::Proxy(args) => proxy::main(&args),
        Part::Run(args) => run::main(&args),
        Part::Profile(args) => profile::main(&args),
        Part::Order(args) => order::main(&args),
        Part::Train(args) => train::main(&args),
    }
}
