//! A running keyed answer, kept from its first byte, so that any number of callers read the same one.
//!
//! One task writes it, readers on any worker follow it at their own pace. What the writer has not
//! published, nobody sees: the end of an answer is published only once it is stored.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use holdfast_core::fault::{Code, Fault};
use holdfast_wire::turn::Dialect;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use slab::Slab;

use crate::emit::{self, Aborted, LAST_WORDS, Reply};
use crate::worker::{Held, Shared};

/// The response head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// One answer on its way to its callers.
#[derive(Debug)]
pub(crate) struct Recording {
    dialect: Dialect,
    /// The limit `buffered_bytes`.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The exchange that runs; told with errors.
    exchange: String,
    head: Option<Arc<Head>>,
    chunks: Vec<Bytes>,
    held: Held,
    end: Option<End>,
    /// It was not asked for by anybody who reads it now: it comes from the store.
    replayed: bool,
    /// This process makes the call.
    runs_here: bool,
    readers: Slab<Option<Waiting>>,
}

/// A reader that waits.
#[derive(Debug)]
struct Waiting {
    /// Already for what becomes of the claim, not only for the answer.
    for_claim: bool,
    waker: Waker,
}

#[derive(Clone, Debug)]
enum End {
    Whole,
    Told(Fault),
}

/// What a reader finds next.
#[derive(Debug)]
enum Next {
    Chunk(Bytes),
    Whole,
    Told(Fault),
}

impl Recording {
    pub(crate) fn new(shared: &Shared, dialect: Dialect, exchange: &str) -> Arc<Self> {
        let limit = shared.snapshot.load().config.limits.buffered_bytes;
        Self::within(Held::new(shared), limit, dialect, exchange)
    }

    fn within(held: Held, limit: usize, dialect: Dialect, exchange: &str) -> Arc<Self> {
        Arc::new(Self {
            dialect,
            limit,
            state: Mutex::new(State {
                exchange: exchange.to_owned(),
                head: None,
                chunks: Vec::new(),
                held,
                end: None,
                replayed: false,
                runs_here: false,
                readers: Slab::new(),
            }),
        })
    }

    /// The key is claimed and the call is made now.
    pub(crate) fn runs_here(&self) {
        self.change(|state| state.runs_here = true, |waiting| waiting.for_claim);
    }

    /// Whether the call is made here and now; waits until that is known.
    pub(crate) async fn is_run_here(self: &Arc<Self>) -> bool {
        let reader = Reader::new(self.clone());
        std::future::poll_fn(|cx| reader.poll_claimed(cx)).await
    }

    /// The published head.
    pub(crate) fn head(&self) -> Option<Arc<Head>> {
        self.state.lock().head.clone()
    }

    /// The head, before anything else is published.
    pub(crate) fn begin(&self, head: Head) {
        self.tell(|state| state.head = Some(Arc::new(head)));
    }

    /// `false` = with these, more is held for all calls together than may be.
    pub(crate) fn publish(&self, chunks: impl IntoIterator<Item = Bytes>) -> bool {
        let mut is_room = true;
        self.tell(|state| {
            for chunk in chunks {
                is_room &= state.held.grow(chunk.len(), self.limit);
                state.chunks.push(chunk);
            }
        });
        is_room
    }

    /// The rest of a whole answer, with its head if that was not published yet. It is stored: who reads it is
    /// not cut off for want of room.
    pub(crate) fn end(&self, head: Option<Head>, rest: Vec<Bytes>) {
        self.tell(|state| {
            if let Some(head) = head {
                state.head = Some(Arc::new(head));
            }
            let bytes = rest.iter().map(Bytes::len).sum();
            state.held.grow(bytes, self.limit);
            state.chunks.extend(rest);
            state.end = Some(End::Whole);
        });
    }

    /// There is no answer, or no more of it. What has ended stays as it is.
    pub(crate) fn fail(&self, fault: Fault) {
        self.tell(|state| {
            state.end.get_or_insert(End::Told(fault));
        });
    }

    /// A stored answer, at once, if there is room for it.
    pub(crate) fn replay(&self, exchange: &str, head: Head, body: Bytes) {
        self.tell(|state| {
            exchange.clone_into(&mut state.exchange);
            if !state.held.grow(body.len(), self.limit) {
                state.end = Some(End::Told(no_room()));
                return;
            }
            state.replayed = true;
            state.head = Some(Arc::new(head));
            state.chunks.push(body);
            state.end = Some(End::Whole);
        });
    }

