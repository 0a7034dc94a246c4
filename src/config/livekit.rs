//! What is set of LiveKit: where it is, how it is asked, and where recordings go.

use std::sync::Arc;
use std::time::Duration;

use super::reader::Reader;
use super::{Secret, SettingError};

/// A week: a token that can be used for longer is no ticket any more.
const TOKEN_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// The schemes of `LIVEKIT_URL`: clients take `ws:` and `wss:`, the API is at the same address.
const SCHEMES: &[&str] = &["ws://", "wss://", "http://", "https://"];
/// What belongs to a bucket.
const RECORDING_S3: &[&str] = &[
    "RECORDING_S3_REGION",
    "RECORDING_S3_ENDPOINT",
    "RECORDING_S3_ACCESS_KEY",
    "RECORDING_S3_SECRET",
];
/// What belongs to a folder or a bucket.
const RECORDING_ALL: &[&str] = &[
    "RECORDING_S3_REGION",
    "RECORDING_S3_ENDPOINT",
    "RECORDING_S3_ACCESS_KEY",
    "RECORDING_S3_SECRET",
    "RECORDING_PREFIX",
    "RECORDING_PUBLIC_URL",
];
/// Characters of a path or prefix, at most.
const PATH_CHARS_MAX: usize = 512;

/// LiveKit, and how it is used.
#[derive(Debug, Clone)]
pub struct LiveKit {
    /// Where clients reach it.
    pub url: Arc<str>,
    /// Where this service reaches it.
    pub api_url: Arc<str>,
    /// The name of the secret.
    pub key: Arc<str>,
    /// Signs tokens and checks webhooks.
    pub secret: Secret,
    /// How long a token lets its owner connect; who is connected stays.
    pub token_ttl: Duration,
    /// How long any request may take.
    pub timeout: Duration,
    /// Requests at once, at most.
    pub concurrency: usize,
    /// How long a room may be empty before LiveKit closes it by itself.
    pub empty_timeout: Duration,
    /// How often all rooms are compared with all calls.
    pub check_interval: Duration,
    /// Where recordings go; `None`: nothing is recorded.
    pub recordings: Option<Recordings>,
}

/// Where recordings go.
#[derive(Debug, Clone)]
pub struct Recordings {
    /// What every key begins with.
    pub prefix: Arc<str>,
    /// Where the bucket or folder can be read, with a slash at its end.
    pub public_url: Option<Arc<str>>,
    /// The bucket or folder.
    pub target: RecordingTarget,
}

/// A bucket or a folder.
#[derive(Debug, Clone)]
pub enum RecordingTarget {
    /// A folder of the machine that records.
    Folder(Arc<str>),
    /// A bucket of a store that speaks S3.
    Bucket {
        /// Its name.
        bucket: Arc<str>,
        /// Its region; empty where the store has none.
        region: Arc<str>,
        /// The store's address; empty for Amazon's.
        endpoint: Arc<str>,
        /// Who writes there; empty where the machine that records has a role.
        access_key: Arc<str>,
        /// The key's secret.
        secret: Secret,
        /// Whether the bucket stands in the path, as most stores but Amazon's have it.
        path_style: bool,
    },
}

/// Reads what is set of LiveKit.
///
/// # Errors
/// Where one of the three that belong together is missing, or anything is not allowed.
pub(super) fn read(reader: &Reader) -> Result<Option<LiveKit>, SettingError> {
    let names = ["LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"];
    if names.iter().all(|name| reader.optional(name).is_none()) {
        let others = ["LIVEKIT_API_URL", "RECORDING_DIR", "RECORDING_S3_BUCKET"];
        return match others.into_iter().find(|name| reader.optional(name).is_some()) {
            Some(name) => Err(reader.wrong(name, "only with LIVEKIT_URL")),
            None => Ok(None),
        };
    }
    if let Some(missing) = names.into_iter().find(|name| reader.optional(name).is_none()) {
        let allowed = "LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET together, or none";
        return Err(reader.wrong(missing, allowed));
    }
    let url = address(reader, "LIVEKIT_URL")?;
    let api_url = match reader.optional("LIVEKIT_API_URL") {
        Some(_) => address(reader, "LIVEKIT_API_URL")?,
        None => Arc::clone(&url),
    };
    let milliseconds = |name, range| reader.number(name, range).map(Duration::from_millis);
    Ok(Some(LiveKit {
        url,
        api_url,
        key: Arc::from(reader.text("LIVEKIT_API_KEY")),
        secret: Secret::new(reader.text("LIVEKIT_API_SECRET")),
        token_ttl: reader.seconds("LIVEKIT_TOKEN_TTL", 10..=TOKEN_SECONDS_MAX)?,
        timeout: milliseconds("LIVEKIT_TIMEOUT", 100..=1800)?,
        concurrency: reader.number("LIVEKIT_CONCURRENCY", 1..=1000)?,
        empty_timeout: reader.seconds("LIVEKIT_EMPTY_TIMEOUT", 10..=24 * 3600)?,
        check_interval: milliseconds("LIVEKIT_CHECK_INTERVAL", 100..=30_000)?,
        recordings: recordings(reader)?,
    }))
}

