//! What is set of Redis, and what this node is called among those that share it.

use std::path::PathBuf;
use std::sync::Arc;

use fred::types::config::Config as Address;

use super::reader::Reader;
use super::{Secret, SettingError};

/// What an address may look like.
pub const ADDRESS_FORM: &str = "redis://USER:PASSWORD@HOST:PORT, \
     redis-cluster://HOST:PORT?node=HOST:PORT or \
     redis-sentinel://HOST:PORT?node=HOST:PORT&sentinelServiceName=NAME; rediss with TLS";
/// Characters of a prefix, at most: it stands in every key.
const PREFIX_CHARS_MAX: usize = 32;
/// Characters of a node's name, at most.
pub const NODE_NAME_CHARS_MAX: usize = 64;

/// Redis, where nodes share who has which call.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `REDIS_URL`, of [`ADDRESS_FORM`].
    pub url: Secret,
    /// Certificates that are trusted beside the system's.
    pub tls_ca: Option<PathBuf>,
    /// What every key and channel begins with.
    pub prefix: Arc<str>,
}

/// Reads what is set of Redis.
///
/// # Errors
/// Where anything is not allowed.
pub(super) fn read(reader: &Reader) -> Result<Option<Redis>, SettingError> {
    let prefix = reader.text("REDIS_PREFIX");
    // A brace would make a hash tag of its own: then all keys would lie on one node of a cluster.
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"_.:-".contains(&it);
    if prefix.len() > PREFIX_CHARS_MAX || !prefix.bytes().all(plain) {
        return Err(reader.wrong("REDIS_PREFIX", "up to 32 characters of A-Z a-z 0-9 _ . : -"));
    }
    let tls_ca = match reader.optional("REDIS_TLS_CA").map(PathBuf::from) {
        Some(path) if !path.is_file() => {
            return Err(reader.wrong("REDIS_TLS_CA", "the path of a PEM file"));
        }
        path => path,
    };
    let Some(url) = reader.secret("REDIS_URL") else {
        return match tls_ca {
            Some(_) => Err(reader.wrong("REDIS_TLS_CA", "only with REDIS_URL")),
            None => Ok(None),
        };
    };
    if reader.optional("DATABASE_URL").is_none() {
        let allowed = "only together with DATABASE_URL (nodes would keep histories apart)";
        return Err(reader.wrong("REDIS_URL", allowed));
    }
    if !is_address(url.expose()) {
        return Err(reader.wrong("REDIS_URL", ADDRESS_FORM));
    }
    Ok(Some(Redis { url, tls_ca, prefix: Arc::from(prefix) }))
}

/// The client takes any scheme that ends in `-cluster` or `-sentinel`, and any other for a single server.
fn is_address(url: &str) -> bool {
    let Some((scheme, _)) = url.split_once("://") else { return false };
    let plain = scheme.strip_suffix("-cluster").or_else(|| scheme.strip_suffix("-sentinel"));
    matches!(plain.unwrap_or(scheme), "redis" | "rediss" | "valkey" | "valkeys")
        && Address::from_url(&without_tls(url).0).is_ok()
}

/// The same address without TLS, and whether it had it.
fn without_tls(url: &str) -> (String, bool) {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let word = scheme.split('-').next().unwrap_or_default();
    let kind = scheme.get(word.len()..).unwrap_or_default();
    let plain = match word {
        "rediss" => "redis",
        "valkeys" => "valkey",
        word => word,
    };
    (format!("{plain}{kind}://{rest}"), plain != word)
}

impl Redis {
    /// The address as the client takes it, and whether TLS belongs to it: for an address with TLS the
    /// client would look for certificates by itself, and panic where the process has no default provider.
    ///
    /// # Errors
    /// Where it is none, as one that was not read from the settings may be.
    pub fn address(&self) -> Result<(Address, bool), fred::error::Error> {
        let (url, tls) = without_tls(self.url.expose());
        Ok((Address::from_url(&url)?, tls))
    }
}

/// The name of this node, where one is set.
///
/// # Errors
/// Where it holds other characters than names may.
pub(super) fn node_name(reader: &Reader) -> Result<Option<Arc<str>>, SettingError> {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"_-".contains(&it);
    match reader.optional("NODE_NAME") {
        Some(name) if name.len() > NODE_NAME_CHARS_MAX || !name.bytes().all(plain) => {
            Err(reader.wrong("NODE_NAME", "up to 64 characters of A-Z a-z 0-9 _ -"))
        }
        name => Ok(name.map(Arc::from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_taken_out_of_an_address() {
        for (url, plain, tls) in [
            ("redis://h", "redis://h", false),
            ("rediss://h", "redis://h", true),
            ("redis-cluster://h", "redis-cluster://h", false),
            ("rediss-cluster://u:p@h:1", "redis-cluster://u:p@h:1", true),
            ("valkeys-sentinel://h?node=x://y", "valkey-sentinel://h?node=x://y", true),
        ] {
            assert_eq!(without_tls(url), (plain.to_owned(), tls), "{url}");
        }
    }
}
