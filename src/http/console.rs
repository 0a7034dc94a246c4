//! The call console: the files of `web/dist`, embedded when the program is built.
//!
//! Built without them, the program serves a page that says how to get them.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::Reply;
use super::exchange::{Failure, bytes_of, empty};
use super::inbound::gzip;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/web/dist"]
#[allow_missing = true]
struct Files;

/// The page at `/`.
const PAGE: &str = "index.html";
/// Under this folder the build puts a hash of the content into each name.
const HASHED: &str = "assets/";
/// Scripts and styles of our own only; sockets and media servers may live elsewhere.
const POLICY: &str = "default-src 'self'; connect-src 'self' https: wss: ws: http:; \
    img-src 'self' data: blob:; media-src 'self' data: blob: mediastream:; \
    style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; object-src 'none'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const FEATURES: &str = "camera=(self), microphone=(self), display-capture=(self), geolocation=()";
/// Served at `/` where no console is embedded.
const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
    <title>Call service</title><h1>The call service runs</h1>\
    <p>Its console was not there when it was built. <code>make run</code> builds both; by hand: \
    <code>cd web &amp;&amp; npm ci &amp;&amp; npm run build</code>, then build the service again.</p>\
    <p>The API is described in <a href=\"/openapi.json\">/openapi.json</a>.</p></html>";

/// The console's files, ready to be served.
pub struct Console {
    assets: HashMap<String, Asset>,
}

struct Asset {
    content_type: &'static str,
    plain: Bytes,
    packed: Option<Bytes>,
    tag: HeaderValue,
    is_hashed: bool,
}

impl Console {
    /// The files that were embedded, each packed once.
    pub fn embedded() -> Self {
        let file = |path: &str| Files::get(path).map(|file| (path.to_owned(), file));
        Self::of(Files::iter().filter_map(|path| file(&path)))
    }

    fn of(files: impl Iterator<Item = (String, EmbeddedFile)>) -> Self {
        let mut assets: HashMap<_, _> = files
            .map(|(path, file)| {
                let hash = file.metadata.sha256_hash();
                let asset = Asset::new(&path, Bytes::from(file.data.into_owned()), &hash);
                (path, asset)
            })
            .collect();
        assets.entry(PAGE.to_owned()).or_insert_with(|| {
            Asset::new(PAGE, Bytes::from_static(MISSING.as_bytes()), b"missing")
        });
        Self { assets }
    }

    /// Whether the real page is embedded.
    pub fn is_embedded(&self) -> bool {
        self.assets.len() > 1
    }

    /// The file at `path` as a request asks for it, or 404.
    pub fn reply(&self, path: &str, request: &HeaderMap, takes_gzip: bool) -> Reply {
        let name = match path.trim_start_matches('/') {
            "" => PAGE,
            name => name,
        };
        match self.assets.get(name) {
            Some(asset) => asset.reply(request, takes_gzip),
            None => Failure::not_found().reply(),
        }
    }
}

