//! One operation: what it does, and who waits for its answer.
//!
//! A drop of the waiting future does not stop an operation that was handed in. What it took for
//! somebody who is gone, or whose commit may or may not have happened, is given back by its [`Undo`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::sql::{Tx, ValueRef};
use super::undo::{Undo, Undos};
use crate::error::{Error, Result};

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an operation does. A plain function, so that it can run again.
pub(crate) type Run<A, T> = for<'a> fn(&'a mut Tx, &'a A) -> Boxed<'a, Result<T>>;

/// How many statements that write it mostly has: several are undone together by a savepoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    One,
    Many,
}

/// An operation, whatever it gives.
pub(crate) trait Job: Send {
    fn shape(&self) -> Shape;

    /// Does it, and keeps what it gives until the commit.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Boxed<'a, Result<()>>;

    /// The statement that alone may do it on `SQLite`.
    fn quick(&self) -> Option<&'static str>;

    /// The values of that statement.
    fn quick_values<'a>(&'a self, owner: &'a str) -> Vec<ValueRef<'a>>;

    /// That statement did it.
    fn quick_done(&mut self);

    /// Answers: with what it gave, or with why it was not committed.
    fn finish(self: Box<Self>, committed: Result<()>);
}

/// How an operation mostly goes: one statement, prepared once for all that wait, that changes a row or,
/// where it does not fit, none. Then the operation is run as if nothing had been tried.
pub(crate) struct Quick<A, T> {
    /// Its places are numbered like the values, and come in that order where they are named `$1`.
    pub(crate) statement: &'static str,
    pub(crate) values: for<'a> fn(&'a A, &'a str) -> Vec<ValueRef<'a>>,
    pub(crate) out: fn(&A) -> T,
}

struct Call<A, T> {
    args: A,
    run: Run<A, T>,
    quick: Option<Quick<A, T>>,
    shape: Shape,
    out: Option<Result<T>>,
    answer: Option<oneshot::Sender<Delivery<T>>>,
    undo: Option<Armed>,
}

/// An undo that is to be done unless somebody takes the result.
struct Armed {
    undo: Undo,
    undos: Arc<Undos>,
}

/// A result on its way. Dropped before it is taken, it undoes.
struct Delivery<T> {
    result: Option<Result<T>>,
    /// An unavailable database may have committed, or may still do it.
    is_unsure: bool,
    undo: Option<Armed>,
    /// What was done. It goes back to be freed by the thread that made it: an allocator with a cache for each
    /// thread has to sort out what others free.
    _spent: Box<dyn Send>,
}

/// Waits for an operation.
pub(crate) struct Waiting<T>(oneshot::Receiver<Delivery<T>>);

/// An operation and its waiting end.
pub(crate) fn call<A, T>(
    shape: Shape,
    args: A,
    run: Run<A, T>,
    undo: Option<Undo>,
    undos: &Arc<Undos>,
) -> (Box<dyn Job>, Waiting<T>)
where
    A: Send + Sync + 'static,
    T: Send + 'static,
{
    quick_call(shape, args, run, None, undo, undos)
}

/// An operation that one statement may do, and its waiting end.
pub(crate) fn quick_call<A, T>(
    shape: Shape,
    args: A,
    run: Run<A, T>,
    quick: Option<Quick<A, T>>,
    undo: Option<Undo>,
    undos: &Arc<Undos>,
) -> (Box<dyn Job>, Waiting<T>)
where
    A: Send + Sync + 'static,
    T: Send + 'static,
{
    let (answer, waiting) = oneshot::channel();
    let job = Call {
        args,
        run,
        quick,
        shape,
        out: None,
        answer: Some(answer),
        undo: undo.map(|undo| Armed {
            undo,
            undos: Arc::clone(undos),
        }),
    };
    (Box::new(job), Waiting(waiting))
}

// === impl Call ===

impl<A: Send + Sync + 'static, T: Send + 'static> Job for Call<A, T> {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Boxed<'a, Result<()>> {
        Box::pin(async move {
            tx.forget();
            let done = match (self.run)(tx, &self.args).await {
                Ok(out) => tx.write_events().await.map(|()| out),
                Err(error) => Err(error),
            };
            let told = done.as_ref().map(|_| ()).map_err(Clone::clone);
            self.out = Some(done);
            told
        })
    }

    fn quick(&self) -> Option<&'static str> {
        self.quick.as_ref().map(|quick| quick.statement)
    }

    fn quick_values<'a>(&'a self, owner: &'a str) -> Vec<ValueRef<'a>> {
        let values = self.quick.as_ref().map(|quick| quick.values);
        values.map_or_else(Vec::new, |values| values(&self.args, owner))
    }

    fn quick_done(&mut self) {
        if let Some(quick) = &self.quick {
            self.out = Some(Ok((quick.out)(&self.args)));
        }
    }

    fn finish(mut self: Box<Self>, committed: Result<()>) {
        let result = match (committed, self.out.take()) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(Error::Internal("an operation was not run".to_owned())),
            (Err(error), _) => Err(error),
        };
        let Some(answer) = self.answer.take() else {
            return;
        };
        let delivery = Delivery {
            is_unsure: matches!(&result, Err(Error::Unavailable(_))),
            result: Some(result),
            undo: self.undo.take(),
            _spent: self,
        };
        // Nobody waits any more: the drop of what comes back undoes.
        drop(answer.send(delivery));
    }
}

// === impl Delivery ===

impl<T> Delivery<T> {
    fn take(mut self) -> Result<T> {
        let result = self
            .result
            .take()
            .unwrap_or_else(|| Err(Error::Internal("a result was taken twice".to_owned())));
        if !self.is_unsure {
            // Taken, or certainly not done.
            self.undo = None;
        }
        result
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        if let Some(armed) = self.undo.take() {
            if self.is_unsure {
                armed.undos.push_unsure(armed.undo);
            } else {
                armed.undos.push(armed.undo);
            }
        }
    }
}

// === impl Waiting ===

impl<T> Waiting<T> {
    /// As [`Self::done`], or until the writer is stuck: then it may still happen.
    pub(crate) async fn done_unless(self, stuck: &Notify) -> Result<T> {
        tokio::select! {
            biased;
            done = self.done() => done,
            () = stuck.notified() => Err(Error::stuck()),
        }
    }

    pub(crate) async fn done(self) -> Result<T> {
        match self.0.await {
            Ok(delivery) => delivery.take(),
            Err(_) => Err(Error::Unavailable("it is closed".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_core::time::Time;

    use super::*;

    #[tokio::test]
    async fn what_comes_after_its_waiter_gave_up_is_undone() {
        let undos = Arc::new(Undos::default());
        let token = "t".to_owned();
        let undo = Some(Undo::Effects { token });
        let nothing: Run<(), ()> = |_, ()| Box::pin(async { Ok(()) });
        let (job, waiting) = call(Shape::One, (), nothing, undo, &undos);
        let stuck = Notify::new();
        let waits = waiting.done_unless(&stuck);
        let (given, ()) = tokio::join!(waits, async { stuck.notify_waiters() });
        assert_eq!(given, Err(Error::stuck()));
        job.finish(Ok(()));
        assert_eq!(undos.take(Time::new(std::time::Duration::MAX)).len(), 1);
    }
}
