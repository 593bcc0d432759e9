//! `age:PATH#FIELD`: a field of a YAML map in an age-encrypted file.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use ::age::armor::ArmoredReader;
use ::age::{DecryptError, Decryptor, Identity, IdentityFile};
use zeroize::Zeroizing;

use super::{AGE_IDENTITY_FILE, CredentialError, SECRET_BYTES, file, secret};
use crate::model::Secret;

/// Most bytes of an encrypted file, and of what is in it.
const FILE_BYTES: usize = 1024 * 1024;

/// Decrypts a file, binary or armored, and picks a field.
///
/// # Errors
/// When there is no identity or it does not fit, the file is not what it should be, or there is no
/// such field.
pub(super) fn read(
    path: &Path,
    field: &str,
    identity_file: Option<&Path>,
    lenient: bool,
) -> Result<Secret, CredentialError> {
    let name = format!("age:{}#{field}", path.display());
    let identity_file = identity_file.ok_or_else(|| {
        CredentialError::unavailable(
            format!("{name}: no identity to decrypt it with"),
            format!("set {AGE_IDENTITY_FILE} to the file that age-keygen wrote"),
        )
    })?;
    let encrypted = file::read(path, file::Rules::open(FILE_BYTES))?;
    let identities = identities(identity_file, lenient)?;
    let clear = decrypt(&encrypted, &identities, &name)?;
    let mut map = parse(&clear, &name)?;
    match map.remove(field) {
        Some(Wiped(value)) if value.len() > SECRET_BYTES => Err(CredentialError::malformed(
            format!("{name}: the field is larger than 64 KiB"),
            "is this the right field?".into(),
        )),
        Some(Wiped(value)) => secret(value.as_bytes(), &name),
        None => Err(CredentialError::missing(
            format!("{name}: the file decrypts but has no field {field}"),
            "the fields are the top-level keys of the YAML map inside; their names are case-sensitive"
                .into(),
        )),
    }
}

fn identities(
    path: &Path,
    lenient: bool,
) -> Result<Vec<Box<dyn Identity + Send + Sync>>, CredentialError> {
    let bytes = file::read(path, file::Rules::secret(lenient)).map_err(|mut error| {
        error.message = format!("{AGE_IDENTITY_FILE}: {}", error.message);
        error
    })?;
    let unusable = |what: &str| {
        CredentialError::malformed(
            format!("{AGE_IDENTITY_FILE}: {} {what}", path.display()),
            "it holds lines that begin with AGE-SECRET-KEY-1, as age-keygen writes them".into(),
        )
    };
    if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE") {
        return Err(unusable("is itself encrypted; nobody is here to type its passphrase"));
    }
    // The library's errors name the line and not what stands in it, but say less than this.
    let found = IdentityFile::from_buffer(bytes.as_slice())
        .map_err(|_| unusable("holds something that is no X25519 identity"))?
        .into_identities()
        .map_err(|_| unusable("holds an identity that cannot be used"))?;
    if found.is_empty() { Err(unusable("holds no identity")) } else { Ok(found) }
}

fn decrypt(
    encrypted: &[u8],
    identities: &[Box<dyn Identity + Send + Sync>],
    name: &str,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let failed = |error: &DecryptError| match error {
        DecryptError::NoMatchingKeys => CredentialError::refused(
            format!("{name}: it is not encrypted to the identity at hand"),
            format!(
                "encrypt it to this identity's recipient too, or point {AGE_IDENTITY_FILE} to another"
            ),
        ),
        // A header that ends too early is an error of reading.
        DecryptError::InvalidHeader | DecryptError::UnknownFormat | DecryptError::Io(_) => {
            CredentialError::malformed(
                format!("{name}: the file is not in the age format"),
                "write it with: age -r RECIPIENT -o FILE secrets.yaml".into(),
            )
        }
        _ => CredentialError::failed(
            format!("{name}: the file does not decrypt; it is damaged or cut short"),
            "fetch or encrypt it again".into(),
        ),
    };
    let decryptor =
        Decryptor::new_buffered(ArmoredReader::new(encrypted)).map_err(|error| failed(&error))?;
    if decryptor.is_scrypt() {
        return Err(CredentialError::refused(
            format!("{name}: the file is protected by a passphrase, and nobody is here to type it"),
            "encrypt it to an identity instead: age -r RECIPIENT -o FILE secrets.yaml".into(),
        ));
    }
    let reader = decryptor
        .decrypt(identities.iter().map(|identity| identity.as_ref() as &dyn Identity))
        .map_err(|error| failed(&error))?;
    let mut clear = Zeroizing::new(Vec::with_capacity(encrypted.len().min(FILE_BYTES) + 1));
    reader
        .take(FILE_BYTES as u64 + 1)
        .read_to_end(&mut clear)
        .map_err(|_| failed(&DecryptError::DecryptionFailed))?;
    if clear.len() > FILE_BYTES {
        return Err(CredentialError::malformed(
            format!("{name}: what is inside is larger than 1 MiB"),
            "is this the right file?".into(),
        ));
    }
    Ok(clear)
}

/// A string that is overwritten when it is dropped.
struct Wiped(Zeroizing<String>);

impl<'de> serde::Deserialize<'de> for Wiped {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Wiped(Zeroizing::new(text)))
    }
}

