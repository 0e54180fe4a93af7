//! A time limit that is moved often and hardly ever reached.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Rings at its time. The timer below it is touched when it rings, not each time that it is put off.
pub(super) struct Alarm {
    due: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    pub(super) fn new(after: Duration) -> Self {
        let due = Instant::now() + after;
        Self {
            due,
            timer: Box::pin(tokio::time::sleep_until(due)),
        }
    }

    pub(super) fn set(&mut self, due: Instant) {
        self.due = due;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.due <= self.timer.deadline() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn rings_after(mut alarm: Alarm) -> Duration {
        let begun = Instant::now();
        std::future::poll_fn(|cx| alarm.poll(cx)).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_its_last_time_whether_put_off_or_put_forward() {
        for seconds in [1, 5, 10, 60] {
            let mut alarm = Alarm::new(10 * SECOND);
            alarm.set(Instant::now() + 100 * SECOND);
            alarm.set(Instant::now() + seconds * SECOND);
            assert_eq!(rings_after(alarm).await, seconds * SECOND);
        }
    }
}
