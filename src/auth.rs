//! Who is asking: from a bearer token to an [`Identity`], or an [`Unauthorized`].
//!
//! The kind of key decides the algorithm, never the token: a secret checks HS256 and nothing else,
//! a public key checks the one algorithm of its kind, so a token cannot have itself checked by a
//! public key used as a secret. Time is a parameter, and is the wall's: others issue the tokens.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::call::id::UserId;
use crate::call::time::Timestamp;
use crate::config::{Identity as Settings, SettingError};

/// Bytes of a token, at most; longer ones are refused before anything in them is looked at.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// How far the clocks of issuer and service may be apart.
pub const LEEWAY: Duration = Duration::from_secs(5);
/// How long a token may be valid: one that leaks is worth a day at most.
pub const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// Characters of a user's name that are kept; it travels in every invitation.
pub const NAME_CHARS_MAX: usize = 128;

/// Tokens that are remembered as signed by one of our keys: some 600 bytes each, so 10 MB. One that is remembered
/// costs a look-up in place of a signature and two pieces of JSON (`cargo bench --bench auth`).
pub const KNOWN_MAX: usize = 16_384;

/// A user whose token was good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub user: UserId,
    /// What others see, where the token says it.
    pub name: Option<Arc<str>>,
    /// When the token ends, without the leeway.
    pub expires_at: Timestamp,
}

/// Why nobody is known to be asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// There is no token.
    #[error("a bearer token is required")]
    Missing,
    /// It is not one of ours, or does not say who it is for.
    #[error("the token is not valid")]
    Invalid,
    /// It was one.
    #[error("the token has expired")]
    Expired,
}

/// Checks tokens by the keys of the settings. Cheap to share, keys are prepared once.
pub struct Verifier {
    keys: Vec<Key>,
    signing: Option<EncodingKey>,
    /// Whole tokens that were signed, and what they say; whether that is in force is looked at each time.
    known: Cache<Box<str>, Arc<Claims>>,
}

struct Key {
    key: DecodingKey,
    validation: Validation,
}

/// What a token says. Unknown claims are passed over.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "userId")]
    user_id: Option<String>,
    sub: Option<String>,
    username: Option<Value>,
    exp: Option<Number>,
    nbf: Option<Number>,
    iat: Option<Number>,
}

#[derive(Serialize)]
struct Issued<'a> {
    #[serde(rename = "userId")]
    user_id: &'a str,
    username: Option<&'a str>,
    iat: i64,
    exp: i64,
}

// === impl Verifier ===

impl Verifier {
    /// Prepares the keys. An empty secret is no key: it never verifies anything.
    ///
    /// # Errors
    /// Where `JWT_PUBLIC_KEY` is no public key that can be used.
    pub fn new(settings: &Settings) -> Result<Self, SettingError> {
        let secrets = [&settings.secret, &settings.previous_secret].into_iter().flatten();
        let secrets = secrets.map(|it| it.expose().as_bytes()).filter(|it| !it.is_empty());
        let mut keys: Vec<_> =
            secrets.map(|it| Key::new(DecodingKey::from_secret(it), Algorithm::HS256)).collect();
        if let Some(pem) = &settings.public_key {
            keys.push(public_key(pem)?);
        }
        let signing = settings.secret.as_ref().filter(|it| !it.expose().is_empty());
        let signing = signing.map(|it| EncodingKey::from_secret(it.expose().as_bytes()));
        Ok(Self { keys, signing, known: Cache::new(KNOWN_MAX) })
    }