fn parse(clear: &[u8], name: &str) -> Result<BTreeMap<String, Wiped>, CredentialError> {
    // The parser's own error shows the line that it stumbled over, which may be a secret.
    std::str::from_utf8(clear).ok().and_then(|text| serde_yaml::from_str(text).ok()).ok_or_else(
        || {
            CredentialError::malformed(
                format!("{name}: what is inside is not a YAML map of names to texts"),
                "inside stand lines such as: epic-prod: \"the secret\"".into(),
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use ::age::secrecy::{ExposeSecret as _, SecretString};
    use ::age::{Encryptor, encrypt, encrypt_and_armor, x25519};

    use super::super::CredentialErrorKind::{self, *};
    use super::*;

    struct Files {
        dir: tempfile::TempDir,
        key: x25519::Identity,
    }

    impl Files {
        fn new() -> Files {
            let files =
                Files { dir: tempfile::tempdir().unwrap(), key: x25519::Identity::generate() };
            let text = format!("# a comment\n{}\n", files.key.to_string().expose_secret());
            files.write("identity", text.as_bytes(), 0o600);
            files
        }

        fn write(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        fn seal(&self, clear: &str) -> PathBuf {
            let sealed = encrypt(&self.key.to_public(), clear.as_bytes()).unwrap();
            self.write("secrets.age", &sealed, 0o644)
        }

        fn identity(&self) -> PathBuf {
            self.dir.path().join("identity")
        }

        fn kind(&self, sealed: &Path, field: &str) -> CredentialErrorKind {
            let error = read(sealed, field, Some(&self.identity()), false).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            error.kind
        }
    }

    #[test]
    fn a_field_comes_back_from_a_binary_and_an_armored_file() {
        let files = Files::new();
        let clear = "epic: hunter2\nkey: |\n  line 1\n  line 2\n";
        let binary = files.seal(clear);
        let armored = encrypt_and_armor(&files.key.to_public(), clear.as_bytes()).unwrap();
        let armored = files.write("armored.age", armored.as_bytes(), 0o644);
        for path in [binary, armored] {
            let get = |field| read(&path, field, Some(&files.identity()), false).unwrap();
            assert_eq!(get("epic").expose(), "hunter2");
            assert_eq!(get("key").expose(), "line 1\nline 2");
        }
    }

    #[test]
    fn what_is_inside_has_to_be_a_map_of_texts() {
        let files = Files::new();
        assert_eq!(files.kind(&files.seal("epic: hunter2"), "other"), Missing);
        assert_eq!(files.kind(&files.seal("epic: ''"), "epic"), Missing);
        for clear in
            ["- hunter2", "hunter2", "epic: {a: hunter2}", "epic: [hunter2", "a: 1\na: hunter2"]
        {
            assert_eq!(files.kind(&files.seal(clear), "epic"), Malformed, "{clear}");
        }
    }

    #[test]
    fn the_file_has_to_be_for_this_identity_whole_and_without_a_passphrase() {
        let files = Files::new();
        let other = x25519::Identity::generate().to_public();
        let foreign = files.write("foreign", &encrypt(&other, b"epic: hunter2").unwrap(), 0o644);
        assert_eq!(files.kind(&foreign, "epic"), Refused);

        let sealed = fs::read(files.seal("epic: hunter2")).unwrap();
        let cut = files.write("cut", &sealed[..sealed.len() - 3], 0o644);
        assert_eq!(files.kind(&cut, "epic"), Failed);
        let garbage = files.write("garbage", b"epic: hunter2", 0o644);
        assert_eq!(files.kind(&garbage, "epic"), Malformed);

        // A low work factor keeps the test quick; the header alone decides.
        let mut recipient = ::age::scrypt::Recipient::new(SecretString::from("pass".to_owned()));
        recipient.set_work_factor(2);
        let locked = files.dir.path().join("locked");
        let recipients: [&dyn ::age::Recipient; 1] = [&recipient];
        let mut writer = Encryptor::with_recipients(recipients.into_iter())
            .unwrap()
            .wrap_output(fs::File::create(&locked).unwrap())
            .unwrap();
        std::io::Write::write_all(&mut writer, b"epic: hunter2").unwrap();
        writer.finish().unwrap();
        assert_eq!(files.kind(&locked, "epic"), Refused);
    }

    #[test]
    fn the_identity_file_obeys_the_rules_of_secret_files() {
        let files = Files::new();
        let sealed = files.seal("epic: hunter2");
        let error = read(&sealed, "epic", None, false).unwrap_err();
        assert_eq!(error.kind, Unavailable);
        assert!(error.hint.contains(AGE_IDENTITY_FILE));

        let key = fs::read(files.identity()).unwrap();
        files.write("identity", &key, 0o644);
        assert_eq!(files.kind(&sealed, "epic"), Refused);
        assert!(read(&sealed, "epic", Some(&files.identity()), true).is_ok());

        files.write("identity", b"# nothing\n", 0o600);
        assert_eq!(files.kind(&sealed, "epic"), Malformed);
        files.write("identity", b"hunter2\n", 0o600);
        assert_eq!(files.kind(&sealed, "epic"), Malformed);
        files.write("identity", &fs::read(&sealed).unwrap(), 0o600);
        assert_eq!(files.kind(&sealed, "epic"), Malformed);
    }
}
