//! Gauges: figures that servers give of themselves over time.
//!
//! They stand beside the chain. They are a server's own word, of which nothing is proved, and so they
//! may be thinned as they grow old.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::db::{GaugeRow, Mode, on};
use super::{DAY, HOUR, Inner, Store, Window};
use crate::model::{Error, Result};

/// One figure at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    pub server: Arc<str>,
    /// Such as `heap`, `disk:/var` or `count:Patient`.
    pub name: Arc<str>,
    pub at: Timestamp,
    /// `None`: it was asked for, and nothing came.
    pub value: Option<f64>,
    /// What it cannot exceed, where the server says so.
    pub limit: Option<f64>,
}

/// One gauge of one server over time.
#[derive(Clone, Debug, PartialEq)]
pub struct GaugeSeries {
    pub name: Arc<str>,
    /// In order of time.
    pub values: Vec<GaugeValue>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaugeValue {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub value: f64,
    pub limit: Option<f64>,
}

/// By server and by name: when a gauge was last asked for, in milliseconds since the epoch.
pub type GaugesAsked = HashMap<String, HashMap<Arc<str>, i64>>;

/// For how long every value is kept; then one an hour.
const FRESH: i64 = 14 * DAY;

impl Store {
    /// Keeps gauges, all or none, and tells how many values are new. A value that is there already is kept
    /// no second time, so whoever does not know whether a call succeeded repeats it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn add_gauges(&self, gauges: &[Gauge]) -> Result<u64> {
        if gauges.is_empty() {
            return Ok(0);
        }
        let mut inner = self.inner().await?;
        let names: BTreeSet<&str> = gauges.iter().map(|gauge| &*gauge.name).collect();
        let missing = names.iter().filter(|name| inner.words.id(name).is_none());
        let missing = missing.map(|name| (*name).to_owned()).collect();
        inner.number(missing).await?;
        let rows = rows(&mut inner, gauges).await?;
        inner.begin(Mode::Write).await?;
        let result = on!(&mut inner.db, db => db.put_gauges(rows).await);
        inner.end(result).await
    }

    /// The gauges of a server in a window, by their names.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn gauges(&self, server: &str, window: Window) -> Result<Vec<GaugeSeries>> {
        let mut inner = self.inner().await?;
        let Some(server) = on!(&mut inner.db, db => db.server(server.to_owned()).await)? else {
            return Ok(Vec::new());
        };
        let names: HashMap<i64, Arc<str>> =
            on!(&mut inner.db, db => db.gauge_names(server.id).await)?
                .into_iter()
                .map(|(id, name)| (id, name.into()))
                .collect();
        let rows = on!(&mut inner.db, db => {
            db.gauge_values(server.id, window.start, window.end).await
        })?;
        let mut series: BTreeMap<Arc<str>, Vec<GaugeValue>> = BTreeMap::new();
        for (gauge, value) in rows {
            if let Some(name) = names.get(&gauge) {
                series.entry(Arc::clone(name)).or_default().push(value);
            }
        }
        Ok(series.into_iter().map(|(name, values)| GaugeSeries { name, values }).collect())
    }

    /// When which gauge of which server was last asked for.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn gauges_asked(&self) -> Result<GaugesAsked> {
        let mut inner = self.inner().await?;
        let mut asked = GaugesAsked::new();
        for (server, name, at) in on!(&mut inner.db, db => db.gauges_asked().await)? {
            asked.entry(server).or_default().insert(name.into(), at);
        }
        Ok(asked)
    }
}

/// As rows, with the numbers of names and servers. A server that is new gets its row outside of any
/// transaction, so that no two writers wait for each other's.
async fn rows(inner: &mut Inner, gauges: &[Gauge]) -> Result<Vec<GaugeRow>> {
    let mut servers: BTreeMap<&str, i64> = BTreeMap::new();
    for gauge in gauges {
        if !servers.contains_key(&*gauge.server) {
            let name = gauge.server.to_string();
            let id = on!(&mut inner.db, db => db.ensure_server(name).await)?;
            servers.insert(&gauge.server, id);
        }
    }
    let rows = gauges.iter().map(|gauge| {
        Some(GaugeRow {
            server: servers.get(&*gauge.server).copied()?,
            word: i64::try_from(inner.words.id(&gauge.name)?).ok()?,
            at: gauge.at.as_millisecond(),
            value: gauge.value.filter(|value| value.is_finite()),
            limit: gauge.limit.filter(|limit| limit.is_finite()),
        })
    });
    let rows = rows.collect::<Option<Vec<_>>>();
    rows.ok_or_else(|| Error::internal("the name of a gauge has no number"))
}

/// Of what is no longer fresh one value an hour is kept, the last.
pub(super) async fn thin(inner: &mut Inner, now: i64) -> Result<u64> {
    on!(&mut inner.db, db => db.thin_gauges(now.saturating_sub(FRESH), HOUR).await)
}

/// Of what is older than readings are kept one value a day is kept; behind the days nothing.
pub(super) async fn prune(inner: &mut Inner, raw: Option<i64>, daily: Option<i64>) -> Result<u64> {
    let mut gone = 0;
    if let Some(before) = raw {
        gone += on!(&mut inner.db, db => db.thin_gauges(before, DAY).await)?;
    }
    if let Some(before) = daily {
        gone += on!(&mut inner.db, db => db.prune_gauges(before).await)?;
    }
    Ok(gone)
}
