//! Who may see numbers: a bearer token (RFC 6750, section 2.1).

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::Admin;

const SCHEME: &str = "bearer ";

/// Lets those in who know the token, if there is one.
pub(super) async fn check(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let Some(token) = &admin.shown.token else { return next.run(request).await };
    let known = given(request.headers()).is_some_and(|given| given.ct_eq(token.reveal().as_bytes()).into());
    if known {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "the admin token is needed\n").into_response()
}

fn given(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME.as_bytes()).then_some(token)
}
