//! Placeholder while the parts are tried.
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn main(_: &Args) -> Result<(), crate::Error> {
    Ok(())
}
