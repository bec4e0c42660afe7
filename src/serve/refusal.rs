//! Why a request is not answered: a status and one sentence, as JSON.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::Error;

#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub sentence: String,
}

impl Refusal {
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Refusal {
        Refusal { status, sentence: sentence.into() }
    }

    /// What was sent is understood, and nothing can be made of it.
    pub fn unfit(sentence: impl Into<String>) -> Refusal {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, sentence)
    }

    /// What was sent is not understood.
    pub fn wrong(sentence: impl Into<String>) -> Refusal {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    pub fn too_large(limit: usize) -> Refusal {
        let what = format!("more than {} MB; send a smaller photo (--max-upload allows more)", limit as f64 / 1e6);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    }

    pub fn busy(sentence: impl Into<String>) -> Refusal {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let status = match error {
            Error::Photo { .. }
            | Error::Labels(_)
            | Error::Template(_)
            | Error::Points(_)
            | Error::Size(_)
            | Error::NotFinite(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Memory(_) | Error::Busy(_) | Error::Lost(_) | Error::Device(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.sentence }).to_string();
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (self.status, [kind], body).into_response()
    }
}