    /// Who `token` is for, at the wall time `now`.
    ///
    /// # Errors
    /// `Invalid` for whatever was never good, `Expired` for what was.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, Unauthorized> {
        self.check(token, now, |claims| self.known.insert(token.into(), Arc::new(claims)))
    }

    /// The same for one that is shown once, for as long as a socket is open, and so not worth its place among those that
    /// are known, some 400 bytes (measured with DHAT).
    ///
    /// # Errors
    /// As of [`verify`](Self::verify).
    pub fn verify_once(&self, token: &str, now: Timestamp) -> Result<Identity, Unauthorized> {
        self.check(token, now, drop)
    }

    fn check(
        &self,
        token: &str,
        now: Timestamp,
        keep: impl FnOnce(Claims),
    ) -> Result<Identity, Unauthorized> {
        if token.is_empty() {
            return Err(Unauthorized::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Unauthorized::Invalid);
        }
        if let Some(claims) = self.known.get(token) {
            return claims.identity(now);
        }
        let claims = self.claims(token)?;
        let identity = claims.identity(now)?;
        keep(claims);
        Ok(identity)
    }

    /// A token for `user`, good for `ttl` from the wall time `now`; `None` where only a public key
    /// is known.
    pub fn issue(
        &self,
        user: &UserId,
        name: Option<&str>,
        now: Timestamp,
        ttl: Duration,
    ) -> Option<String> {
        let iat = now.0.div_euclid(1000);
        let exp = now.plus(ttl).0.div_euclid(1000);
        let claims = Issued { user_id: user.as_str(), username: name, iat, exp };
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, &claims, self.signing.as_ref()?).ok()
    }

    /// The claims, if any of our keys signed them.
    fn claims(&self, token: &str) -> Result<Claims, Unauthorized> {
        let signed = |key: &Key| jsonwebtoken::decode(token, &key.key, &key.validation).ok();
        self.keys.iter().find_map(signed).map(|it| it.claims).ok_or(Unauthorized::Invalid)
    }
}

// === impl Key ===

impl Key {
    fn new(key: DecodingKey, algorithm: Algorithm) -> Self {
        let mut validation = Validation::new(algorithm);
        // Checked by `Claims::identity`, against a time that is given.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        // The messenger's tokens are made for all of its services.
        validation.validate_aud = false;
        Self { key, validation }
    }
}