    /// The bytes published so far, and `rest` behind them.
    pub(crate) fn body_with(&self, rest: &[Bytes]) -> Vec<u8> {
        // Taken out by reference first: whoever reads is not kept waiting for the copy.
        let published = self.state.lock().chunks.clone();
        let all = published.iter().chain(rest);
        let mut body = Vec::with_capacity(all.clone().map(Bytes::len).sum());
        all.for_each(|chunk| body.extend_from_slice(chunk));
        body
    }

    /// Changes something, and wakes the readers that wait for that.
    fn change(&self, change: impl FnOnce(&mut State), wakes: impl Fn(&Waiting) -> bool) {
        let woken: Vec<_> = {
            let mut state = self.state.lock();
            change(&mut state);
            let readers = state.readers.iter_mut();
            let woken = readers.filter_map(|(_, reader)| reader.take_if(|waiting| wakes(waiting)));
            woken.collect()
        };
        for waiting in woken {
            waiting.waker.wake();
        }
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        self.change(change, |_| true);
    }

    /// Waits for the head, then gives the response; its body follows the recording. `joined` = this
    /// caller did not begin it.
    pub(crate) async fn respond(self: Arc<Self>, joined: bool) -> Response<Reply> {
        let mut reader = Reader::new(self.clone());
        let head = std::future::poll_fn(|cx| reader.poll_head(cx)).await;
        let mut response = match head {
            Ok(head) => {
                let mut response = Response::new(reader.into_reply());
                *response.status_mut() = head.status;
                response.headers_mut().clone_from(&head.headers);
                response
            }
            Err(fault) => {
                let exchange = self.state.lock().exchange.clone();
                let mut response = emit::error_response(self.dialect, &fault, &exchange);
                emit::mark(response.headers_mut(), &exchange, None);
                return response;
            }
        };
        if joined || self.state.lock().replayed {
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert("idempotent-replayed", yes);
        }
        response
    }
}

impl State {
    fn wait(&mut self, slot: usize, for_claim: bool, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        self.readers[slot] = Some(Waiting { for_claim, waker });
    }
}

/// Nothing more can be held for anybody.
pub(super) fn no_room() -> Fault {
    Fault::new(
        Code::OutOfBuffers,
        "too much is held for other calls; repeat this one with the same key in a moment",
    )
}

