//! What the review queue needs of the gateway: calls made once more, and answers checked.

use std::future::Future;
use std::pin::Pin;

use holdfast_core::fault::Fault;
use holdfast_store::{KeptRequest, StoredAnswer};

/// An answer on its way.
pub type Asking = Pin<Box<dyn Future<Output = Result<StoredAnswer, Fault>> + Send>>;

/// Makes calls. The gateway does it.
pub trait Ask: Send + Sync {
    /// Makes a kept call once more for `scope`, within everything that its route bounds: targets,
    /// attempts, the deadline. `target` (`provider` or `provider/model`) = only this one; a route
    /// without it is `InvalidRequest`. The answer is whole, has passed the route's gate, and is in
    /// the form that the caller had asked for (stream or not). No ticket is opened for a failure. A
    /// future that is dropped gives the call up.
    fn ask(&self, request: KeptRequest, scope: &str, target: Option<&str>) -> Asking;

    /// Whether some target of the route for this model name may be asked now.
    fn is_route_healthy(&self, model: &str) -> bool;

    /// Whether an answer given by hand passes the route's gate. `body` is the whole answer as a body
    /// without streaming, in the call's dialect, whatever form the caller had asked for; it has been
    /// judged already. The error says in words for a person what is wrong with it.
    fn check_answer(&self, kept: &KeptRequest, body: &[u8]) -> Result<(), String>;
}
