//! No token, no call: and nothing of the message is looked at.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tonic::{
    body::Body,
    codegen::{Service, http},
    service::interceptor::InterceptedService,
};

use super::*;

fn token(digit: char) -> Token {
    Token::parse(&digit.to_string().repeat(64)).unwrap()
}

fn shown(digit: char) -> String {
    format!("Bearer {}", token(digit).reveal())
}

fn doorkeeper(tokens: &[char], calls: usize) -> (Doorkeeper, TokenTable) {
    let table = TokenTable::new(tokens.iter().map(|digit| token(*digit)).collect());
    (Doorkeeper::new(Some(table.clone()), calls), table)
}

fn knock(doorkeeper: &mut Doorkeeper, header: &str) -> Result<Request<()>, tonic::Code> {
    let mut request = Request::new(());
    if !header.is_empty() {
        let value = header.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    doorkeeper.call(request).map_err(|status| status.code())
}

#[test]
fn only_a_valid_token_opens() {
    let all: Vec<char> = "0123456789abcdef".chars().collect();
    let (mut doorkeeper, _) = doorkeeper(&all, 99);
    for digit in &all {
        assert!(knock(&mut doorkeeper, &shown(*digit)).is_ok(), "{digit}");
    }
    let raw = token('a').reveal().to_owned();
    for header in [
        String::new(),
        "Bearer ".into(),
        raw.clone(),
        format!("bearer {raw}"),
        format!("Bearer {raw}0"),
        format!("Bearer {}", &raw[1..]),
        format!("Bearer {}", "g".repeat(64)),
        format!("Bearer {}", "g".repeat(1000)),
    ] {
        let refused = knock(&mut doorkeeper, &header).unwrap_err();
        assert_eq!(refused, tonic::Code::Unauthenticated, "{header}");
    }
}

#[test]
fn a_rotation_ends_only_the_calls_of_the_token_that_is_gone() {
    let (mut doorkeeper, table) = doorkeeper(&['a', 'b'], 99);
    let pass = |request: Request<()>| Pass::of(&request).unwrap();
    let old = pass(knock(&mut doorkeeper, &shown('a')).unwrap());
    let staying = pass(knock(&mut doorkeeper, &shown('b')).unwrap());
    assert_eq!(table.replace(vec![token('c'), token('b')]), (1, 1));
    assert!(old.revoked.is_cancelled());
    assert!(!staying.revoked.is_cancelled());
    assert!(knock(&mut doorkeeper, &shown('a')).is_err());
    assert!(knock(&mut doorkeeper, &shown('c')).is_ok());
}

#[test]
fn calls_are_counted_for_as_long_as_their_pass_lives() {
    let (mut doorkeeper, _) = doorkeeper(&['a'], 3);
    let mut calls: Vec<_> = (0..3)
        .map(|_| knock(&mut doorkeeper, &shown('a')).unwrap())
        .collect();
    let refused = knock(&mut doorkeeper, &shown('a')).unwrap_err();
    assert_eq!(refused, tonic::Code::ResourceExhausted);
    let last = Pass::of(&calls.pop().unwrap()).unwrap();
    assert!(knock(&mut doorkeeper, &shown('a')).is_err());
    drop(last);
    assert!(knock(&mut doorkeeper, &shown('a')).is_ok());
}

/// The only one who would read a message; counts how often it has one in its hands.
#[derive(Clone)]
struct Reader(Arc<AtomicU64>);

impl Service<http::Request<Body>> for Reader {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        ready(Ok(http::Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn without_a_token_nobody_gets_to_read_the_message() {
    let (doorkeeper, _) = doorkeeper(&['a'], 9);
    let read = Arc::new(AtomicU64::new(0));
    let mut service = InterceptedService::new(Reader(Arc::clone(&read)), doorkeeper);
    for (header, times) in [("", 0), ("Bearer wrong", 0), (&*shown('a'), 1)] {
        let request = http::Request::builder().header("authorization", header);
        let request = request.body(Body::empty()).unwrap();
        let response = service.call(request).await.unwrap();
        assert_eq!(read.load(Ordering::Relaxed), times, "{header}");
        let status = response.headers().get("grpc-status");
        assert_eq!(status.is_some_and(|status| status == "16"), times == 0);
    }
}
