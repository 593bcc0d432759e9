//! Uploads that were begun and never named: between the store's answer and our note a process may
//! die. S3 lists them; where it does not say, the bucket's own rule for old uploads takes them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};

use super::bucket::{Bucket, Store};
use super::connector::Connector;
use crate::auth::Surroundings;
use crate::http::{Client, Identity};

/// How long the question may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Most bytes of the answer: a thousand uploads have half of that.
const MOST: u64 = 2 * 1024 * 1024;

/// Gives up every upload of one object. Nothing depends on it: a store that does not list uploads,
/// or a credential that may not, leaves them to the bucket's own rule.
pub(super) async fn sweep(bucket: &Bucket, surroundings: &Surroundings, name: &str) {
    for upload in uploads(bucket, surroundings, name).await.unwrap_or_default() {
        let _ = bucket.abort_parts(name, &upload).await;
    }
}

async fn uploads(bucket: &Bucket, surroundings: &Surroundings, name: &str) -> Option<Vec<String>> {
    let Store::S3(store) = bucket.store() else { return None };
    let key = bucket.address().key(name);
    let asked = SignedUrlOptions::new().with_query([("uploads", ""), ("prefix", key.as_str())]);
    let url = store.signed_url_opts(Method::GET, &Path::default(), LIMIT, &asked).await.ok()?;
    let connector = Connector::new(surroundings).ok()?;
    let mut root = url.clone();
    root.set_path("/");
    root.set_query(None);
    let transport = std::sync::Arc::clone(&surroundings.transport);
    let client = Client::beside(connector.server(), &root, &Identity::default(), transport).ok()?;
    let client = std::sync::Arc::new(client);
    let deadline = Instant::now() + LIMIT;
    let asked = client.pass(Method::GET, &url, HeaderMap::new(), Bytes::new(), deadline);
    let answer = asked.await.ok()?;
    if answer.status() != 200 {
        return None;
    }
    let body = answer.whole(MOST, deadline).await.ok()?;
    Some(named(&String::from_utf8_lossy(&body), &key))
}

/// The uploads of a key in a listing.
fn named(listing: &str, key: &str) -> Vec<String> {
    let inside = |text: &str, name: &str| -> Option<String> {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>"))?;
        quick_xml::escape::unescape(value).ok().map(|it| it.into_owned())
    };
    listing
        .split("<Upload>")
        .skip(1)
        .filter(|upload| inside(upload, "Key").as_deref() == Some(key))
        .filter_map(|upload| inside(upload, "UploadId"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_uploads_of_this_key_are_named() {
        let listing = "<ListMultipartUploadsResult><Prefix>a/x</Prefix>\
            <Upload><Key>a/x</Key><UploadId>one&amp;</UploadId></Upload>\
            <Upload><Key>a/xy</Key><UploadId>two</UploadId></Upload>\
            <Upload><Key>a/x</Key><UploadId>three</UploadId></Upload>";
        assert_eq!(named(listing, "a/x"), ["one&", "three"]);
        assert!(named("<html>", "a/x").is_empty());
    }
}