/// Finds out what kind of key `pem` is. A key of the wrong size is refused here: each token would
/// be later, and nobody would know why.
fn public_key(pem: &str) -> Result<Key, SettingError> {
    let bytes = pem.as_bytes();
    let kinds: [(_, _, &'static dyn VerificationAlgorithm); 3] = [
        (DecodingKey::from_rsa_pem(bytes), Algorithm::RS256, &RSA_PKCS1_2048_8192_SHA256),
        (DecodingKey::from_ec_pem(bytes), Algorithm::ES256, &ECDSA_P256_SHA256_FIXED),
        (DecodingKey::from_ed_pem(bytes), Algorithm::EdDSA, &ED25519),
    ];
    for (key, algorithm, verification) in kinds {
        let Ok(key) = key else { continue };
        let bytes = key.try_get_as_bytes().unwrap_or_default();
        if ParsedPublicKey::new(verification, bytes).is_ok() {
            return Ok(Key::new(key, algorithm));
        }
    }
    let held = format!("holds {} bytes that are no such key", pem.len());
    let allowed = "the PEM of a public key: RSA (2048 bits or more), P-256 or Ed25519";
    Err(SettingError::new("JWT_PUBLIC_KEY", held, allowed))
}

// === impl Claims ===

impl Claims {
    fn identity(&self, now: Timestamp) -> Result<Identity, Unauthorized> {
        let expires_at = self.lifetime(now)?;
        let user = self.user_id.as_ref().or(self.sub.as_ref()).ok_or(Unauthorized::Invalid)?;
        // Which rule the id broke is of no use to one who cannot change it.
        let user = UserId::parse(user).ok().ok_or(Unauthorized::Invalid)?;
        Ok(Identity { user, name: name(self.username.as_ref()), expires_at })
    }

    /// When the token ends, where it is in force now and short enough.
    fn lifetime(&self, now: Timestamp) -> Result<Timestamp, Unauthorized> {
        let time = |it: &Option<Number>| it.as_ref().map(timestamp).transpose();
        let expires_at = time(&self.exp)?.ok_or(Unauthorized::Invalid)?;
        let begins_at = time(&self.nbf)?.unwrap_or(now);
        let issued_at = time(&self.iat)?.unwrap_or(now);
        if expires_at.plus(LEEWAY) <= now {
            return Err(Unauthorized::Expired);
        }
        let too_long = expires_at.since(issued_at) > LIFETIME_MAX
            || expires_at.since(now) > LIFETIME_MAX + LEEWAY;
        if too_long || begins_at > now.plus(LEEWAY) {
            return Err(Unauthorized::Invalid);
        }
        Ok(expires_at)
    }
}

/// Seconds since 1970, whole or not (RFC 7519's `NumericDate`).
fn timestamp(seconds: &Number) -> Result<Timestamp, Unauthorized> {
    let since_epoch = match (seconds.as_u64(), seconds.as_f64()) {
        (Some(whole), _) => Some(Duration::from_secs(whole)),
        (None, Some(broken)) => Duration::try_from_secs_f64(broken).ok(),
        (None, None) => None,
    };
    since_epoch.map(|it| Timestamp::default().plus(it)).ok_or(Unauthorized::Invalid)
}

fn name(claim: Option<&Value>) -> Option<Arc<str>> {
    let name = claim?.as_str()?.trim();
    let end = name.char_indices().nth(NAME_CHARS_MAX).map_or(name.len(), |(at, _)| at);
    name.get(..end).filter(|it| !it.is_empty()).map(Arc::from)
}

/// The token of an `Authorization` header.
///
/// # Errors
/// `Missing` without a header, `Invalid` where it is of another scheme.
pub fn bearer(authorization: Option<&str>) -> Result<&str, Unauthorized> {
    let header = authorization.ok_or(Unauthorized::Missing)?;
    let (scheme, token) = header.trim().split_once(' ').ok_or(Unauthorized::Invalid)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Unauthorized::Invalid);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::Secret;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const SECONDS: i64 = 1_800_000_000;
    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn settings(secret: &str) -> Settings {
        Settings {
            secret: Some(Secret::new(secret)),
            previous_secret: None,
            public_key: None,
            made_up: false,
        }
    }

    fn verifier() -> Verifier {
        Verifier::new(&settings(SECRET)).unwrap()
    }

    fn sign(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn check(claims: &Value) -> Result<Identity, Unauthorized> {
        verifier().verify(&sign(Algorithm::HS256, SECRET, claims), NOW)
    }

    #[test]
    fn a_token_that_is_known_ends_all_the_same_and_vouches_for_no_other() {
        let verifier = Verifier::new(&settings(SECRET)).unwrap();
        let anna = UserId::parse("anna").unwrap();
        let token = verifier.issue(&anna, Some("Anna"), NOW, Duration::from_mins(1)).unwrap();
        assert_eq!(verifier.verify_once(&token, NOW).unwrap().user, anna);
        assert_eq!(verifier.known.len(), 0);
        for _ in 0..2 {
            assert_eq!(verifier.verify(&token, NOW).unwrap().user, anna);
        }
        assert_eq!(verifier.known.len(), 1);
        assert_eq!(verifier.verify_once(&token, NOW).unwrap().user, anna);
        let later = NOW.plus(Duration::from_secs(66));
        assert_eq!(verifier.verify(&token, later), Err(Unauthorized::Expired));
        let forged = format!("{}A", &token[..token.len() - 1]);
        let forged =
            if forged == token { format!("{}B", &token[..token.len() - 1]) } else { forged };
        assert_eq!(verifier.verify(&forged, NOW), Err(Unauthorized::Invalid));
    }

    #[test]
    fn claims() {
        use Unauthorized::{Expired, Invalid};
        let day = 24 * 3600;
        for (claims, wanted) in [
            (json!({"userId": "u", "exp": SECONDS + 60}), Ok("u")),
            (json!({"sub": "s", "exp": SECONDS + 60}), Ok("s")),
            (json!({"userId": "u", "sub": "s", "exp": SECONDS + 60}), Ok("u")),
            (json!({"userId": "u", "exp": 1_800_000_060.5, "aud": "x", "extra": [1]}), Ok("u")),
            (json!({"userId": "u", "exp": SECONDS - 4}), Ok("u")),
            (json!({"userId": "u", "exp": SECONDS - 5}), Err(Expired)),
            (json!({"userId": "u", "exp": 0}), Err(Expired)),
            (json!({"userId": "u", "exp": -1}), Err(Invalid)),
            (json!({"userId": "u"}), Err(Invalid)),
            (json!({"userId": "u", "exp": null}), Err(Invalid)),
            (json!({"userId": "u", "exp": "1800000060"}), Err(Invalid)),
            (json!({"userId": "u", "exp": SECONDS + day}), Ok("u")),
            (json!({"userId": "u", "exp": SECONDS + day + 6}), Err(Invalid)),
            (json!({"userId": "u", "exp": 1e300}), Err(Invalid)),
            (json!({"userId": "u", "exp": u64::MAX}), Err(Invalid)),
            (json!({"userId": "u", "exp": SECONDS + 60, "iat": SECONDS + 60 - day}), Ok("u")),
            (json!({"userId": "u", "exp": SECONDS + 60, "iat": SECONDS + 59 - day}), Err(Invalid)),
            (json!({"userId": "u", "exp": SECONDS + 60, "nbf": SECONDS + 5}), Ok("u")),
            (json!({"userId": "u", "exp": SECONDS + 60, "nbf": SECONDS + 6}), Err(Invalid)),
            (json!({"exp": SECONDS + 60}), Err(Invalid)),
            (json!({"userId": "", "exp": SECONDS + 60}), Err(Invalid)),
            (json!({"userId": "a b", "exp": SECONDS + 60}), Err(Invalid)),
            (json!({"userId": "x".repeat(65), "exp": SECONDS + 60}), Err(Invalid)),
            (json!({"userId": 7, "exp": SECONDS + 60}), Err(Invalid)),
            (json!(["userId"]), Err(Invalid)),
        ] {
            let seen = check(&claims);
            let seen = seen.as_ref().map(|it| it.user.as_str()).map_err(|it| *it);
            assert_eq!(seen, wanted, "{claims}");
        }
    }

    #[test]
    fn names() {
        let long = "ä".repeat(NAME_CHARS_MAX + 1);
        let cut = "ä".repeat(NAME_CHARS_MAX);
        for (name, wanted) in [
            (json!("Ann"), Some("Ann")),
            (json!("  "), None),
            (json!(5), None),
            (Value::Null, None),
            (json!(long), Some(cut.as_str())),
        ] {
            let identity = check(&json!({"userId": "u", "username": name, "exp": SECONDS + 60}));
            assert_eq!(identity.unwrap().name.as_deref(), wanted);
        }
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
        let good = json!({"userId": "u", "exp": SECONDS + 60});
        let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
        let none = format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(&good));
        let mut tampered = sign(Algorithm::HS256, SECRET, &good);
        tampered.replace_range(tampered.len() - 4.., "AAAA");
        let long = json!({"userId": "u", "exp": SECONDS + 60, "pad": "x".repeat(TOKEN_BYTES_MAX)});
        for (what, token) in [
            ("none", none),
            ("HS384", sign(Algorithm::HS384, SECRET, &good)),
            ("HS512", sign(Algorithm::HS512, SECRET, &good)),
            ("a foreign key", sign(Algorithm::HS256, "another secret", &good)),
            ("an empty key", sign(Algorithm::HS256, "", &good)),
            ("a changed signature", tampered),
            ("over 4 KiB", sign(Algorithm::HS256, SECRET, &long)),
            ("two parts", "a.b".to_owned()),
            ("dots", "...".to_owned()),
        ] {
            assert_eq!(verifier().verify(&token, NOW), Err(Unauthorized::Invalid), "{what}");
        }
        assert_eq!(verifier().verify("", NOW), Err(Unauthorized::Missing));
    }

    #[test]
    fn an_empty_secret_never_verifies() {
        let verifier = Verifier::new(&settings("")).unwrap();
        let token = sign(Algorithm::HS256, "", &json!({"userId": "u", "exp": SECONDS + 60}));
        assert_eq!(verifier.verify(&token, NOW), Err(Unauthorized::Invalid));
        assert_eq!(verifier.issue(&UserId::parse("u").unwrap(), None, NOW, LEEWAY), None);
    }

    #[test]
    fn the_secret_before_still_verifies() {
        let mut both = settings("a new secret");
        both.previous_secret = Some(Secret::new(SECRET));
        let verifier = Verifier::new(&both).unwrap();
        let good = json!({"userId": "u", "exp": SECONDS + 60});
        for (secret, fine) in [(SECRET, true), ("a new secret", true), ("a third", false)] {
            let token = sign(Algorithm::HS256, secret, &good);
            assert_eq!(verifier.verify(&token, NOW).is_ok(), fine, "{secret}");
        }
    }

    #[test]
    fn issues_what_it_verifies() {
        let user = UserId::parse("ann").unwrap();
        let token = verifier().issue(&user, Some("Ann"), NOW, Duration::from_mins(1)).unwrap();
        let identity = verifier().verify(&token, NOW).unwrap();
        let expires_at = NOW.plus(Duration::from_mins(1));
        assert_eq!(identity, Identity { user, name: Some(Arc::from("Ann")), expires_at });
        let later = NOW.plus(Duration::from_secs(65));
        assert_eq!(verifier().verify(&token, later), Err(Unauthorized::Expired));
    }

    fn pem(der: &[u8]) -> String {
        let body = STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    fn public(pem: &str) -> Result<Verifier, SettingError> {
        let public_key = Some(Arc::from(pem));
        Verifier::new(&Settings { secret: None, public_key, ..settings("") })
    }

    fn ecdsa(
        algorithm: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm,
    ) -> (EncodingKey, String) {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let der = pair.public_key().as_der().unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        (EncodingKey::from_ec_der(private.as_ref()), pem(der.as_ref()))
    }

    #[test]
    fn a_public_key_checks_its_own_kind_only() {
        let (private, pem) = ecdsa(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let verifier = public(&pem).unwrap();
        let good = json!({"userId": "u", "exp": SECONDS + 60});
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &good, &private).unwrap();
        assert_eq!(verifier.verify(&token, NOW).unwrap().user.as_str(), "u");
        // The public key as an HMAC secret: the classic confusion of kinds.
        let confused = sign(Algorithm::HS256, &pem, &good);
        assert_eq!(verifier.verify(&confused, NOW), Err(Unauthorized::Invalid));
        let (other, _) = ecdsa(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let foreign = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &good, &other).unwrap();
        assert_eq!(verifier.verify(&foreign, NOW), Err(Unauthorized::Invalid));
    }

    #[test]
    fn rsa_and_ed25519_keys() {
        use aws_lc_rs::signature::Ed25519KeyPair;
        let good = json!({"userId": "u", "exp": SECONDS + 60});
        let pair = Ed25519KeyPair::generate().unwrap();
        let private = EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &good, &private).unwrap();
        let der = pair.public_key().as_der().unwrap();
        assert!(public(&pem(der.as_ref())).unwrap().verify(&token, NOW).is_ok());

        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let body = STANDARD.encode(pkcs8.as_ref());
        let private = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let private = EncodingKey::from_rsa_pem(private.as_bytes()).unwrap();
        let token = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &good, &private).unwrap();
        let key = pair.public_key();
        let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key).unwrap();
        assert!(public(&pem(der.as_ref())).unwrap().verify(&token, NOW).is_ok());
    }

    #[test]
    fn keys_that_cannot_be_used_stop_the_start() {
        let (_, p384) = ecdsa(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING);
        for pem in ["nonsense", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", &p384]
        {
            let error = public(pem).err().expect("a refusal").to_string();
            assert!(error.starts_with("JWT_PUBLIC_KEY holds "), "{error}");
        }
    }

    #[test]
    fn bearers() {
        use Unauthorized::{Invalid, Missing};
        for (header, wanted) in [
            (Some("Bearer abc"), Ok("abc")),
            (Some("bearer  abc "), Ok("abc")),
            (Some("Basic abc"), Err(Invalid)),
            (Some("Bearer"), Err(Invalid)),
            (Some("Bearer "), Err(Invalid)),
            (Some(""), Err(Invalid)),
            (None, Err(Missing)),
        ] {
            assert_eq!(bearer(header), wanted, "{header:?}");
        }
    }

    proptest! {
        /// No bytes make it panic, and none pass.
        #[test]
        fn noise_is_refused(token in "[ -~]{1,200}|[A-Za-z0-9_-]{1,80}\\.[A-Za-z0-9_-]{1,80}\\.[A-Za-z0-9_-]{0,80}") {
            prop_assert_eq!(verifier().verify(&token, NOW), Err(Unauthorized::Invalid));
        }
    }
}
