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

    /// [`Lab::see`] where in vain is an answer, too: whether it was seen.
    ///
    /// # Errors
    /// When it could not be waited for.
    pub async fn saw<T>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        found: impl FnMut(&[Arc<Recorded>]) -> Option<T>,
    ) -> Result<bool, Error> {
        unless_in_vain(self.see(what, deadline, found).await)
    }

    /// [`Lab::saw`] for what the index of the events knows.
    ///
    /// # Errors
    /// When it could not be waited for.
    pub async fn saw_indexed<T>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        found: impl FnMut(&Index) -> Option<T>,
    ) -> Result<bool, Error> {
        unless_in_vain(self.see_indexed(what, deadline, found).await)
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

fn unless_in_vain<T>(seen: Result<T, Error>) -> Result<bool, Error> {
    match seen {
        Ok(_) => Ok(true),
        Err(Error::TimedOut(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_wait_in_vain_is_an_answer() {
        assert!(matches!(unless_in_vain(Ok(())), Ok(true)));
        let timed_out = TimedOut {
            what: "rain".to_owned(),
            waited: Duration::from_secs(1),
        };
        assert!(matches!(
            unless_in_vain::<()>(Err(timed_out.into())),
            Ok(false)
        ));
        let broken = Error::Fixture("broken".to_owned());
        assert!(unless_in_vain::<()>(Err(broken)).is_err());
    }
}
