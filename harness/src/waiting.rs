//! What the harness waits for right now, in words, so that a scenario that is cut can say it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Something did not come in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited {} s for {what}, in vain", waited.as_secs_f64())]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// For how long.
    pub waited: Duration,
}

/// Names the current wait of one scenario. Clones share the name.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<Mutex<Option<String>>>);

impl Waiting {
    /// Awaits `future` under the name `what`, for at most `deadline`.
    ///
    /// # Errors
    /// [`TimedOut`] with that name.
    pub async fn until<T>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, TimedOut> {
        let what = what.into();
        let outer = self.set(Some(what.clone()));
        let result = tokio::time::timeout(deadline, future).await;
        // A future that is dropped half-way leaves its name: it is what the scenario waited for.
        self.set(outer);
        result.map_err(|_| TimedOut {
            what,
            waited: deadline,
        })
    }

    /// The innermost wait, if there is one.
    pub fn current(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, what: Option<String>) -> Option<String> {
        std::mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            what,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cut_wait_leaves_the_innermost_name() {
        let waiting = Waiting::default();
        let inner = waiting.clone();
        let nested = waiting.until("the outer thing", Duration::from_secs(60), async move {
            inner
                .until(
                    "the inner thing",
                    Duration::from_secs(50),
                    std::future::pending::<()>(),
                )
                .await
        });
        assert!(
            tokio::time::timeout(Duration::from_secs(1), nested)
                .await
                .is_err()
        );
        assert_eq!(waiting.current().as_deref(), Some("the inner thing"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_says_so() {
        let error = Waiting::default()
            .until("rain", Duration::from_secs(2), std::future::pending::<()>())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "waited 2 s for rain, in vain");
    }
}
