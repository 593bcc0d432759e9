//! The second port of a server: object storage that knows no token and refuses who brings one.

use std::sync::Arc;

use super::super::answer::{Content as Said, Format, Reply};
use super::super::log::Surroundings;
use super::super::sign_in::Credential;
use super::super::site::pairs;
use super::files::request_id;
use super::{Bulk, filled_in};
use crate::serve::{Answer, Handler, Method, Request, StatusCode, Tls, header};

/// Where files are at the second port.
pub(super) const URL: &str = "/bulk-storage/{job}/{file}";

/// The handler of the second port.
pub(in crate::sandbox) struct Storage {
    /// The server's, with `.storage` behind it.
    name: String,
    bulk: Arc<Bulk>,
    tls: Option<Arc<Tls>>,
    surroundings: Surroundings,
}

impl Storage {
    pub(in crate::sandbox) fn new(
        server: &str,
        bulk: Arc<Bulk>,
        tls: Option<Arc<Tls>>,
        surroundings: Surroundings,
    ) -> Storage {
        Storage { name: format!("{server}.storage"), bulk, tls, surroundings }
    }

    fn answer(&self, request: &Request) -> Reply {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let refused = |status, code: &str, why: &str| {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
                 <Message>{why}</Message></Error>"
            );
            Reply::new(status, Said::Text("application/xml", body.into()))
        };
        let reply = if request.headers.contains_key(header::AUTHORIZATION) {
            let why = "Only one auth mechanism allowed";
            refused(StatusCode::BAD_REQUEST, "InvalidArgument", why)
        } else {
            let query = pairs(request.query.as_deref().unwrap_or_default().as_bytes());
            match filled_in(URL, &request.path, &[]) {
                None => refused(StatusCode::NOT_FOUND, "NoSuchKey", "there is no such object"),
                Some(found) => self
                    .bulk
                    .file(None, request, &found["job"], &found["file"], &query)
                    .unwrap_or_else(|refusal| {
                        refused(refusal.status, "NoSuchKey", "there is no such object")
                    }),
            }
        };
        reply.with(request_id(), &id)
    }
}

impl Handler for Storage {
    async fn handle(&self, request: Request) -> Answer {
        let without_body = request.method == Method::HEAD;
        let response = self.answer(&request).finish(Format::Json, false, without_body);
        let query = pairs(request.query.as_deref().unwrap_or_default().as_bytes());
        let answer = Answer::Reply(response);
        self.surroundings.told(&self.name, &request, &query, Credential::Missing, answer).0
    }

    fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }
}
