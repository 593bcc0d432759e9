//! A bucket, or a part of one: what is asked of it, and its errors in our words.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload, RetryConfig,
};
use url::Url;

use super::super::halt::Halt;
use super::address::{Address, Scheme};
use super::connector::Connector;
use super::trouble::{Seen, Trouble, note, watched};
use crate::auth::{Surroundings, aws_sigv4};
use crate::model::ErrorKind;
use crate::model::server::is_loopback;

/// How often the library asks again, and for how long.
const RETRIES: usize = 6;
const RETRIES_FOR: Duration = Duration::from_secs(120);

/// A store below one address. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    address: Address,
    store: Arc<Store>,
}

pub(super) enum Store {
    S3(AmazonS3),
    Gs(GoogleCloudStorage),
    Az(MicrosoftAzure),
    #[cfg(test)]
    Memory(object_store::memory::InMemory),
}

/// An object as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Below the bucket's address.
    pub name: String,
    pub bytes: u64,
}

/// How surely an object that shall not be there yet was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surely {
    /// The store itself lets only one succeed.
    ByStore,
    /// The store has no conditional writes: it was looked, then written.
    ByLook,
}

impl Bucket {
    /// Gets ready to ask; nothing is sent.
    ///
    /// # Errors
    /// Exit 78 when the environment's settings for the store cannot be used.
    pub fn open(address: &Address, surroundings: &Surroundings) -> Result<Bucket, Halt> {
        let connector = Connector::new(surroundings)?;
        let bucket = address.bucket.as_str();
        let unusable = |error: object_store::Error| unusable(address, &error);
        let store = match address.scheme {
            Scheme::S3 => Store::S3(s3(bucket, connector).map_err(|error| match error {
                Unusable::Store(error) => unusable(error),
                Unusable::Halt(halt) => halt,
            })?),
            Scheme::Gs => {
                let builder = GoogleCloudStorageBuilder::from_env();
                let key = GoogleConfigKey::Client(ClientConfigKey::AllowHttp);
                let options = options(builder.get_config_value(&key).as_deref());
                let builder = builder
                    .with_bucket_name(bucket)
                    .with_client_options(options)
                    .with_retry(retries())
                    .with_http_connector(connector);
                Store::Gs(builder.build().map_err(unusable)?)
            }
            Scheme::Az => {
                let builder = MicrosoftAzureBuilder::from_env();
                let key = AzureConfigKey::Client(ClientConfigKey::AllowHttp);
                let allow = builder.get_config_value(&key);
                let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
                refuse_plain(endpoint.as_deref(), allow.as_deref())?;
                let builder = builder
                    .with_container_name(bucket)
                    .with_client_options(options(allow.as_deref()))
                    .with_retry(retries())
                    .with_http_connector(connector);
                Store::Az(builder.build().map_err(unusable)?)
            }
        };
        Ok(Bucket { address: address.clone(), store: Arc::new(store) })
    }

    #[cfg(test)]
    pub(in crate::bulk) fn in_memory(address: &str) -> Bucket {
        Bucket {
            address: Address::parse(address).unwrap(),
            store: Arc::new(Store::Memory(object_store::memory::InMemory::new())),
        }
    }

    /// The same store below a longer address.
    #[must_use]
    pub fn below(&self, name: &str) -> Bucket {
        Bucket { address: self.address.join(name), store: Arc::clone(&self.store) }
    }

    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    fn objects(&self) -> &dyn ObjectStore {
        match &*self.store {
            Store::S3(store) => store,
            Store::Gs(store) => store,
            Store::Az(store) => store,
            #[cfg(test)]
            Store::Memory(store) => store,
        }
    }

    fn multipart(&self) -> &dyn MultipartStore {
        match &*self.store {
            Store::S3(store) => store,
            Store::Gs(store) => store,
            Store::Az(store) => store,
            #[cfg(test)]
            Store::Memory(store) => store,
        }
    }

    pub(super) fn path(&self, name: &str) -> Result<Path, Halt> {
        Path::parse(self.address.key(name)).map_err(|_| {
            Halt::new(
                ErrorKind::Usage,
                "bulk.store_refused",
                format!("{} is no name for an object", self.address.object(name)),
            )
        })
    }

    fn halt(&self, trouble: Trouble, doing: &str, name: &str) -> Halt {
        trouble.halt(doing, &self.address.object(name))
    }

    /// How long an object is; `None` when it is not there.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn length(&self, name: &str) -> Result<Option<u64>, Halt> {
        let path = self.path(name)?;
        match watched(self.objects().head(&path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(trouble) if trouble.is_missing() => Ok(None),
            Err(trouble) => Err(self.halt(trouble, "look at", name)),
        }
    }

