//! The description of this API for machines: `openapi.json` beside this file, in OpenAPI 3.1.

use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, VARY};
use http::{HeaderValue, StatusCode};

use super::Reply;
use super::exchange::bytes_of;
use super::inbound::gzip;

const DESCRIPTION: &str = include_str!("openapi.json");

/// Packed once: anybody may ask for it, as often as they like.
static PACKED: LazyLock<Option<Bytes>> =
    LazyLock::new(|| gzip(DESCRIPTION.as_bytes(), Compression::best()));

/// The description as an answer.
pub fn reply(takes_gzip: bool) -> Reply {
    let packed = PACKED.as_ref().filter(|_| takes_gzip);
    let bytes = packed.cloned().unwrap_or(Bytes::from_static(DESCRIPTION.as_bytes()));
    let mut reply = bytes_of(StatusCode::OK, "application/json", bytes);
    let headers = reply.headers_mut();
    if packed.is_some() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hyper::body::Body;
    use serde_json::Value;

    use super::super::exchange::status_of;
    use super::super::route::{Route, Verb, tests::all};
    use super::*;

    fn description() -> Value {
        serde_json::from_str(DESCRIPTION).unwrap()
    }

    fn operations() -> Vec<(String, String, Value)> {
        let description = description();
        let paths = description["paths"].as_object().unwrap();
        let of = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().unwrap().clone();
            let path = path.clone();
            methods
                .into_iter()
                .map(move |(method, it)| (path.clone(), method, it))
                .collect::<Vec<_>>()
        };
        paths.iter().flat_map(of).collect()
    }

    #[test]
    fn it_describes_the_routes_and_nothing_else() {
        let verb = |it: Verb| match it {
            Verb::Get => "get",
            Verb::Post => "post",
            Verb::Patch => "patch",
        };
        let route = |it: &Route| (it.template().to_owned(), verb(it.verb()).to_owned());
        let served: BTreeSet<_> = all().iter().map(route).collect();
        let described: BTreeSet<_> =
            operations().into_iter().map(|(path, method, _)| (path, method)).collect();
        assert_eq!(described, served);
    }

    #[test]
    fn it_says_which_routes_take_a_token() {
        for (path, _, operation) in operations() {
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            let route = all().into_iter().find(|it| it.template() == path).unwrap();
            assert_eq!(is_open, !route.needs_identity(), "{path}");
            let has_id = operation["parameters"].to_string().contains("parameters/id");
            assert_eq!(has_id, path.contains("{id}"), "{path}");
        }
    }

    #[test]
    fn its_codes_are_the_table_s() {
        let codes = &description()["components"]["schemas"]["Failure"]["properties"]["code"];
        let codes = codes["enum"].as_array().unwrap().clone();
        assert_eq!(codes.len(), 24);
        for code in codes {
            let code = code.as_str().unwrap();
            let is_internal = status_of(code) == StatusCode::INTERNAL_SERVER_ERROR;
            assert_eq!(is_internal, code == "internal", "{code}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_part_is_used() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    if let Some(reference) = fields.get("$ref") {
                        found.insert(reference.as_str().unwrap().to_owned());
                    }
                    fields.values().for_each(|it| references(it, found));
                }
                Value::Array(items) => items.iter().for_each(|it| references(it, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let description = description();
        let mut used = BTreeSet::new();
        references(&description, &mut used);
        let defined: BTreeSet<_> = ["schemas", "responses", "parameters"]
            .into_iter()
            .flat_map(|kind| {
                let parts = description["components"][kind].as_object().unwrap().clone();
                parts.into_iter().map(move |(name, _)| format!("#/components/{kind}/{name}"))
            })
            .collect();
        assert_eq!(used, defined);
    }

    #[test]
    fn it_is_packed_for_those_who_can_unpack() {
        let size = |takes_gzip: bool| reply(takes_gzip).body().size_hint().lower();
        assert_eq!(size(false), u64::try_from(DESCRIPTION.len()).unwrap());
        assert!(size(true) * 5 < size(false));
        assert_eq!(reply(true).headers()[CONTENT_ENCODING], "gzip");
    }

    #[test]
    fn its_version_is_the_program_s() {
        assert_eq!(description()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
