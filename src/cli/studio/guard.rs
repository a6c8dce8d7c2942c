//! Which requests are answered.
//!
//! A page on the web must not be able to use the studio through its visitor's browser. On this machine
//! alone the `Host` of a request must be this machine (against DNS rebinding); what changes something must
//! come from the studio's own page (`Origin`, and a header that other pages cannot send); what is read must
//! not be embedded elsewhere (`Sec-Fetch-Site`). For other machines there is a token besides.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION, ORIGIN, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::cli::failure::Failure;

/// The header that the page sends with whatever changes something. A page from elsewhere may not.
const OWN: &str = "x-impasto";

/// The cookie that holds the token.
const COOKIE_NAME: &str = "impasto-token";

/// What the page may load: its own files.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Which requests are answered.
#[derive(Clone, Debug)]
pub struct Guard {
    address: SocketAddr,
    /// What a request must know; `None` on this machine alone.
    token: Option<Arc<str>>,
}

/// Why a request is not answered.
type Refusal = (StatusCode, &'static str);

impl Guard {
    /// For a server at this address.
    pub fn new(address: SocketAddr) -> Result<Self, Failure> {
        let token = match address.ip().is_loopback() {
            true => None,
            false => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).map_err(|error| Failure::other(error.to_string()))?;
                Some(format!("{:032x}", u128::from_le_bytes(bytes)).into())
            }
        };
        Ok(Self { address, token })
    }

    /// Where a browser finds the page.
    pub fn url(&self) -> String {
        let port = self.address.port();
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => {
                sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_string())
            }
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        match &self.token {
            None => format!("http://{host}:{port}/"),
            Some(token) => format!("http://{host}:{port}/?token={token}"),
        }
    }

    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, &HOST).ok_or((StatusCode::BAD_REQUEST, "the host is missing"))?;
        match &self.token {
            None if !self.is_this_machine(host) => {
                let words = "the studio answers to this machine's own name only";
                return Err((StatusCode::FORBIDDEN, words));
            }
            Some(token) if !knows(headers, token) => {
                let words = "open the address that `impasto studio` printed, with its token";
                return Err((StatusCode::UNAUTHORIZED, words));
            }
            _ => {}
        }
        let foreign = (StatusCode::FORBIDDEN, "the request comes from another page");
        if let Some(origin) = text(headers, &ORIGIN)
            && origin.strip_prefix("http://") != Some(host)
        {
            return Err(foreign);
        }
        if *method == Method::GET || *method == Method::HEAD {
            // Typed by the user, or of the page itself; programs other than browsers say nothing.
            let said = |name: &str| headers.get(name).map(|value| value.as_bytes());
            let own = matches!(
                said("sec-fetch-site"),
                None | Some(b"same-origin" | b"none")
            );
            // A link elsewhere that leads to the page.
            let follows = path == "/"
                && said("sec-fetch-mode") == Some(b"navigate")
                && said("sec-fetch-dest") == Some(b"document");
            return match own || follows {
                true => Ok(()),
                false => Err(foreign),
            };
        }
        match headers.contains_key(OWN) {
            true => Ok(()),
            false => Err(foreign),
        }
    }

    fn is_this_machine(&self, host: &str) -> bool {
        let (ip, port) = (self.address.ip(), self.address.port());
        let name = match host.strip_suffix(&format!(":{port}")) {
            Some(name) => name,
            None if port == 80 => host,
            None => return false,
        };
        matches!(name, "localhost" | "127.0.0.1" | "[::1]") || name == ip.to_string()
    }

    /// The token that an address names, if it is the right one.
    fn names_token(&self, query: Option<&str>) -> bool {
        let (Some(token), Some(query)) = (&self.token, query) else {
            return false;
        };
        query
            .strip_prefix("token=")
            .is_some_and(|named| same(named, token))
    }
}