/// One caller's way through a recording.
#[derive(Debug)]
pub(crate) struct Reader {
    recording: Arc<Recording>,
    slot: usize,
    next: usize,
    ended: bool,
    aborting: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Reader {
    fn new(recording: Arc<Recording>) -> Self {
        let slot = recording.state.lock().readers.insert(None);
        Self {
            recording,
            slot,
            next: 0,
            ended: false,
            aborting: None,
        }
    }

    /// Whether the call runs; ready once it is known what becomes of it.
    fn poll_claimed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.recording.state.lock();
        if state.runs_here || state.head.is_some() || state.end.is_some() {
            return Poll::Ready(state.runs_here && state.end.is_none());
        }
        state.wait(self.slot, true, cx);
        Poll::Pending
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Head>, Fault>> {
        let mut state = self.recording.state.lock();
        if let Some(head) = &state.head {
            return Poll::Ready(Ok(head.clone()));
        }
        if let Some(End::Told(fault)) = &state.end {
            return Poll::Ready(Err(fault.clone()));
        }
        state.wait(self.slot, false, cx);
        Poll::Pending
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.recording.state.lock();
        if let Some(chunk) = state.chunks.get(self.next) {
            self.next += 1;
            return Poll::Ready(Next::Chunk(chunk.clone()));
        }
        match &state.end {
            Some(End::Whole) => Poll::Ready(Next::Whole),
            Some(End::Told(fault)) => Poll::Ready(Next::Told(fault.clone())),
            None => {
                state.wait(self.slot, false, cx);
                Poll::Pending
            }
        }
    }

    /// A whole body that is there is sent with its length, as it was the first time.
    fn into_reply(self) -> Reply {
        let whole = {
            let state = self.recording.state.lock();
            let is_whole = matches!(state.end, Some(End::Whole)) && state.chunks.len() <= 1;
            is_whole.then(|| state.chunks.first().cloned().unwrap_or_default())
        };
        match whole {
            Some(body) => Reply::Full(Some(body)),
            None => Reply::Recorded(Box::new(self)),
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next bytes; after an error its loud form, then the cut.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(pause) = &mut self.aborting {
            ready!(pause.as_mut().poll(cx));
            self.ended = true;
            return Poll::Ready(Some(Err(Aborted)));
        }
        match ready!(self.poll_next(cx)) {
            Next::Chunk(chunk) => Poll::Ready(Some(Ok(chunk))),
            Next::Whole => {
                self.ended = true;
                Poll::Ready(None)
            }
            Next::Told(fault) => {
                self.aborting = Some(Box::pin(tokio::time::sleep(LAST_WORDS)));
                let exchange = self.recording.state.lock().exchange.clone();
                let frame = emit::error_frame(self.recording.dialect, &fault, &exchange);
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.recording.state.lock().readers.remove(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn recording() -> Arc<Recording> {
        Recording::within(Held::of(Arc::default()), 100, Dialect::OpenAi, "x")
    }

    fn head() -> Head {
        Head {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
        }
    }

    async fn rest(mut reader: Reader) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        loop {
            match std::future::poll_fn(|cx| reader.poll_next(cx)).await {
                Next::Chunk(chunk) => bytes.extend_from_slice(&chunk),
                Next::Whole => return (bytes, true),
                Next::Told(_) => return (bytes, false),
            }
        }
    }

    #[tokio::test]
    async fn early_and_late_readers_see_the_same_bytes() {
        let recording = recording();
        let early = tokio::spawn(rest(Reader::new(recording.clone())));
        recording.begin(head());
        recording.publish([Bytes::from_static(b"one ")]);
        let middle = tokio::spawn(rest(Reader::new(recording.clone())));
        recording.publish([Bytes::from_static(b"two")]);
        recording.end(None, Vec::new());
        let late = rest(Reader::new(recording)).await;
        assert_eq!(late, (b"one two".to_vec(), true));
        assert_eq!(early.await.unwrap(), late);
        assert_eq!(middle.await.unwrap(), late);
    }

    #[test]
    fn only_who_asks_for_the_claim_is_woken_by_it() {
        let (waits, asks) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let recording = recording();
        let [mut waiting, asking] = [(); 2].map(|()| Reader::new(recording.clone()));
        let waker = Waker::from(waits.clone());
        assert!(
            waiting
                .poll_head(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let waker = Waker::from(asks.clone());
        assert!(
            asking
                .poll_claimed(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let woken = || [&waits, &asks].map(|wakes| wakes.0.load(Ordering::Relaxed));
        recording.runs_here();
        assert_eq!(woken(), [0, 1]);
        recording.begin(head());
        assert_eq!(woken(), [1, 1]);
        drop(waiting);
        recording.end(None, Vec::new());
        assert_eq!(woken(), [1, 1]);
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_failed_answer_ends_for_all_who_read_it() {
        let recording = recording();
        let early = tokio::spawn(rest(Reader::new(recording.clone())));
        recording.begin(head());
        recording.publish([Bytes::from_static(b"half")]);
        recording.fail(Fault::new(Code::UpstreamIncomplete, "cut"));
        assert_eq!(early.await.unwrap(), (b"half".to_vec(), false));
        assert_eq!(
            rest(Reader::new(recording)).await,
            (b"half".to_vec(), false)
        );
    }

    #[tokio::test]
    async fn what_is_held_is_counted_as_long_as_anybody_reads_it() {
        let buffered = Arc::new(AtomicUsize::new(0));
        let within = |limit| {
            let held = Held::of(buffered.clone());
            Recording::within(held, limit, Dialect::OpenAi, "x")
        };
        let running = within(10);
        assert!(running.publish([Bytes::from_static(b"six   "), Bytes::from_static(b"four")]));
        assert!(!running.publish([Bytes::from_static(b"!")]));
        assert_eq!(buffered.load(Ordering::Relaxed), 11);
        // A stored answer that finds no room is told as that, and gives nothing half.
        let again = within(20);
        again.replay("y", head(), Bytes::from_static(b"ten bytes."));
        let reader = Reader::new(again.clone());
        assert_eq!(rest(reader).await, (Vec::new(), false));
        let reader = Reader::new(running.clone());
        drop((running, again));
        assert_eq!(buffered.load(Ordering::Relaxed), 11);
        drop(reader);
        assert_eq!(buffered.load(Ordering::Relaxed), 0);
    }
}
