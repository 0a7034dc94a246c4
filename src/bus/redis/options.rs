//! How the client is set, and what its failures mean to us.
//!
//! Its defaults wait for ever, queue without bound and try again what may have happened (measured with
//! fred 10.1), so that nearly every one of them is set here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::types::Builder;
use fred::types::RespVersion;
use fred::types::config::{
    ReconnectError, ReconnectPolicy, TlsConfig, TlsConnector, UnresponsiveConfig,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::bus::error::{BusError, Kind};
use crate::config::redis::Redis as Settings;

/// How long Redis may take to answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(500);
/// How long opening a connection may take, and each step of setting it up.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a connection may stay silent while something is asked: then it is half open.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How often that is looked at.
const SILENCE_LOOK: Duration = Duration::from_millis(500);
/// Commands that wait in one client, at most: more wait only where Redis is away, and fail at once.
const COMMANDS_MAX: usize = 10_000;
/// Messages that wait for whoever drains them, at most. Above, the oldest are lost, which is told as a gap.
const MESSAGES_MAX: usize = 65_536;
/// Milliseconds between two tries to connect: at first, and at most.
const RECONNECT_MS: (u32, u32) = (100, 2000);

const DURING: &str = "setting up the connections to Redis";

/// The client's settings for `settings`. A letter is never sent on elsewhere (`redirections` 0): of two that
/// are turned away from where a slot was, the later one could arrive first.
pub(super) fn builder(settings: &Settings, redirections: u32) -> Result<Builder, BusError> {
    let refused = |cause: Error| BusError::caused(DURING, Kind::Refused, cause);
    let (mut config, encrypted) = settings.address().map_err(refused)?;
    config.fail_fast = false;
    // One that is subscribed may then still ask.
    config.version = RespVersion::RESP3;
    if encrypted {
        config.tls = Some(tls(settings.tls_ca.as_ref())?);
    }
    let mut builder = Builder::from_config(config);
    builder.with_performance_config(|it| {
        it.default_command_timeout = ANSWER_MAX;
        it.broadcast_channel_capacity = MESSAGES_MAX;
    });
    builder.with_connection_config(|it| {
        it.connection_timeout = CONNECT_MAX;
        it.internal_command_timeout = CONNECT_MAX;
        it.max_command_attempts = 1;
        it.max_redirections = redirections;
        it.max_command_buffer_len = COMMANDS_MAX;
        it.unresponsive =
            UnresponsiveConfig { max_timeout: Some(SILENCE_MAX), interval: SILENCE_LOOK };
        it.tcp.nodelay = Some(true);
        // What was asked on a connection that is given up is not to arrive after what is asked on the next.
        it.tcp.linger = Some(Duration::ZERO);
        it.reconnect_errors = vec![
            ReconnectError::ClusterDown,
            ReconnectError::Loading,
            ReconnectError::MasterDown,
            ReconnectError::ReadOnly,
        ];
    });
    let (least, most) = RECONNECT_MS;
    builder.set_policy(ReconnectPolicy::new_exponential(0, least, most, 2));
    Ok(builder)
}

/// The system's certificates, and those of `file`.
fn tls(file: Option<&PathBuf>) -> Result<TlsConfig, BusError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = file {
        let refused = |cause| BusError::caused("reading REDIS_TLS_CA", Kind::Refused, cause);
        for certificate in
            CertificateDer::pem_file_iter(file).map_err(|it| refused(it.to_string()))?
        {
            let certificate = certificate.map_err(|it| refused(it.to_string()))?;
            roots.add(certificate).map_err(|it| refused(it.to_string()))?;
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| BusError::caused(DURING, Kind::Refused, cause))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(config).into())
}

/// What a failure means to us. Redis' own begin with a word in capitals; the client gives most of them no
/// kind.
pub(super) fn kind_of(error: &Error) -> Kind {
    let details = error.details();
    let refused = ["NOPERM", "NOAUTH", "WRONGPASS", "ERR unknown command", "ERR invalid password"];
    if refused.iter().any(|it| details.starts_with(it)) || is_certificate(details) {
        return Kind::Refused;
    }
    match error.kind() {
        ErrorKind::Auth | ErrorKind::Config | ErrorKind::Url | ErrorKind::Tls => Kind::Refused,
        ErrorKind::Backpressure => Kind::Crowded,
        ErrorKind::Parse
        | ErrorKind::InvalidArgument
        | ErrorKind::InvalidCommand
        | ErrorKind::NotFound => Kind::Odd,
        ErrorKind::Unknown if details.starts_with("ERR") => Kind::Odd,
        ErrorKind::Unknown
        | ErrorKind::IO
        | ErrorKind::Routing
        | ErrorKind::Protocol
        | ErrorKind::Canceled
        | ErrorKind::Timeout
        | ErrorKind::Cluster
        | ErrorKind::Sentinel => Kind::Away,
    }
}

/// The client hands a certificate that is not trusted on as an error of the network.
fn is_certificate(details: &str) -> bool {
    details.contains("invalid peer certificate") || details.contains("InvalidCertificate")
}

/// Turns the client's failure into ours; made for `map_err`.
pub(super) fn failed(during: &'static str) -> impl Fn(Error) -> BusError {
    move |cause| BusError::caused(during, kind_of(&cause), cause)
}
