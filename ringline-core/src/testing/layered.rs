//! Connections that come with a layer.

use super::{World, WorldError};
use crate::backend::sim::Faults;
use crate::backend::uring::Setup;
use crate::config::Config;
use crate::handler::EventHandler;
use crate::layer::LayerFactory;
use std::sync::Arc;

/// What a world listens on.
#[derive(Default)]
pub(super) struct Listening {
    pub(super) is_unix: bool,
    pub(super) layers: Option<Arc<dyn LayerFactory>>,
}

impl<H: EventHandler> World<H> {
    /// As [`simulated`](Self::simulated), with a layer on every connection that is accepted. Peers write
    /// and read wire bytes.
    ///
    /// # Panics
    ///
    /// If `on_start` panics.
    pub fn layered(
        config: &Config,
        seed: u64,
        faults: Faults,
        layers: Arc<dyn LayerFactory>,
        handler: H,
    ) -> Self {
        Self::on_sim(config, seed, faults, handler, Listening { is_unix: false, layers: Some(layers) })
    }

    /// As [`loopback`](Self::loopback), with a layer on every connection that is accepted. Peers write
    /// and read wire bytes.
    ///
    /// # Errors
    ///
    /// What kept the ring or the listening socket from being made.
    ///
    /// # Panics
    ///
    /// If `on_start` panics.
    pub fn layered_loopback(
        config: &Config,
        layers: Arc<dyn LayerFactory>,
        handler: H,
    ) -> Result<Self, WorldError> {
        let listening = Listening { is_unix: false, layers: Some(layers) };
        Self::on_loopback(config, &Setup::new(config), handler, listening)
    }
}
