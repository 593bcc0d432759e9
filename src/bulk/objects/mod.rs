//! Object stores as destinations: `s3://`, `gs://`, `az://`.
//!
//! Files are fetched, judged and made durable in a folder below the ledger as anywhere else; from
//! there `upload` brings each to its store in steps that the ledger knows. `bucket` is the store
//! with its errors in our words, `connector` its way to the network, `address` what names it.

mod address;
mod bucket;
mod connector;
mod courier;
mod marker;
mod sweep;
mod trouble;
mod upload;
mod verify;

pub use address::{Address, Destination};
pub use bucket::{Bucket, Found, Surely};
pub use courier::Courier;
pub use marker::{Begun, destroy, open_or_begin};
pub use upload::Uploads;
pub use verify::verify;
