//! The admin port: what a request asks for and the bytes of the answer.
//!
//! Does: reads one bounded HTTP/1.1 head, builds whole responses. Does not: open sockets, keep
//! connections, or change anything in the broker.
//! Invariants: pure; GET only; every response closes the connection, so there is no second request to
//! smuggle; nothing from the request is echoed.
//! Apart because HTTP is known nowhere else in the broker.

use bytes::Bytes;

use super::exposition::CONTENT_TYPE;
use crate::limits::ADMIN_HEAD_BYTES;

/// Most header lines; more is refused with 431.
const HEADERS_MAX: usize = 64;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`: send `metrics_response`.
    Metrics,
    /// `/health`: send `health_response`.
    Health,
}

/// Why there is nothing to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// No such page.
    NotFound,
    /// A method other than GET.
    MethodNotAllowed,
    /// Longer than `ADMIN_HEAD_BYTES`, or too many header lines.
    HeadTooLong,
    /// Not HTTP.
    BadRequest,
}

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Read more, up to `ADMIN_HEAD_BYTES`.
    Incomplete,
    /// A page is wanted.
    Wanted(Page),
    /// Send `mistake_response` and close.
    Wrong(Mistake),
}

/// Whether the broker can serve, for `/health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Listening and writing.
    Ready,
    /// The data folder is recovered; topics and groups are being loaded. Before that nobody listens.
    Starting,
    /// Running but refusing produce, with the reason.
    Degraded(String),
    /// Draining.
    Stopping,
}

/// Reads a request from the bytes received so far.
pub fn read_request(received: &[u8]) -> Reading {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = &received[..received.len().min(ADMIN_HEAD_BYTES)];
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {
            page_of(request.method.unwrap_or(""), request.path.unwrap_or(""))
        }
        Ok(httparse::Status::Partial) if received.len() < ADMIN_HEAD_BYTES => Reading::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Reading::Wrong(Mistake::HeadTooLong)
        }
        Err(_) => Reading::Wrong(Mistake::BadRequest),
    }
}

/// The answer to `/metrics`, from the pieces of its text. They stay apart: with ten thousand groups
/// they are megabytes.
pub fn metrics_response(pieces: Vec<String>) -> Vec<Bytes> {
    let body_bytes = pieces.iter().map(String::len).sum();
    let head = Bytes::from(head("200 OK", CONTENT_TYPE, "", body_bytes));
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
    std::iter::once(head).chain(pieces.map(Bytes::from)).collect()
}

/// The answer to `/health`: 200 while ready or degraded, so that a full disk does not make an
/// orchestrator kill a broker that still serves readers; 503 while starting or stopping.
pub fn health_response(health: &Health) -> Bytes {
    let (status, body) = match health {
        Health::Ready => ("200 OK", "ready\n".to_owned()),
        Health::Degraded(reason) => ("200 OK", format!("degraded: {reason}\n")),
        Health::Starting => ("503 Service Unavailable", "starting\n".to_owned()),
        Health::Stopping => ("503 Service Unavailable", "stopping\n".to_owned()),
    };
    response(status, PLAIN, "", &body)
}

/// The answer to a request that cannot be served.
pub fn mistake_response(mistake: Mistake) -> Bytes {
    match mistake {
        Mistake::NotFound => {
            response("404 Not Found", PLAIN, "", "there are /metrics and /health\n")
        }
        Mistake::MethodNotAllowed => {
            response("405 Method Not Allowed", PLAIN, "Allow: GET\r\n", "GET only\n")
        }
        Mistake::HeadTooLong => {
            response("431 Request Header Fields Too Large", PLAIN, "", "request too long\n")
        }
        Mistake::BadRequest => response("400 Bad Request", PLAIN, "", "not HTTP\n"),
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn page_of(method: &str, target: &str) -> Reading {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let page = match path {
        "/metrics" => Page::Metrics,
        "/health" => Page::Health,
        _ => return Reading::Wrong(Mistake::NotFound),
    };
    if method == "GET" { Reading::Wanted(page) } else { Reading::Wrong(Mistake::MethodNotAllowed) }
}

fn response(status: &str, content_type: &str, more_headers: &str, body: &str) -> Bytes {
    Bytes::from(head(status, content_type, more_headers, body.len()) + body)
}

fn head(status: &str, content_type: &str, more_headers: &str, body_bytes: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {body_bytes}\r\n\
         {more_headers}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_scrape_is_recognised_only_when_its_head_is_complete() {
        let request = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for end in 0..request.len() {
            assert_eq!(read_request(&request[..end]), Reading::Incomplete, "after {end} bytes");
        }
        assert_eq!(read_request(request), Reading::Wanted(Page::Metrics));
        assert_eq!(read_request(b"GET /health HTTP/1.0\r\n\r\n"), Reading::Wanted(Page::Health));
    }

    #[test]
    fn mistakes_have_their_answers() {
        let wrong = |bytes: &[u8]| match read_request(bytes) {
            Reading::Wrong(mistake) => mistake,
            other => panic!("{other:?}"),
        };
        assert_eq!(wrong(b"GET / HTTP/1.1\r\n\r\n"), Mistake::NotFound);
        assert_eq!(wrong(b"GET /metrics/ HTTP/1.1\r\n\r\n"), Mistake::NotFound);
        assert_eq!(wrong(b"POST /metrics HTTP/1.1\r\n\r\n"), Mistake::MethodNotAllowed);
        assert_eq!(wrong(b"\x16\x03\x01\x02\x00"), Mistake::BadRequest);
        let long = [b"GET /metrics HTTP/1.1\r\nA: ".as_slice(), &[b'x'; ADMIN_HEAD_BYTES]].concat();
        assert_eq!(wrong(&long), Mistake::HeadTooLong);
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(wrong(many.as_bytes()), Mistake::HeadTooLong);
    }

    #[test]
    fn a_response_says_its_length_and_closes() {
        let pieces = metrics_response(vec!["# ".to_owned(), String::new(), "EOF\n".to_owned()]);
        let response = Bytes::from(pieces.concat());
        let (head, body) = text(&response).split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "# EOF\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(head.contains("Content-Length: 6") && head.contains("Connection: close"));
        assert!(head.contains("application/openmetrics-text"));
        assert!(text(&mistake_response(Mistake::MethodNotAllowed)).contains("\r\nAllow: GET\r\n"));
    }

    #[test]
    fn a_full_disk_is_not_a_reason_to_be_killed() {
        let degraded = health_response(&Health::Degraded("disk reserve reached".into()));
        assert!(text(&degraded).starts_with("HTTP/1.1 200"));
        assert!(text(&degraded).ends_with("degraded: disk reserve reached\n"));
        assert!(text(&health_response(&Health::Starting)).starts_with("HTTP/1.1 503"));
    }
}
