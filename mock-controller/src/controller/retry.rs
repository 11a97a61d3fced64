//! How long to wait before a request to a cluster is tried again.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(5);

/// 50 ms, doubled up to 5 s. Kinder defaults exist; they make a controller that starts before its CRDs feel broken.
#[derive(Debug)]
pub(super) struct Retry {
    delay: Duration,
    /// When the last delay is over.
    over: Option<Instant>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            delay: FIRST,
            over: None,
        }
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.delay;
        self.delay = (delay * 2).min(LAST);
        self.over = Some(Instant::now() + delay);
        Some(delay)
    }
}

impl Backoff for Retry {
    /// A watch says that it begins anew before it knows whether it can: only what goes well for a while counts.
    fn reset(&mut self) {
        if self.over.is_none_or(|over| over.elapsed() > LAST) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_success_that_does_not_last_resets_nothing() {
        let mut retry = Retry::default();
        let mut waited = Vec::new();
        for _ in 0..10 {
            let delay = retry.next().unwrap();
            tokio::time::sleep(delay).await;
            retry.reset();
            waited.push(delay.as_millis());
        }
        assert_eq!(waited[..4], [50, 100, 200, 400]);
        assert_eq!(waited[9], LAST.as_millis());
        tokio::time::sleep(2 * LAST).await;
        retry.reset();
        assert_eq!(retry.next(), Some(FIRST));
    }
}
