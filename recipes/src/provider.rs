//! Picking instances of one service, from a list that is kept up to date.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::discovery::{ServiceDiscovery, ServiceView};
use crate::error::Error;
use crate::instance::ServiceInstance;
use crate::picker::{DownPolicy, Picker, Strategy};

/// A provider that is not open yet: made by [`ServiceDiscovery::provider`], opened by `.await`.
#[derive(Debug)]
#[must_use = "nothing is sent before .await"]
pub struct ProviderBuilder<T> {
    discovery: ServiceDiscovery<T>,
    service: String,
    strategy: Strategy,
    policy: DownPolicy,
    least: usize,
}

impl<T> ProviderBuilder<T> {
    pub(crate) fn new(discovery: ServiceDiscovery<T>, service: String) -> ProviderBuilder<T> {
        let (strategy, policy) = (Strategy::default(), DownPolicy::default());
        ProviderBuilder { discovery, service, strategy, policy, least: 0 }
    }

    /// How instances are picked. Default: [`Strategy::RoundRobin`].
    pub fn strategy(mut self, strategy: Strategy) -> ProviderBuilder<T> {
        self.strategy = strategy;
        self
    }

    /// When an instance is passed over; see [`Provider::note_error`]. Default: Curator's.
    pub fn down_policy(mut self, policy: DownPolicy) -> ProviderBuilder<T> {
        self.policy = policy;
        self
    }

    /// Goes on with the list before when a new one has fewer instances: when all sessions end at once the instances are gone
    /// for a moment, and most of them serve all the same. Default: 0, every list is taken as it is.
    pub fn at_least(mut self, least: usize) -> ProviderBuilder<T> {
        self.least = least;
        self
    }
}

/// Resolves when the list is read for the first time. Fails with [`Error::BadName`], [`Error::TooMany`], [`Error::Closed`],
/// and what the server refuses. Dropping the future leaves nothing.
///
/// # Panics
/// When polled outside a tokio runtime.
impl<T: DeserializeOwned + Send + Sync + 'static> IntoFuture for ProviderBuilder<T> {
    type Output = Result<Provider<T>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(Provider::open(self))
    }
}

/// Picks instances of one service. Dropping it takes the watches along.
pub struct Provider<T> {
    view: watch::Receiver<Arc<ServiceView<T>>>,
    error: watch::Receiver<Option<Error>>,
    picker: Mutex<Picker>,
    _ends_driver: DropGuard,
}

impl<T> fmt::Debug for Provider<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view.borrow();
        let nodes: Vec<_> = view.instances.keys().collect();
        f.debug_struct("Provider").field("view", &view.id).field("nodes", &nodes).finish_non_exhaustive()
    }
}

/// An instance that was picked.
#[derive(Debug)]
pub struct Picked<T> {
    node: String,
    instance: Arc<ServiceInstance<T>>,
}

impl<T> Clone for Picked<T> {
    fn clone(&self) -> Picked<T> {
        Picked { node: self.node.clone(), instance: Arc::clone(&self.instance) }
    }
}

impl<T> std::ops::Deref for Picked<T> {
    type Target = ServiceInstance<T>;
    fn deref(&self) -> &ServiceInstance<T> {
        &self.instance
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Provider<T> {
    async fn open(builder: ProviderBuilder<T>) -> Result<Provider<T>, Error> {
        let ProviderBuilder { discovery, service, strategy, policy, least } = builder;
        let mut views = discovery.watch(&service)?;
        let Some(first) = views.next().await else {
            return Err(views.error().unwrap_or(Error::Closed));
        };
        let (shown, view) = watch::channel(Arc::new(first));
        let (failed, error) = watch::channel(None);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let follow = async {
                while let Some(next) = views.next().await {
                    shown.send_if_modified(|shown| {
                        let taken = next.instances.len() >= least.min(shown.instances.len());
                        if taken {
                            *shown = Arc::new(next);
                        }
                        taken
                    });
                }
                failed.send_replace(views.error());
            };
            tokio::select! {
                () = stopped.cancelled() => {}
                () = follow => {}
            }
        });
        let picker = Mutex::new(Picker::new(strategy, policy));
        Ok(Provider { view, error, picker, _ends_driver: stop.drop_guard() })
    }
}

impl<T> Provider<T> {
    /// An instance that is enabled and not down; `None` when there is none. It waits for nothing: while disconnected the list
    /// is the last one that was read.
    #[must_use]
    pub fn pick(&self) -> Option<Picked<T>> {
        let view = Arc::clone(&self.view.borrow());
        let mut picker = self.picker.lock().unwrap_or_else(PoisonError::into_inner);
        let (node, instance) = picker.pick(&view, Instant::now(), |below| fastrand::usize(..below))?;
        Some(Picked { node, instance })
    }

    /// Says that an instance could not be used. After so many errors as the [`DownPolicy`] says it is passed over by this
    /// provider; others do not hear of it.
    pub fn note_error(&self, picked: &Picked<T>) {
        let view = Arc::clone(&self.view.borrow());
        let mut picker = self.picker.lock().unwrap_or_else(PoisonError::into_inner);
        picker.note_error(&view, &picked.node, Instant::now());
    }

    /// The list that is picked from.
    #[must_use]
    pub fn view(&self) -> Arc<ServiceView<T>> {
        Arc::clone(&self.view.borrow())
    }

    /// Waits for another list. Where there will be none, it waits for ever; see [`Provider::error`].
    ///
    /// # Cancel safety
    /// Safe: the newest list is not lost.
    pub async fn changed(&mut self) -> Arc<ServiceView<T>> {
        if self.view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        Arc::clone(&self.view.borrow_and_update())
    }

    /// Why the list is not kept up to date any more, if so: the client was closed, or the server refuses.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.error.borrow().clone()
    }
}
