//! Waits for something to be recorded: named, bounded, without polling.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, Lab};
use crate::evidence::{Index, Recorded};
use crate::waiting::TimedOut;

impl Lab {
    /// Waits until `found` sees in the recorded events what it looks for.
    ///
    /// # Errors
    /// When it does not within `deadline`.
    pub async fn see<T>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        found: impl FnMut(&[Arc<Recorded>]) -> Option<T>,
    ) -> Result<T, Error> {
        let what = what.into();
        // The recorder's own deadline is the outer one here: only the named wait may end it.
        let seen = self
            .waiting
            .until(
                what.clone(),
                deadline,
                self.recorder.wait_for(2 * deadline, found),
            )
            .await?;
        seen.ok_or_else(|| {
            TimedOut {
                what,
                waited: deadline,
            }
            .into()
        })
    }

    /// [`Lab::see`] for what the index of the events knows.
    ///
    /// # Errors
    /// When it does not within `deadline`.
    pub async fn see_indexed<T>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        found: impl FnMut(&Index) -> Option<T>,
    ) -> Result<T, Error> {
        let what = what.into();
        let wait = self.recorder.wait_for_indexed(2 * deadline, found);
        let seen = self.waiting.until(what.clone(), deadline, wait).await?;
        seen.ok_or_else(|| {
            TimedOut {
                what,
                waited: deadline,
            }
            .into()
        })
    }
}
