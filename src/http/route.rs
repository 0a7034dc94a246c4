//! What a request is for: method and path to a [`Route`], without IO and without allocation.

use http::Method;

use crate::call::id::CallId;

/// Everything that can be asked over HTTP, Socket.IO apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Start a call.
    Start,
    /// Join or accept it.
    Join(CallId),
    /// End, leave or decline it.
    End(CallId),
    /// A fresh media ticket.
    Token(CallId),
    /// One call, live or past.
    Call(CallId),
    /// The asking user's calls, newest first.
    History,
    /// The asking user's live calls.
    Active,
    /// Figures of the whole service.
    Stats,
    /// Change one's own media settings.
    Participant(CallId),
    /// Start recording.
    RecordingStart(CallId),
    /// Stop recording.
    RecordingStop(CallId),
    /// A call's recordings.
    Recordings(CallId),
    /// A call's quality, summed per participant.
    Quality(CallId),
    /// What LiveKit reports.
    LiveKitWebhook,
    /// Alive.
    Health,
    /// Ready for traffic.
    Ready,
    /// The figures of a dashboard.
    MonitoringMetrics,
    /// Each backend by name.
    MonitoringHealth,
    /// This API's description.
    OpenApi,
    /// A token for anybody; in development only.
    DevToken,
    /// Who is connected; in development only.
    DevUsers,
    /// A file of the console, or none.
    Asset,
}

/// Why there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// No such path.
    NotFound,
    /// The path is known, the method is not.
    NotAllowed {
        /// The value of `Allow`.
        allow: &'static str,
    },
    /// `OPTIONS`: a preflight, or the wish to know the methods.
    Options {
        /// The value of `Allow`.
        allow: &'static str,
    },
}

/// The method of a route; every path has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET, and HEAD with it.
    Get,
    /// POST.
    Post,
    /// PATCH.
    Patch,
}

impl Verb {
    /// The value of `Allow` on its paths.
    pub fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD, OPTIONS",
            Self::Post => "POST, OPTIONS",
            Self::Patch => "PATCH, OPTIONS",
        }
    }

    fn is(self, method: &Method) -> bool {
        match self {
            Self::Get => method == Method::GET || method == Method::HEAD,
            Self::Post => method == Method::POST,
            Self::Patch => method == Method::PATCH,
        }
    }
}

/// The route of a request; `path` is as it came, without the query, and is compared as it is.
///
/// # Errors
/// See [`Miss`].
pub fn route(method: &Method, path: &str) -> Result<Route, Miss> {
    let found = if path == "*" { None } else { Some(resource(path).ok_or(Miss::NotFound)?) };
    let allow = found.map_or("GET, HEAD, POST, PATCH, OPTIONS", |it| it.verb().allow());
    match found {
        _ if method == Method::OPTIONS => Err(Miss::Options { allow }),
        Some(route) if route.verb().is(method) => Ok(route),
        _ => Err(Miss::NotAllowed { allow }),
    }
}

/// What a path names, whatever the method.
fn resource(path: &str) -> Option<Route> {
    if let Some(rest) = path.strip_prefix("/api/v1/") {
        return match rest.strip_prefix("calls/") {
            Some(rest) => call(rest),
            None => (rest == "webhooks/livekit").then_some(Route::LiveKitWebhook),
        };
    }
    match path {
        "/health" => Some(Route::Health),
        "/ready" => Some(Route::Ready),
        "/monitoring/metrics" => Some(Route::MonitoringMetrics),
        "/monitoring/health" => Some(Route::MonitoringHealth),
        "/openapi.json" => Some(Route::OpenApi),
        "/dev/token" => Some(Route::DevToken),
        "/dev/users" => Some(Route::DevUsers),
        _ => is_asset(path).then_some(Route::Asset),
    }
}

/// Fixed names win over ids; what is no id names nothing.
fn call(rest: &str) -> Option<Route> {
    let (first, rest) = rest.split_once('/').map_or((rest, None), |(it, rest)| (it, Some(rest)));
    let fixed = match first {
        "start" => Some(Route::Start),
        "history" => Some(Route::History),
        "active" => Some(Route::Active),
        "stats" => Some(Route::Stats),
        _ => None,
    };
    if let Some(route) = fixed {
        return rest.is_none().then_some(route);
    }
    let id = CallId::parse(first)?;
    match rest {
        None => Some(Route::Call(id)),
        Some("join") => Some(Route::Join(id)),
        Some("end") => Some(Route::End(id)),
        Some("token") => Some(Route::Token(id)),
        Some("participant") => Some(Route::Participant(id)),
        Some("recording/start") => Some(Route::RecordingStart(id)),
        Some("recording/stop") => Some(Route::RecordingStop(id)),
        Some("recordings") => Some(Route::Recordings(id)),
        Some("quality") => Some(Route::Quality(id)),
        Some(_) => None,
    }
}

/// Where the console may have a file: its page, its assets, and files beside the page.
fn is_asset(path: &str) -> bool {
    let Some(name) = path.strip_prefix('/') else { return false };
    name.is_empty() || name.starts_with("assets/") || (!name.contains('/') && name.contains('.'))
}

impl Route {
    /// The one method of its path.
    pub fn verb(self) -> Verb {
        match self {
            Self::Start
            | Self::Join(_)
            | Self::End(_)
            | Self::Token(_)
            | Self::RecordingStart(_)
            | Self::RecordingStop(_)
            | Self::LiveKitWebhook
            | Self::DevToken => Verb::Post,
            Self::Participant(_) => Verb::Patch,
            Self::Call(_)
            | Self::History
            | Self::Active
            | Self::Stats
            | Self::Recordings(_)
            | Self::Quality(_)
            | Self::Health
            | Self::Ready
            | Self::MonitoringMetrics
            | Self::MonitoringHealth
            | Self::OpenApi
            | Self::DevUsers
            | Self::Asset => Verb::Get,
        }
    }

