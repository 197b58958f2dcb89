//! What wakes whoever waits. Every one of these is cancel-safe: it only waits, for something that stays true.

use std::future::pending;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Resolves at a moment; never if there is none.
pub(crate) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// Resolves when a value may be another than the one that was seen last; never once nobody sends it any more.
pub(crate) async fn changed<T>(value: &mut watch::Receiver<T>) {
    if value.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Resolves when a value is like this; never once nobody sends it any more.
pub(crate) async fn becomes<T>(value: &mut watch::Receiver<T>, like: impl FnMut(&T) -> bool) {
    if value.wait_for(like).await.is_err() {
        pending::<()>().await;
    }
}
