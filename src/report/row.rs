//! One line of a report over figures: a server, or servers added up.

use super::figures::Figures;
use crate::model::Server;

/// A server's figures, or those of several under one name.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub servers: usize,
    /// Of a single server.
    pub vendor: Option<String>,
    pub figures: Figures,
}

impl Row {
    #[must_use]
    pub fn new(name: String, server: &Server, figures: Figures) -> Row {
        Row { name, servers: 1, vendor: server.vendor.clone(), figures }
    }

    /// Another server of the same group.
    pub fn merge(&mut self, figures: &Figures) {
        self.servers += 1;
        self.vendor = None;
        self.figures.merge(figures);
    }
}
