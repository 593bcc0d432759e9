//! What the Secret Service says of itself, asked without making it unlock anything.
//!
//! The keyring library starts to unlock whatever it finds locked, and a locked keyring may answer
//! a search with nothing at all. Both are looked at here first.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::{SERVICE, Standing, State};
use crate::model::text::{bounded, one_line};

/// How long one question may take; below the limit of the whole.
const METHOD_LIMIT: Duration = Duration::from_secs(4);

/// How long a keyring that did not answer is not asked again; otherwise every secret of a fleet
/// would wait for its own answer, one after the other.
const LEFT_ALONE: Duration = Duration::from_secs(10);

const NAME: &str = "org.freedesktop.secrets";
const PATH: &str = "/org/freedesktop/secrets";
const INTERFACE: &str = "org.freedesktop.Secret.Service";
const COLLECTION: &str = "org.freedesktop.Secret.Collection";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection to the session bus, made when it is first wanted and again when it broke.
#[derive(Default)]
pub(super) struct Service {
    connection: Option<Connection>,
    hung_at: Option<Instant>,
}

impl Service {
    /// How the default keyring is.
    pub(super) fn state(&mut self) -> State {
        match self.on_bus(is_locked) {
            Ok(false) => State::Present,
            Ok(true) => State::Locked,
            Err(state) => state,
        }
    }

    /// How an entry stands.
    ///
    /// # Errors
    /// [`State::Absent`] or [`State::Hanging`] when there is nobody to ask.
    pub(super) fn find(&mut self, user: &str) -> Result<Standing, State> {
        self.on_bus(|connection| {
            let wanted = HashMap::from([("service", SERVICE), ("username", user)]);
            let (unlocked, locked): (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) =
                call(connection, PATH, INTERFACE, "SearchItems", &wanted)?;
            if !unlocked.is_empty() {
                Ok(Standing::Readable)
            } else if !locked.is_empty() {
                Ok(Standing::Locked)
            } else if is_locked(connection)? {
                Ok(Standing::Unknown)
            } else {
                Ok(Standing::Absent)
            }
        })
    }

    fn on_bus<T>(&mut self, ask: impl FnOnce(&Connection) -> zbus::Result<T>) -> Result<T, State> {
        if self.hung_at.is_some_and(|at| at.elapsed() < LEFT_ALONE) {
            return Err(State::Hanging);
        }
        let answer = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Builder::session().and_then(|b| b.method_timeout(METHOD_LIMIT).build()),
        }
        .and_then(|connection| {
            let answer = ask(&connection)?;
            // Kept only when it worked.
            self.connection = Some(connection);
            Ok(answer)
        });
        answer.map_err(|error| {
            let state = state_of(&error);
            self.hung_at = (state == State::Hanging).then(Instant::now);
            state
        })
    }
}

fn is_locked(connection: &Connection) -> zbus::Result<bool> {
    let default: OwnedObjectPath = call(connection, PATH, INTERFACE, "ReadAlias", &"default")?;
    if default.as_str() == "/" {
        return Err(zbus::Error::Failure(
            "the Secret Service has no default keyring; create one with its own tool".into(),
        ));
    }
    let value: OwnedValue =
        call(connection, default.as_str(), PROPERTIES, "Get", &(COLLECTION, "Locked"))?;
    Ok(bool::try_from(value)?)
}

fn call<B, R>(
    connection: &Connection,
    path: &str,
    interface: &str,
    method: &str,
    body: &B,
) -> zbus::Result<R>
where
    B: serde::Serialize + zbus::zvariant::DynamicType,
    R: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
{
    connection.call_method(Some(NAME), path, Some(interface), method, body)?.body().deserialize()
}

fn state_of(error: &zbus::Error) -> State {
    let reason = match error {
        zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            return State::Hanging;
        }
        zbus::Error::MethodError(name, _, _)
            if matches!(
                name.as_str(),
                "org.freedesktop.DBus.Error.NoReply" | "org.freedesktop.DBus.Error.Timeout"
            ) =>
        {
            return State::Hanging;
        }
        zbus::Error::MethodError(name, _, _)
            if name.as_str() == "org.freedesktop.DBus.Error.ServiceUnknown" =>
        {
            "no program on the session bus offers one".to_owned()
        }
        zbus::Error::Failure(reason) => reason.clone(),
        zbus::Error::Address(_)
        | zbus::Error::InputOutput(_)
        | zbus::Error::Connection(..)
        | zbus::Error::Handshake(_) => "no D-Bus session bus can be reached".to_owned(),
        other => format!("the session bus says: {other}"),
    };
    State::Absent(bounded(&one_line(&reason), 200))
}
