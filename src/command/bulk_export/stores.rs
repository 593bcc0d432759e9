//! Exports in object stores, as the commands meet them.

use std::path::Path;

use crate::auth::Surroundings;
use crate::bulk::ledger::Ledger;
use crate::bulk::objects::{Address, Bucket, Destination};
use crate::bulk::place;
use crate::context::Context;
use crate::inventory::{self, Overrides};
use crate::model::{Error, Result};

/// The way to a store. No setting and no credential of the inventory is for it.
pub(in crate::command) fn bucket(context: &Context, address: &Address) -> Result<Bucket> {
    Bucket::open(address, &surroundings(context)?).map_err(Error::from)
}

/// What a store is asked with.
pub(in crate::command) fn surroundings(context: &Context) -> Result<Surroundings> {
    let text = "version: 1\nservers: []\n";
    let nothing = inventory::parse(text, Path::new("/"), &Overrides::default())?;
    Ok(context.surroundings(&nothing))
}

/// The ledger of an export that was begun on this machine, by its folder or address.
pub(super) fn ledger(dir: &Path) -> Result<Ledger> {
    let state = super::state()?;
    match Destination::parse(dir)? {
        Destination::Folder(folder) => place::of_folder(&state, &folder),
        Destination::Store(address) => Ledger::open(&place::of_address(&state, &address)?),
    }
}