fn address(reader: &Reader, name: &str) -> Result<Arc<str>, SettingError> {
    let text = reader.text(name).trim_end_matches('/');
    let host = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or_default();
    let fine = !host.is_empty() && host.bytes().all(|it| it.is_ascii_graphic() && it != b'@');
    let allowed = || format!("{}HOST[:PORT]", SCHEMES.join("HOST[:PORT] or "));
    if fine { Ok(Arc::from(text)) } else { Err(reader.wrong(name, allowed())) }
}

fn recordings(reader: &Reader) -> Result<Option<Recordings>, SettingError> {
    let target = match (reader.optional("RECORDING_S3_BUCKET"), reader.optional("RECORDING_DIR")) {
        (None, None) => return unused(reader, RECORDING_ALL, "only with a folder or a bucket"),
        (Some(_), Some(_)) => {
            return Err(reader.wrong("RECORDING_DIR", "nothing, since RECORDING_S3_BUCKET is set"));
        }
        (None, Some(folder)) => {
            unused::<()>(reader, RECORDING_S3, "only with RECORDING_S3_BUCKET")?;
            if !folder.starts_with('/') {
                return Err(reader.wrong("RECORDING_DIR", "a path that begins with a slash"));
            }
            RecordingTarget::Folder(Arc::from(folder.trim_end_matches('/')))
        }
        (Some(bucket), None) => bucket_of(reader, bucket)?,
    };
    let path = |name: &str| {
        let text = reader.text(name);
        let plain = |it: u8| it.is_ascii_alphanumeric() || b"-_./=".contains(&it);
        let fine = text.len() <= PATH_CHARS_MAX
            && text.bytes().all(plain)
            && !text.starts_with('/')
            && text.split('/').all(|it| it != "..");
        let allowed = "a path of A-Z a-z 0-9 - _ . / = without .. and without a slash in front";
        if fine { Ok(Arc::from(text)) } else { Err(reader.wrong(name, allowed)) }
    };
    let public_url = match reader.optional("RECORDING_PUBLIC_URL") {
        Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
            Some(Arc::from(format!("{}/", url.trim_end_matches('/'))))
        }
        Some(_) => return Err(reader.wrong("RECORDING_PUBLIC_URL", "http:// or https://...")),
        None => None,
    };
    Ok(Some(Recordings { prefix: path("RECORDING_PREFIX")?, public_url, target }))
}

/// What an operator sets is meant to be used.
fn unused<T>(reader: &Reader, names: &[&str], allowed: &str) -> Result<Option<T>, SettingError> {
    match names.iter().find(|name| reader.optional(name).is_some()) {
        Some(name) => Err(reader.wrong(name, allowed)),
        None => Ok(None),
    }
}

fn bucket_of(reader: &Reader, bucket: &str) -> Result<RecordingTarget, SettingError> {
    let (access_key, secret) =
        (reader.optional("RECORDING_S3_ACCESS_KEY"), reader.secret("RECORDING_S3_SECRET"));
    match (access_key.is_some(), secret.is_some()) {
        (true, false) => Err(reader.wrong("RECORDING_S3_SECRET", "a secret, since a key is set")),
        (false, true) => Err(reader.wrong("RECORDING_S3_ACCESS_KEY", "a key, with its secret")),
        (true, true) | (false, false) => Ok(RecordingTarget::Bucket {
            bucket: Arc::from(bucket),
            region: Arc::from(reader.text("RECORDING_S3_REGION")),
            endpoint: Arc::from(reader.text("RECORDING_S3_ENDPOINT")),
            access_key: Arc::from(access_key.unwrap_or_default()),
            secret: secret.unwrap_or_else(|| Secret::new("")),
            path_style: reader.switch("RECORDING_S3_PATH_STYLE")?,
        }),
    }
}