impl Asset {
    fn new(path: &str, plain: Bytes, hash: &[u8]) -> Self {
        let content_type = content_type(path);
        let is_text = content_type.starts_with("text/")
            || content_type.ends_with("json")
            || content_type.ends_with("svg+xml");
        let packed = if is_text { gzip(&plain, Compression::best()) } else { None };
        let tag = HeaderValue::try_from(format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash)))
            .unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        Self { content_type, plain, packed, tag, is_hashed: path.starts_with(HASHED) }
    }

    fn reply(&self, request: &HeaderMap, takes_gzip: bool) -> Reply {
        let known = request.get(IF_NONE_MATCH).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let tag = self.tag.to_str().unwrap_or_default();
        let is_known = known.split(',').any(|it| it.trim().trim_start_matches("W/") == tag);
        let mut reply = match (&self.packed, is_known) {
            (_, true) => empty(StatusCode::NOT_MODIFIED),
            (Some(packed), _) if takes_gzip => self.packed(packed),
            _ => bytes_of(StatusCode::OK, self.content_type, self.plain.clone()),
        };
        self.describe(reply.headers_mut());
        reply
    }

    fn packed(&self, packed: &Bytes) -> Reply {
        let mut reply = bytes_of(StatusCode::OK, self.content_type, packed.clone());
        reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        reply
    }

    fn describe(&self, headers: &mut HeaderMap) {
        let fixed = HeaderValue::from_static;
        headers.insert(ETAG, self.tag.clone());
        if self.packed.is_some() {
            headers.insert(VARY, fixed("accept-encoding"));
        }
        let caching =
            if self.is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
        headers.insert(CACHE_CONTROL, fixed(caching));
        headers.insert(CONTENT_SECURITY_POLICY, fixed(POLICY));
        headers.insert(HeaderName::from_static("permissions-policy"), fixed(FEATURES));
        headers.insert(HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin"));
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use rust_embed::Metadata;

    use super::*;

    fn console() -> Console {
        let script = "let same = 1;".repeat(100);
        let files =
            [("index.html", "<p>page</p>"), ("assets/a-1f.js", &script), ("logo.png", "png")];
        let file = |(path, text): (&str, &str)| {
            let data = text.as_bytes().to_vec().into();
            let metadata = Metadata::__rust_embed_new([7; 32], None, None);
            (path.to_owned(), EmbeddedFile { data, metadata })
        };
        Console::of(files.into_iter().map(file))
    }

    async fn body(reply: Reply) -> Bytes {
        reply.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn files_as_a_browser_asks_for_them() {
        let none = HeaderMap::new();
        for (path, status, content_type, caching) in [
            ("/", 200, "text/html; charset=utf-8", "no-cache"),
            ("/index.html", 200, "text/html; charset=utf-8", "no-cache"),
            (
                "/assets/a-1f.js",
                200,
                "text/javascript; charset=utf-8",
                "public, max-age=31536000, immutable",
            ),
            ("/logo.png", 200, "image/png", "no-cache"),
            ("/assets/gone.js", 404, "application/json", ""),
            ("/../Cargo.toml", 404, "application/json", ""),
        ] {
            let reply = console().reply(path, &none, false);
            let header = |name: &str| {
                reply.headers().get(name).map_or("", |it| it.to_str().unwrap()).to_owned()
            };
            assert_eq!(reply.status().as_u16(), status, "{path}");
            assert_eq!(header("content-type"), content_type, "{path}");
            assert_eq!(header("cache-control"), caching, "{path}");
            assert_eq!(header("content-security-policy").is_empty(), status != 200, "{path}");
        }
    }

    #[tokio::test]
    async fn packed_for_those_who_can_unpack() {
        let none = HeaderMap::new();
        let packed = console().reply("/assets/a-1f.js", &none, true);
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        assert!(body(packed).await.len() < 200);
        let plain = console().reply("/assets/a-1f.js", &none, false);
        assert_eq!(plain.headers()[VARY], "accept-encoding");
        assert_eq!(body(plain).await.len(), 1300);
        assert!(
            !console().reply("/logo.png", &none, true).headers().contains_key(CONTENT_ENCODING)
        );
    }

    #[tokio::test]
    async fn what_is_known_is_not_sent_again() {
        let none = HeaderMap::new();
        let tag = console().reply("/", &none, false).headers()[ETAG].clone();
        let request = HeaderMap::from_iter([(IF_NONE_MATCH, tag)]);
        let reply = console().reply("/", &request, true);
        assert_eq!(reply.status(), StatusCode::NOT_MODIFIED);
        assert!(body(reply).await.is_empty());
    }

    #[tokio::test]
    async fn without_a_console_the_page_says_how_to_get_it() {
        let console = Console::of(std::iter::empty());
        assert!(!console.is_embedded());
        let reply = console.reply("/", &HeaderMap::new(), false);
        assert_eq!(reply.status(), StatusCode::OK);
        assert!(body(reply).await.windows(8).any(|it| it == b"make run"));
    }
}