    /// Its path with `{id}` for the call: for metrics (a bounded set of labels) and the description.
    pub fn template(self) -> &'static str {
        match self {
            Self::Start => "/api/v1/calls/start",
            Self::Join(_) => "/api/v1/calls/{id}/join",
            Self::End(_) => "/api/v1/calls/{id}/end",
            Self::Token(_) => "/api/v1/calls/{id}/token",
            Self::Call(_) => "/api/v1/calls/{id}",
            Self::History => "/api/v1/calls/history",
            Self::Active => "/api/v1/calls/active",
            Self::Stats => "/api/v1/calls/stats",
            Self::Participant(_) => "/api/v1/calls/{id}/participant",
            Self::RecordingStart(_) => "/api/v1/calls/{id}/recording/start",
            Self::RecordingStop(_) => "/api/v1/calls/{id}/recording/stop",
            Self::Recordings(_) => "/api/v1/calls/{id}/recordings",
            Self::Quality(_) => "/api/v1/calls/{id}/quality",
            Self::LiveKitWebhook => "/api/v1/webhooks/livekit",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::MonitoringMetrics => "/monitoring/metrics",
            Self::MonitoringHealth => "/monitoring/health",
            Self::OpenApi => "/openapi.json",
            Self::DevToken => "/dev/token",
            Self::DevUsers => "/dev/users",
            Self::Asset => "/",
        }
    }

    /// Whether it needs a user's token.
    pub fn needs_identity(self) -> bool {
        self.template().starts_with("/api/v1/calls/")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0193d5f0-0000-7000-8000-000000000001";

    pub(in crate::http) fn all() -> Vec<Route> {
        let id = CallId::parse(ID).unwrap();
        vec![
            Route::Start,
            Route::Join(id),
            Route::End(id),
            Route::Token(id),
            Route::Call(id),
            Route::History,
            Route::Active,
            Route::Stats,
            Route::Participant(id),
            Route::RecordingStart(id),
            Route::RecordingStop(id),
            Route::Recordings(id),
            Route::Quality(id),
            Route::LiveKitWebhook,
            Route::Health,
            Route::Ready,
            Route::MonitoringMetrics,
            Route::MonitoringHealth,
            Route::OpenApi,
            Route::DevToken,
            Route::DevUsers,
            Route::Asset,
        ]
    }

    fn method(verb: Verb) -> Method {
        match verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Patch => Method::PATCH,
        }
    }

    /// Every route, with every method: found with its own, 405 and `Allow` with any other.
    #[test]
    fn each_path_has_its_method() {
        for wanted in all() {
            let path = wanted.template().replace("{id}", ID);
            let allow = wanted.verb().allow();
            for name in ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "TRACE", "BREW"] {
                let tried = Method::from_bytes(name.as_bytes()).unwrap();
                let reads = wanted.verb() == Verb::Get && tried == Method::HEAD;
                let fits = tried == method(wanted.verb()) || reads;
                let wanted = if fits { Ok(wanted) } else { Err(Miss::NotAllowed { allow }) };
                assert_eq!(route(&tried, &path), wanted, "{name} {path}");
            }
            assert_eq!(route(&Method::OPTIONS, &path), Err(Miss::Options { allow }), "{path}");
        }
    }

    #[test]
    fn paths_that_name_nothing() {
        for path in [
            "",
            "api/v1/calls/start",
            "/api",
            "/api/v1/calls",
            "/api/v1/calls/",
            "/api/v1/calls/garbage",
            "/api/v1/calls/start/",
            "/api/v1/calls/start/join",
            "/api/v1//calls/start",
            "/api/v2/calls/start",
            "/API/v1/calls/start",
            "/api/v1/calls/0193d5f0000070008000000000000001",
            "/api/v1/calls/0193d5f0-0000-7000-8000-000000000001/",
            "/api/v1/calls/0193d5f0-0000-7000-8000-000000000001/dance",
            "/api/v1/calls/0193d5f0-0000-7000-8000-000000000001/recording",
            "/api/v1/webhooks/livekit/",
            "/health/",
            "/dev/",
            "/nonsense",
            "/../etc/passwd",
        ] {
            assert_eq!(route(&Method::GET, path), Err(Miss::NotFound), "{path}");
        }
    }

    #[test]
    fn assets() {
        for path in ["/", "/index.html", "/favicon.svg", "/assets/index-B3f.js", "/assets/a/b.css"]
        {
            assert_eq!(route(&Method::GET, path), Ok(Route::Asset), "{path}");
        }
    }

    #[test]
    fn the_whole_server() {
        let allow = "GET, HEAD, POST, PATCH, OPTIONS";
        assert_eq!(route(&Method::OPTIONS, "*"), Err(Miss::Options { allow }));
        assert_eq!(route(&Method::GET, "*"), Err(Miss::NotAllowed { allow }));
    }

    #[test]
    fn calls_need_a_user_and_others_do_not() {
        let open: Vec<_> =
            all().into_iter().filter(|it| !it.needs_identity()).map(Route::template).collect();
        let wanted = [
            "/api/v1/webhooks/livekit",
            "/health",
            "/ready",
            "/monitoring/metrics",
            "/monitoring/health",
            "/openapi.json",
            "/dev/token",
            "/dev/users",
            "/",
        ];
        assert_eq!(open, wanted);
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "[/a-z0-9.*%-]{0,80}") {
            if let Ok(route) = route(&Method::GET, &path) {
                prop_assert_eq!(route.verb(), Verb::Get);
            }
        }
    }
}
