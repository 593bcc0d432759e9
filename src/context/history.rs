//! Where the history is: the flag or variable, the inventory, or beside the inventory.

use std::path::Path;
use std::sync::Arc;

use super::{Context, is_set_to_nothing, variable};
use crate::history::{Place, Settings, Store};
use crate::inventory::Inventory;
use crate::model::{Error, ErrorKind, Result, SecretRef};

impl Context {
    /// What the history of an inventory is opened with.
    ///
    /// # Errors
    /// Exit 78 when its URL cannot be read, 77 when the password is not where it should be.
    pub async fn history_settings(&self, inventory: &Inventory) -> Result<Settings> {
        let absolute = std::path::absolute(&inventory.path).unwrap_or(inventory.path.clone());
        let beside = absolute.parent().unwrap_or(Path::new("/"));
        let own = &inventory.history;
        // A file named on the command line is relative to where that was written.
        let here = std::env::current_dir().unwrap_or_else(|_| beside.to_owned());
        let mut place = match (&self.options.history, &own.url) {
            (Some(url), _) => Place::parse(url, &here)?,
            (None, Some(url)) => Place::parse(url, beside)?,
            (None, None) => Place::Sqlite(beside.join(default_name(&absolute))),
        };
        let mut tls = None;
        if let Place::Postgres(server) = &mut place {
            server.password = self.history_password(inventory).await?;
            if server.tls {
                let config = crate::http::client_config(own.ca.as_deref())
                    .map_err(|failure| Error::config(failure.message))?;
                tls = Some(Arc::new(config));
            }
        }
        Ok(Settings { place, tls })
    }

    /// The password of PostgreSQL: as the inventory says, else as for every client of it.
    async fn history_password(
        &self,
        inventory: &Inventory,
    ) -> Result<Option<crate::model::Secret>> {
        let reference = match &inventory.history.password {
            Some(reference) => reference.clone(),
            None if variable("PGPASSWORD").is_some() && !is_set_to_nothing("PGPASSWORD") => {
                SecretRef::Env { variable: "PGPASSWORD".to_owned() }
            }
            None => return Ok(None),
        };
        let found = self.credentials(Some(&inventory.path)).resolve(&reference).await;
        found.map(Some).map_err(|error| {
            Error::new(ErrorKind::Credential, format!("the password of the history: {error}")).hint(
                "history: {url: …, password: REFERENCE} in the inventory says where it is kept",
            )
        })
    }

    /// Opens the history to write into it; begins one where there is none.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub async fn open_history(&self, inventory: &Inventory) -> Result<Store> {
        Store::open(&self.history_settings(inventory).await?).await
    }

    /// Opens the history to look at it.
    ///
    /// # Errors
    /// Exit 66 when there is none, and those of [`Store::look`].
    pub async fn look_at_history(&self, inventory: &Inventory) -> Result<Store> {
        let settings = self.history_settings(inventory).await?;
        Store::look(&settings).await?.ok_or_else(|| {
            Error::not_found(format!("there is no history at {} yet", settings.place))
                .hint("fhirctl check records what it finds; --history names another place")
        })
    }
}

/// `servers.history.db` beside `servers.yaml`.
fn default_name(inventory: &Path) -> String {
    let stem = inventory.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    format!("{stem}.history.db")
}