    /// A small object; `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or is longer than `most` bytes.
    pub async fn read(&self, name: &str, most: u64) -> Result<Option<Bytes>, Halt> {
        let path = self.path(name)?;
        let read = async {
            let found = self.objects().get(&path).await?;
            match found.meta.size <= most {
                true => found.bytes().await.map(Some),
                false => Ok(None),
            }
        };
        match watched(read).await {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => Err(Halt::new(
                ErrorKind::Data,
                "bulk.store_refused",
                format!("{} is too long to be what it should be", self.address.object(name)),
            )),
            Err(trouble) if trouble.is_missing() => Ok(None),
            Err(trouble) => Err(self.halt(trouble, "read", name)),
        }
    }

    /// Hands on an object piece by piece; `false` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read to its end, or `take` fails.
    pub async fn stream(
        &self,
        name: &str,
        take: &mut (dyn FnMut(&[u8]) -> Result<(), Halt> + Send),
    ) -> Result<bool, Halt> {
        let path = self.path(name)?;
        let mut pieces: BoxStream<'_, object_store::Result<Bytes>> =
            match watched(self.objects().get(&path)).await {
                Ok(found) => found.into_stream(),
                Err(trouble) if trouble.is_missing() => return Ok(false),
                Err(trouble) => return Err(self.halt(trouble, "read", name)),
            };
        loop {
            let next = watched(async { pieces.next().await.transpose() }).await;
            match next.map_err(|trouble| self.halt(trouble, "read", name))? {
                Some(bytes) => take(&bytes)?,
                None => return Ok(true),
            }
        }
    }

    /// Puts a whole object; one that is there is replaced in one step.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Halt> {
        let path = self.path(name)?;
        let put = self.objects().put(&path, PutPayload::from_bytes(bytes));
        watched(put).await.map(drop).map_err(|trouble| self.halt(trouble, "write", name))
    }

    /// Puts an object that is not there yet; `None` when it is.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Surely>, Halt> {
        let path = self.path(name)?;
        let options = PutOptions::from(PutMode::Create);
        let put = self.objects().put_opts(&path, PutPayload::from_bytes(bytes.clone()), options);
        match watched(put).await {
            Ok(_) => return Ok(Some(Surely::ByStore)),
            Err(trouble) if trouble.is_taken() => return Ok(None),
            Err(trouble) if trouble.is_unknown_to_store() => {}
            Err(trouble) => return Err(self.halt(trouble, "write", name)),
        }
        if self.length(name).await?.is_some() {
            return Ok(None);
        }
        self.put(name, bytes).await?;
        Ok(Some(Surely::ByLook))
    }

    /// Takes an object away; one that is not there is no error. Whether it was there, where the
    /// store tells.
    ///
    /// # Errors
    /// When the store does not do it.
    pub async fn delete(&self, name: &str) -> Result<(), Halt> {
        let path = self.path(name)?;
        match watched(self.objects().delete(&path)).await {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.is_missing() => Ok(()),
            Err(trouble) => Err(self.halt(trouble, "delete", name)),
        }
    }

    /// Tells of every object below the address until `tell` says `false`.
    ///
    /// # Errors
    /// When the store does not list them.
    pub async fn list(&self, tell: &mut (dyn FnMut(Found) -> bool + Send)) -> Result<(), Halt> {
        let prefix = Path::parse(&self.address.prefix).ok();
        let prefix = prefix.filter(|prefix| !prefix.as_ref().is_empty());
        let mut all = self.objects().list(prefix.as_ref());
        loop {
            let next = watched(async { all.next().await.transpose() }).await;
            let Some(meta) = next
                .map_err(|trouble| trouble.halt("list what is below", &self.address.to_string()))?
            else {
                return Ok(());
            };
            let key = meta.location.as_ref();
            let name = match self.address.prefix.as_str() {
                "" => key,
                prefix => match key.strip_prefix(prefix).and_then(|it| it.strip_prefix('/')) {
                    Some(name) => name,
                    None => continue,
                },
            };
            if !tell(Found { name: name.to_owned(), bytes: meta.size }) {
                return Ok(());
            }
        }
    }

    /// Begins an object of several parts; gives the store's name for the upload.
    pub(super) async fn begin_parts(&self, name: &str) -> Result<String, Halt> {
        let path = self.path(name)?;
        watched(self.multipart().create_multipart(&path))
            .await
            .map_err(|trouble| self.halt(trouble, "write", name))
    }

    /// Puts one part; `None` when the store knows nothing of the upload any more.
    pub(super) async fn put_part(
        &self,
        name: &str,
        upload: &str,
        number: usize,
        bytes: Bytes,
    ) -> Result<Option<String>, Halt> {
        let path = self.path(name)?;
        let upload = upload.to_owned();
        let put = self.multipart().put_part(&path, &upload, number, PutPayload::from_bytes(bytes));
        match watched(put).await {
            Ok(part) => Ok(Some(part.content_id)),
            Err(trouble) if trouble.is_missing() => Ok(None),
            Err(trouble) => Err(self.halt(trouble, "write", name)),
        }
    }

    /// Makes one object of the parts; `false` when the store knows nothing of them any more.
    pub(super) async fn join_parts(
        &self,
        name: &str,
        upload: &str,
        parts: Vec<String>,
    ) -> Result<bool, Halt> {
        let path = self.path(name)?;
        let upload = upload.to_owned();
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        match watched(self.multipart().complete_multipart(&path, &upload, parts)).await {
            Ok(_) => Ok(true),
            Err(trouble) if trouble.is_missing() => Ok(false),
            Err(trouble) => Err(self.halt(trouble, "write", name)),
        }
    }

    /// Gives an upload up; one that the store does not know is no error.
    pub(super) async fn abort_parts(&self, name: &str, upload: &str) -> Result<(), Halt> {
        let path = self.path(name)?;
        let upload = upload.to_owned();
        match watched(self.multipart().abort_multipart(&path, &upload)).await {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.is_missing() => Ok(()),
            Err(trouble) => Err(self.halt(trouble, "give up the upload of", name)),
        }
    }
}

