//! The requests, each bounded in size, number and time. Only GET and HEAD, and nothing that a client sends is kept.

use std::{
    convert::Infallible,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

use super::{Shown, access::Refusal, exposition, status::Phase};

/// Connections open at one time; more wait in the operating system's queue.
const CONNECTIONS_MAX: usize = 64;
/// Of these, those that follow events.
const FOLLOWERS_MAX: usize = 8;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Time for a request's head to arrive.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// Time of a connection from its beginning to the last byte of the answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// The same where events are followed; a browser then connects again by itself.
const FOLLOW_TIME_MAX: Duration = Duration::from_secs(3600);
/// Time within which a follower must have taken an event.
const EVENT_TIME_MAX: Duration = Duration::from_secs(30);
/// Wait after a connection that could not be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The page, whole: nothing is loaded from anywhere.
const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/page.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>\n",
    include_str!("page/page.js"),
    "</script>\n</body>\n</html>\n"
);

/// The page is one file with its style and script in it, and talks to this server only.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type Body = BoxBody<Bytes, Infallible>;

/// What a connection is allowed.
#[derive(Default)]
struct Connection {
    follows: AtomicBool,
    /// Cancelled to end it.
    closing: CancellationToken,
}

/// Accepts connections, for ever.
pub(super) async fn accept(listener: TcpListener, shown: Arc<Shown>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let site = Site {
                    shown: Arc::clone(&shown),
                    followers: Arc::clone(&followers),
                    connection: Arc::new(Connection {
                        closing: stop.child_token(),
                        ..Connection::default()
                    }),
                };
                tokio::spawn(async move {
                    site.answer(stream).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// What one connection is answered from.
#[derive(Clone)]
struct Site {
    shown: Arc<Shown>,
    followers: Arc<Semaphore>,
    connection: Arc<Connection>,
}

impl Site {
    async fn answer(self, stream: TcpStream) {
        let connection = Arc::clone(&self.connection);
        let service = service_fn(move |request| {
            let response = self.respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        let bounded = async {
            let mut serving = std::pin::pin!(serving);
            let answered = timeout(ANSWER_TIME_MAX, &mut serving).await;
            if answered.is_err() && connection.follows.load(Ordering::Relaxed) {
                // Whether it ended by itself or not, it is over.
                let _ = timeout(FOLLOW_TIME_MAX, serving).await;
            }
        };
        connection.closing.run_until_cancelled(bounded).await;
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Body> {
        let access = &self.shown.access;
        if let Err(refusal) = access.admits(request.headers()) {
            return refuse(refusal);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        let look = || self.shown.looks.borrow().clone();
        let path = request.uri().path();
        match path {
            // Nothing of the run is in either: the page asks for a token, and a browser could not show one before.
            "/" => return content("text/html; charset=utf-8", PAGE),
            "/health" => return health(look().status.phase),
            _ => {}
        }
        let revoked = match access.shows(request.headers()) {
            Ok(revoked) => revoked,
            Err(refusal) => return refuse(refusal),
        };
        match path {
            "/metrics" => {
                let look = look();
                let text = exposition::render(&look.live, &look.status);
                content(exposition::CONTENT_TYPE, text)
            }
            "/status" => content("application/json", look().json.clone()),
            "/history" => content("application/json", self.history()),
            "/config" => content("text/plain; charset=utf-8", self.shown.config_toml.clone()),
            "/events" => self.follow(revoked),
            _ => plain(
                StatusCode::NOT_FOUND,
                "there are / /metrics /health /status /history /config /events\n",
            ),
        }
    }

    fn history(&self) -> Vec<u8> {
        let history = self.shown.history.lock();
        let history = history.unwrap_or_else(PoisonError::into_inner);
        // Numbers and lists always have a JSON form.
        serde_json::to_vec(&*history).unwrap_or_default()
    }

    /// A stream of server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): the newest status,
    /// whenever the client has taken the one before, until its token is `revoked`.
    fn follow(&self, revoked: CancellationToken) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.followers).try_acquire_owned() else {
            let text =
                format!("{FOLLOWERS_MAX} clients follow already; ask /status now and then\n");
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        self.connection.follows.store(true, Ordering::Relaxed);
        let connection = Arc::clone(&self.connection);
        let mut looks = self.shown.looks.clone();
        looks.mark_changed();
        let (sender, events) = mpsc::channel::<Bytes>(1);
        tokio::spawn(async move {
            while let Some(Ok(())) = revoked.run_until_cancelled(looks.changed()).await {
                let json = looks.borrow_and_update().json.clone();
                let event = [b"data: ", &json[..], b"\n\n"].concat().into();
                match timeout(EVENT_TIME_MAX, sender.send(event)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => break,
                    Err(_) => {
                        // It takes nothing any more: its connection would stay for long.
                        connection.closing.cancel();
                        break;
                    }
                }
            }
            drop(place);
        });
        let frames = ReceiverStream::new(events).map(|event| Ok(Frame::data(event)));
        respond(
            StatusCode::OK,
            "text/event-stream",
            BodyExt::boxed(StreamBody::new(frames)),
        )
    }
}

fn refuse(refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Misdirected => {
            let text = "this address is only for requests to localhost or 127.0.0.1\n";
            plain(StatusCode::MISDIRECTED_REQUEST, text)
        }
        Refusal::NoToken => {
            let text = "show a token of the run in the header \"Authorization: Bearer ...\"\n";
            let mut response = plain(StatusCode::UNAUTHORIZED, text);
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            response
        }
    }
}

fn health(phase: Phase) -> Response<Body> {
    let status = match phase {
        Phase::Serving => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain(status, format!("{}\n", phase.as_str()))
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", whole(text))
}

fn content(media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    respond(StatusCode::OK, media_type, whole(body))
}

fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}

fn respond(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(CONTENT_TYPE, media_type);
    set(CACHE_CONTROL, "no-store");
    set(
        HeaderName::from_static("content-security-policy"),
        CONTENT_SECURITY_POLICY,
    );
    set(HeaderName::from_static("x-content-type-options"), "nosniff");
    set(HeaderName::from_static("referrer-policy"), "no-referrer");
    response
}