/// Answers a request, or says why not.
pub async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = if request.uri().path() == "/" && guard.names_token(request.uri().query()) {
        // From here on a cookie knows it, and no address does.
        let token = guard.token.as_deref().unwrap_or_default();
        let cookie = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Lax");
        let headers = [(LOCATION, "/".to_string()), (SET_COOKIE, cookie)];
        (StatusCode::SEE_OTHER, headers).into_response()
    } else {
        match guard.check(request.method(), request.uri().path(), request.headers()) {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (CACHE_CONTROL, "no-store"),
    ] {
        let value = HeaderValue::from_static(value);
        headers.entry(name).or_insert(value);
    }
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a cookie holds the token.
fn knows(headers: &HeaderMap, token: &str) -> bool {
    let cookies = headers.get_all(COOKIE).into_iter();
    let cookies = cookies.filter_map(|cookies| cookies.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .any(|(name, value)| name == COOKIE_NAME && same(value, token))
}

/// Compares in a time that does not tell how much is right.
fn same(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).map(|(a, b)| a ^ b);
    a.len() == b.len() && differences.fold(0, |all, one| all | one) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|&(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn only_this_machine_is_answered() {
        let guard = Guard::new(([127, 0, 0, 1], 7878).into()).unwrap();
        let status = |method: Method, pairs: &[_]| {
            let checked = guard.check(&method, "/api/info", &headers(pairs));
            checked.map_or_else(|(status, _)| status.as_u16(), |()| 200)
        };
        let own = ("host", "127.0.0.1:7878");
        for (pairs, expected) in [
            (&[][..], 400),
            (&[own], 200),
            (&[("host", "localhost:7878")], 200),
            (&[("host", "[::1]:7878")], 200),
            (&[("host", "localhost")], 403),
            (&[("host", "attacker.example:7878")], 403),
            (&[("host", "127.0.0.1.attacker.example:7878")], 403),
            (&[own, ("origin", "http://127.0.0.1:7878")], 200),
            (&[own, ("origin", "http://localhost:7878")], 403),
            (&[own, ("origin", "null")], 403),
            (&[own, ("sec-fetch-site", "same-origin")], 200),
            (&[own, ("sec-fetch-site", "cross-site")], 403),
            (&[own, ("sec-fetch-site", "same-site")], 403),
        ] {
            assert_eq!(status(Method::GET, pairs), expected, "{pairs:?}");
        }
        // A link in another page leads to the page, and to nothing else.
        let link = [
            own,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert!(guard.check(&Method::GET, "/", &headers(&link)).is_ok());
        assert!(
            guard
                .check(&Method::GET, "/", &headers(&link[..3]))
                .is_err()
        );
        assert_eq!(status(Method::GET, &link), 403);
        for (pairs, expected) in [
            (&[own][..], 403),
            (&[own, ("x-impasto", "1")], 200),
            (
                &[
                    own,
                    ("x-impasto", "1"),
                    ("origin", "http://attacker.example"),
                ],
                403,
            ),
        ] {
            assert_eq!(status(Method::POST, pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn other_machines_need_the_token() {
        let mut guard = Guard::new(([192, 168, 0, 1], 7878).into()).unwrap();
        let other = Guard::new(([192, 168, 0, 1], 7878).into()).unwrap();
        assert_ne!(guard.token, other.token);
        guard.token = Some("0123".into());
        let status = |cookie| {
            let headers = headers(&[("host", "studio:7878"), ("cookie", cookie)]);
            let checked = guard.check(&Method::GET, "/", &headers);
            checked.map_or_else(|(status, _)| status.as_u16(), |()| 200)
        };
        assert_eq!(status("a=b; impasto-token=0123"), 200);
        assert_eq!(status("impasto-token=0124"), 401);
        assert_eq!(status("impasto-token=01234"), 401);
        assert_eq!(status("impasto-token="), 401);
        assert_eq!(status("token=0123"), 401);
        assert!(guard.names_token(Some("token=0123")));
        assert!(!guard.names_token(Some("token=012")));
        assert!(!guard.names_token(None));
    }
}