enum Unusable {
    Store(object_store::Error),
    Halt(Halt),
}

impl From<object_store::Error> for Unusable {
    fn from(error: object_store::Error) -> Unusable {
        Unusable::Store(error)
    }
}

fn s3(bucket: &str, connector: Connector) -> Result<AmazonS3, Unusable> {
    let mut builder = AmazonS3Builder::from_env();
    let allow = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    for key in [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint] {
        refuse_plain(builder.get_config_value(&key).as_deref(), allow.as_deref())
            .map_err(Unusable::Halt)?;
    }
    let credentials = &connector.surroundings().credentials;
    let named = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .find_map(|name| credentials.variable(name))
        .map(|region| region.expose().to_owned());
    let region = named.unwrap_or_else(|| "us-east-1".to_owned());
    if builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_none() {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    let keys = MachineKeys { connector: connector.clone(), region: region.clone() };
    Ok(builder
        .with_bucket_name(bucket)
        .with_region(region)
        .with_credentials(Arc::new(keys))
        .with_client_options(options(allow.as_deref()))
        .with_retry(retries())
        .with_http_connector(connector)
        .build()?)
}

/// The keys of the AWS tools' own order: environment, profile, role, container, instance.
struct MachineKeys {
    connector: Connector,
    region: String,
}

impl fmt::Debug for MachineKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MachineKeys")
    }
}

type Asked<'a> =
    std::pin::Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'a>>;

impl CredentialProvider for MachineKeys {
    type Credential = AwsCredential;

    fn get_credential<'life0, 'async_trait>(&'life0 self) -> Asked<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let around = self.connector.surroundings();
            let found = aws_sigv4::machine_keys(
                self.connector.server(),
                &self.region,
                &around.credentials,
                &around.transport,
            );
            match found.await {
                Ok(keys) => Ok(Arc::new(AwsCredential {
                    key_id: keys.access_key.expose().to_owned(),
                    secret_key: keys.secret_key.expose().to_owned(),
                    token: keys.session_token.map(|token| token.expose().to_owned()),
                })),
                Err(mut failure) => {
                    let source = failure.message.clone().into();
                    // What the code of a server's sign-in advises is of no use here.
                    failure.hint = Some(
                        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this process, or AWS_PROFILE"
                            .to_owned(),
                    );
                    note(Seen::Failure(Box::new(failure)));
                    Err(object_store::Error::Generic { store: "S3", source })
                }
            }
        })
    }
}

fn options(allow_http: Option<&str>) -> ClientOptions {
    let mut options = ClientOptions::new();
    for (suffix, kind) in [
        ("ndjson", "application/fhir+ndjson"),
        ("json", "application/json"),
        ("gz", "application/gzip"),
        ("zst", "application/zstd"),
    ] {
        options = options.with_content_type_for_suffix(suffix, kind);
    }
    options.with_allow_http(allow_http == Some("true"))
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: RETRIES_FOR,
    }
}

/// Data of patients and the keys' signatures do not go in the open.
fn refuse_plain(endpoint: Option<&str>, allow: Option<&str>) -> Result<(), Halt> {
    let Some(url) = endpoint.and_then(|text| Url::parse(text).ok()) else { return Ok(()) };
    if url.scheme() != "http" || is_loopback(&url) || allow == Some("true") {
        return Ok(());
    }
    let host = url.host_str().unwrap_or_default();
    Err(Halt::new(
        ErrorKind::Config,
        "bulk.store_refused",
        format!("the endpoint of the object store is plain HTTP and not on loopback: {host}"),
    )
    .hint("name an https:// endpoint; AWS_ALLOW_HTTP=true sends the data in the open"))
}

fn unusable(address: &Address, error: &object_store::Error) -> Halt {
    let text = error.to_string();
    // What stands in quotes may be a part of a secret.
    let words = text.split(['"', '`', '\n']).next().unwrap_or_default();
    Halt::new(
        ErrorKind::Config,
        "bulk.store_refused",
        format!("the settings for {address} cannot be used: {}", words.trim_end()),
    )
    .hint("they are those of the environment: AWS_…, GOOGLE_… or AZURE_…")
}
