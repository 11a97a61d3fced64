//! Every loop that looks at something again and again until it is as it should be, or patience ends.
//!
//! What the harness records is waited for without polling ([`crate::lab::Lab::see`]); here is what announces nothing.
//! Whether patience ended is for the caller's judge: the last look is the answer either way.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks at something that is asked for over an API.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What one look saw, and whether it is what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// It is: no further look.
    Done(T),
    /// Not yet.
    Again(T),
}

impl<T> Look<T> {
    /// [`Look::Done`] where `done`.
    pub fn when(done: bool, seen: T) -> Self {
        if done {
            Self::Done(seen)
        } else {
            Self::Again(seen)
        }
    }
}

/// Looks until it is done or `patience` has passed since the first look; the last look is the answer. Looks that take a
/// while by themselves, such as a request that is sent and decided.
///
/// # Errors
/// The first error of a look.
pub async fn look_until<T, E>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<Look<T>, E>,
) -> Result<T, E> {
    let until = Instant::now().checked_add(patience);
    loop {
        match look().await? {
            Look::Done(seen) => return Ok(seen),
            Look::Again(seen) if until.is_some_and(|until| Instant::now() >= until) => {
                return Ok(seen);
            }
            Look::Again(_) => {}
        }
    }
}

/// [`look_until`] with a pause between two looks, for calls that return at once.
///
/// # Errors
/// The first error of a look.
pub async fn poll_until<T, E>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<Look<T>, E>,
) -> Result<T, E> {
    let until = Instant::now().checked_add(patience);
    loop {
        match look().await? {
            Look::Done(seen) => return Ok(seen),
            Look::Again(seen) if until.is_some_and(|until| Instant::now() >= until) => {
                return Ok(seen);
            }
            Look::Again(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_at(script: &[bool], patience: Duration) -> (usize, usize) {
        let mut looks = 0;
        let seen: Result<usize, ()> = poll_until(patience, async || {
            looks += 1;
            let done = script.get(looks - 1).copied().unwrap_or_default();
            Ok(Look::when(done, looks))
        })
        .await;
        (seen.unwrap_or_default(), looks)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_look_is_the_answer() {
        let hour = Duration::from_secs(3600);
        assert_eq!(look_at(&[false, false, true], hour).await, (3, 3));
        assert_eq!(look_at(&[], 5 * LOOK_AGAIN).await, (6, 6));
        assert_eq!(look_at(&[false], Duration::ZERO).await, (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_ends_it() {
        let result = look_until(Duration::MAX, async || Err::<Look<()>, _>("broken")).await;
        assert_eq!(result, Err("broken"));
    }
}
