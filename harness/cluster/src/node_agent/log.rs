//! The output of one container: a bounded ring in memory, and a file that grows as lines come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_server::LogOptions;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

/// Bounds of the ring; the file has everything.
const LINES: usize = 20_000;
const BYTES: usize = 4 * 1024 * 1024;
/// A longer line is cut into several, as container runtimes do (16 KiB in the CRI log format).
const LINE: usize = 16 * 1024;

/// Lines of one run of a container.
#[derive(Debug)]
pub(super) struct Log {
    inner: Mutex<Inner>,
    /// Number of lines ever written, and whether there will be more.
    progress: watch::Sender<(u64, bool)>,
}

#[derive(Debug)]
struct Inner {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Number of the line at the front.
    first: u64,
    file: Option<Arc<File>>,
}

#[derive(Clone, Debug)]
struct Line {
    at: Timestamp,
    text: Bytes,
    /// False for a part of a line: the stream ended without a newline, or the line is too long.
    complete: bool,
}

impl Log {
    pub(super) fn new(file: Option<Arc<File>>) -> Arc<Self> {
        let inner = Inner {
            lines: VecDeque::new(),
            bytes: 0,
            first: 0,
            file,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            progress: watch::Sender::new((0, false)),
        })
    }

    /// Copies a stream, line by line, until it ends.
    pub(super) async fn copy(self: Arc<Self>, mut from: impl AsyncRead + Unpin) {
        let mut pending = BytesMut::new();
        loop {
            match from.read_buf(&mut pending).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            while let Some(end) = pending.iter().take(LINE).position(|&byte| byte == b'\n') {
                let line = pending.split_to(end + 1);
                self.push(&line[..end], true);
            }
            while pending.len() >= LINE {
                let part = pending.split_to(LINE);
                self.push(&part, false);
            }
        }
        if !pending.is_empty() {
            self.push(&pending, false);
        }
    }

    /// No more lines will come; followers end.
    pub(super) fn close(&self) {
        self.progress.send_modify(|(_, closed)| *closed = true);
    }

    /// The last lines, as text.
    pub(super) fn tail(&self, count: usize) -> Vec<String> {
        let inner = self.lock();
        let skip = inner.lines.len().saturating_sub(count);
        inner
            .lines
            .iter()
            .skip(skip)
            .map(|line| String::from_utf8_lossy(&line.text).into_owned())
            .collect()
    }

    /// The lines that the options ask for, and with `follow` all later ones until the container ends.
    pub(super) fn read(
        self: &Arc<Self>,
        options: LogOptions,
        now: Timestamp,
    ) -> impl Stream<Item = Bytes> + use<> {
        let start = self.start(&options, now);
        let state = Cursor {
            log: Arc::clone(self),
            next: start,
            left: options.limit_bytes,
            progress: self.progress.subscribe(),
            options,
        };
        futures::stream::unfold(state, |mut cursor| async move {
            Some((cursor.next().await?, cursor))
        })
    }

    fn start(&self, options: &LogOptions, now: Timestamp) -> u64 {
        let inner = self.lock();
        let mut skip = 0;
        if let Some(seconds) = options
            .since_seconds
            .and_then(|seconds| i64::try_from(seconds).ok())
        {
            let since = now
                .saturating_sub(SignedDuration::from_secs(seconds))
                .unwrap_or(Timestamp::MIN);
            skip = inner.lines.partition_point(|line| line.at < since);
        }
        if let Some(tail) = options.tail_lines {
            skip = skip.max(
                inner
                    .lines
                    .len()
                    .saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX)),
            );
        }
        inner.first + skip as u64
    }

    fn push(&self, text: &[u8], complete: bool) {
        let line = Line {
            at: Timestamp::now(),
            text: Bytes::copy_from_slice(text),
            complete,
        };
        let mut inner = self.lock();
        if let Some(file) = inner.file.clone() {
            // One write per line, so that lines of several containers' streams stay whole. A full disk must not stop the container.
            let _ = (&*file).write_all(
                &Line {
                    complete: true,
                    ..line.clone()
                }
                .rendered(true),
            );
        }
        inner.bytes += line.text.len();
        inner.lines.push_back(line);
        while inner.lines.len() > LINES || inner.bytes > BYTES {
            let Some(oldest) = inner.lines.pop_front() else {
                break;
            };
            inner.bytes -= oldest.text.len();
            inner.first += 1;
        }
        let count = inner.first + inner.lines.len() as u64;
        drop(inner);
        self.progress.send_modify(|(lines, _)| *lines = count);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn rendered(&self, timestamp: bool) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.text.len() + 40);
        if timestamp {
            text.extend_from_slice(format!("{:.9} ", self.at).as_bytes());
        }
        text.extend_from_slice(&self.text);
        if self.complete {
            text.push(b'\n');
        }
        text
    }
}

