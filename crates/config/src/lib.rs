//! The configuration: YAML text -> `draft` -> [`checked::Config`], with every mistake shown at once.
//!
//! [`load`] reads a file, [`parse`] a text. This crate does not read the environment: variables come
//! through a function argument. Files are read by [`load`] alone, or through [`Files`].

mod check;
pub mod checked;
mod diagnostic;
mod diff;
mod draft;
mod interpolate;
mod load;
mod mask;
mod schema;
pub mod secret;
mod shape;
mod starter;
mod values;
pub mod words;
mod yaml;

pub use checked::Config;
pub use diagnostic::{Diagnostic, Severity};
pub use diff::{Change, What, diff};
pub use load::{Disk, Env, Files, Loaded, Rejected, load, parse};
pub use schema::{reference, schema};
pub use secret::{KeyHash, Secret};
pub use starter::{DetectedKeys, Made, from_env, init_text};
