//! One simulated vendor on 127.0.0.1:4010 (or the port given), until Ctrl-C.

use std::io::Write;

use holdfast_sim::{Options, Sim};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args()
        .nth(1)
        .map_or(Ok(4010), |port| port.parse())?;
    let options = Options {
        listen: vec![([127, 0, 0, 1], port).into()],
        ..Options::default()
    };
    let until = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let tell = |sims: &[Sim]| {
        let mut out = std::io::stdout();
        for sim in sims {
            let _ = writeln!(out, "listening on {}", sim.url());
        }
    };
    Ok(options.run(until, tell).await?)
}