/// A reader's place in a log.
struct Cursor {
    log: Arc<Log>,
    next: u64,
    left: Option<u64>,
    progress: watch::Receiver<(u64, bool)>,
    options: LogOptions,
}

impl Cursor {
    async fn next(&mut self) -> Option<Bytes> {
        if self.left == Some(0) {
            return None;
        }
        let next = self.next;
        let line = if self.options.follow {
            self.progress
                .wait_for(|&(lines, closed)| lines > next || closed)
                .await
                .ok()?;
            self.log.line(next)?
        } else {
            self.log.line(next)?
        };
        self.next = line.0 + 1;
        let mut text = line.1.rendered(self.options.timestamps);
        if let Some(left) = &mut self.left {
            text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= text.len() as u64;
        }
        Some(text.into())
    }
}

impl Log {
    /// The line with this number, or the oldest one kept after it.
    fn line(&self, number: u64) -> Option<(u64, Line)> {
        let inner = self.lock();
        let number = number.max(inner.first);
        let index = usize::try_from(number - inner.first).ok()?;
        inner.lines.get(index).map(|line| (number, line.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::StreamExt as _;

    async fn text(log: &Arc<Log>, options: LogOptions) -> String {
        let chunks: Vec<_> = log.read(options, Timestamp::now()).collect().await;
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn options() {
        let log = Log::new(None);
        Arc::clone(&log).copy(&b"one\ntwo\nthree"[..]).await;
        let all = LogOptions::default();
        assert_eq!(text(&log, all.clone()).await, "one\ntwo\nthree");
        assert_eq!(
            text(
                &log,
                LogOptions {
                    tail_lines: Some(1),
                    ..all.clone()
                }
            )
            .await,
            "three"
        );
        assert_eq!(
            text(
                &log,
                LogOptions {
                    limit_bytes: Some(5),
                    ..all.clone()
                }
            )
            .await,
            "one\nt"
        );
        assert_eq!(
            text(
                &log,
                LogOptions {
                    since_seconds: Some(60),
                    ..all.clone()
                }
            )
            .await,
            "one\ntwo\nthree"
        );
        let stamped = text(
            &log,
            LogOptions {
                timestamps: true,
                tail_lines: Some(1),
                ..all
            },
        )
        .await;
        assert!(
            stamped.ends_with("Z three")
                && stamped.len() == "2026-01-01T00:00:00.000000000Z three".len(),
            "{stamped}"
        );
    }

    #[tokio::test]
    async fn a_follower_sees_later_lines_and_ends_with_the_container() {
        let log = Log::new(None);
        log.push(b"before", true);
        let mut follow = Box::pin(log.read(
            LogOptions {
                follow: true,
                ..LogOptions::default()
            },
            Timestamp::now(),
        ));
        assert_eq!(follow.next().await.unwrap(), "before\n");
        log.push(b"after", true);
        assert_eq!(follow.next().await.unwrap(), "after\n");
        log.close();
        assert_eq!(follow.next().await, None);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_long_lines_are_cut() {
        let log = Log::new(None);
        Arc::clone(&log)
            .copy(&vec![b'x'; BYTES + 3 * LINE][..])
            .await;
        let inner = log.lock();
        assert!(inner.bytes <= BYTES);
        assert!(inner.lines.iter().all(|line| line.text.len() <= LINE));
        assert_eq!(inner.first, 3, "the oldest lines left");
    }
}
