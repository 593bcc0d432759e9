//! The proof: counts on both sides, a sample compared as content, and where its references lead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::mpsc;

use super::ask::{Found, Reader};
use super::choose::{self, Choice};
use super::content::{Compared, Content, Reference, compare};
use super::count::{counts, searchable};
use super::evidence::{Circumstances, Evidence, OfResource, OfType, Unresolved};
use crate::bulk::halt::Halt;
use crate::bulk::import::order::key;
use crate::bulk::import::report::{Counts, Summary};
use crate::bulk::import::source::Input;
use crate::bulk::lines::{is_id, is_type};
use crate::model::Error;

/// Reads under way at once on a server.
const AT_ONCE: usize = 8;
/// References that wait to be followed.
const WAITING: usize = 50_000;

/// What is to be proven.
pub struct Proof<'a> {
    pub source: &'a Reader,
    pub target: &'a Reader,
    pub inputs: Arc<Vec<Input>>,
    /// Resources by type.
    pub exported: &'a BTreeMap<String, u64>,
    pub imported: &'a Summary,
    pub before: &'a Counts,
    pub max_line: usize,
    pub seed: u64,
    /// Most of each type; `None`: all.
    pub most: Option<usize>,
    /// Everything that the source has of the types was asked for.
    pub is_whole: bool,
    /// Those that were asked for; none: all.
    pub types: &'a [String],
    pub is_crawl: bool,
    pub tell: &'a (dyn Fn(Told) + Sync),
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// So many resources are to be compared.
    Chosen(u64),
    /// One more was.
    Compared,
}

/// A resource that was looked for on the target.
struct Examined {
    resource_type: String,
    id: String,
    verdict: Verdict,
    references: Vec<Reference>,
}

enum Verdict {
    Compared { compared: Compared, exported: String, found: String },
    Missing,
    Unreadable(Option<u16>),
}

/// A resource that somebody refers to.
struct Named {
    resource_type: String,
    id: String,
    from: String,
    path: String,
}

/// What a reference names.
#[derive(Debug, PartialEq, Eq)]
enum Class<'a> {
    Contained,
    Relative(&'a str, &'a str),
    ToSource,
    Elsewhere,
    Other,
}

impl Proof<'_> {
    /// Looks at everything. Nothing is written anywhere.
    ///
    /// # Errors
    /// Why it stopped before; the same call begins it anew.
    pub async fn run(&self) -> Result<Evidence, Halt> {
        let choice = Arc::new(self.choose().await?);
        (self.tell)(Told::Chosen(choice.total()));
        let types = || self.exported.keys();
        let (source, target) =
            tokio::try_join!(counts(self.source, types()), counts(self.target, types()))?;
        let mut evidence = Evidence { is_declaring: true, ..Evidence::default() };
        evidence.sample.seed = self.seed;
        evidence.sample.per_type = self.most.map(|most| most as u64);
        let mut types: BTreeMap<String, OfType> = BTreeMap::new();
        for (name, &exported) in self.exported {
            let imported = self.imported.types.iter().find(|it| it.r#type == *name);
            let of_type = OfType {
                r#type: name.clone(),
                source: source.get(name).copied().flatten(),
                exported,
                accepted: imported.map_or(0, |it| it.gone_in()),
                created: imported.map_or(0, |it| it.created),
                rejected: imported.map_or(0, |it| it.rejected),
                target_before: self.before.get(name).copied().flatten(),
                target: target.get(name).copied().flatten(),
                ..OfType::default()
            };
            types.insert(name.clone(), of_type);
        }
        if self.is_whole {
            self.left_out(&mut types, &mut evidence).await?;
        }
        self.compare(&choice, &mut types, &mut evidence).await?;
        evidence.types = types.into_values().collect();
        evidence.conclude(Circumstances {
            source: &self.source.server().name,
            target: &self.target.server().name,
            is_whole: self.is_whole,
            is_crawl: self.is_crawl,
        });
        Ok(evidence)
    }

    /// Types that the source has and the export has not.
    async fn left_out(
        &self,
        types: &mut BTreeMap<String, OfType>,
        evidence: &mut Evidence,
    ) -> Result<(), Halt> {
        let wanted = match self.types {
            [] => searchable(self.source).await?,
            types => Some(types.to_vec()),
        };
        let Some(mut others) = wanted else {
            evidence.is_declaring = false;
            return Ok(());
        };
        others.retain(|name| !self.exported.contains_key(name));
        others.sort_unstable();
        others.dedup();
        for (name, count) in counts(self.source, others.iter()).await? {
            if let Some(count) = count.filter(|count| *count > 0) {
                let of_type =
                    OfType { r#type: name.clone(), source: Some(count), ..OfType::default() };
                types.insert(name, of_type);
            }
        }
        Ok(())
    }

    async fn choose(&self) -> Result<Choice, Halt> {
        let (inputs, max_line) = (Arc::clone(&self.inputs), self.max_line);
        let (seed, most) = (self.seed, self.most);
        let work =
            tokio::task::spawn_blocking(move || choose::choose(&inputs, max_line, seed, most));
        let choice = work.await.map_err(|error| Error::internal(error.to_string()))?;
        Ok(choice?)
    }

    /// Reads what was chosen from the target and holds it against the export.
    async fn compare(
        &self,
        choice: &Arc<Choice>,
        types: &mut BTreeMap<String, OfType>,
        evidence: &mut Evidence,
    ) -> Result<(), Halt> {
        let (send, receive) = mpsc::channel::<(String, String, String)>(2 * AT_ONCE);
        let (inputs, max_line) = (Arc::clone(&self.inputs), self.max_line);
        let chosen = Arc::clone(choice);
        let reading = tokio::task::spawn_blocking(move || {
            choose::each(&inputs, max_line, &mut |resource_type, id, text| {
                if !chosen.has(resource_type, id) {
                    return Ok(true);
                }
                let resource = (resource_type.to_owned(), id.to_owned(), text.to_owned());
                Ok(send.blocking_send(resource).is_ok())
            })
        });
        let resources = stream::unfold(receive, |mut receive| async move {
            receive.recv().await.map(|resource| (resource, receive))
        });
        let examined = resources
            .map(|(resource_type, id, text)| self.examine(resource_type, id, text))
            .buffer_unordered(AT_ONCE);
        let mut examined = std::pin::pin!(examined);
        let mut trail = Trail::default();
        while let Some(examined) = examined.next().await {
            let examined = examined?;
            (self.tell)(Told::Compared);
            if !matches!(examined.verdict, Verdict::Missing) {
                trail.there.insert(key(&examined.resource_type, &examined.id));
            }
            self.classify(&examined, &mut trail, evidence);
            let of_type = types.entry(examined.resource_type.clone()).or_default();
            take(examined, of_type, evidence);
            if trail.waiting.len() >= WAITING {
                self.follow(&mut trail, evidence).await?;
            }
        }
        self.follow(&mut trail, evidence).await?;
        let read = reading.await.map_err(|error| Error::internal(error.to_string()))?;
        Ok(read?)
    }

    async fn examine(
        &self,
        resource_type: String,
        id: String,
        text: String,
    ) -> Result<Examined, Halt> {
        let path = format!("{resource_type}/{id}");
        let is_nameable = is_type(&resource_type) && is_id(&id);
        let exported = Content::read(&text).filter(|_| is_nameable);
        let Some(exported) = exported else {
            let verdict = Verdict::Unreadable(None);
            return Ok(Examined { resource_type, id, verdict, references: Vec::new() });
        };
        // It may be written with more room than it was.
        let verdict = match self.target.read(&path, 4 * self.max_line as u64).await? {
            Found::Absent => Verdict::Missing,
            Found::Refused(status) => Verdict::Unreadable(Some(status)),
            Found::Body(body) => {
                let found = std::str::from_utf8(&body).ok().and_then(Content::read);
                match found.filter(|it| it.resource_type() == resource_type && it.id() == id) {
                    None => Verdict::Unreadable(Some(200)),
                    Some(found) => Verdict::Compared {
                        compared: compare(&exported, &found),
                        exported: exported.digest(),
                        found: found.digest(),
                    },
                }
            }
        };
        let references = exported.references();
        Ok(Examined { resource_type, id, verdict, references })
    }

    /// Counts a resource's references; those that can be followed wait for that.
    fn classify(&self, examined: &Examined, trail: &mut Trail, evidence: &mut Evidence) {
        let source = self.source.server().url.as_str();
        let target = self.target.server().url.as_str();
        let counts = &mut evidence.references;
        for reference in &examined.references {
            counts.found += 1;
            match class(&reference.text, source, target) {
                Class::Contained => counts.contained += 1,
                Class::ToSource => counts.to_source += 1,
                Class::Elsewhere => counts.elsewhere += 1,
                Class::Other => counts.other += 1,
                Class::Relative(resource_type, id) => {
                    counts.relative += 1;
                    let key = key(resource_type, id);
                    if trail.known.insert(key) {
                        counts.distinct += 1;
                        trail.waiting.entry(key).or_insert_with(|| Named {
                            resource_type: resource_type.to_owned(),
                            id: id.to_owned(),
                            from: format!("{}/{}", examined.resource_type, examined.id),
                            path: reference.path.clone(),
                        });
                    }
                }
            }
        }
    }

    /// Follows the references that wait. What was compared is there, whatever it says.
    async fn follow(&self, trail: &mut Trail, evidence: &mut Evidence) -> Result<(), Halt> {
        let mut waiting: Vec<Named> = Vec::new();
        for (key, named) in trail.waiting.drain() {
            if trail.there.contains(&key) {
                evidence.references.resolved += 1;
            } else {
                waiting.push(named);
            }
        }
        let followed =
            stream::iter(waiting).map(|named| self.look(named)).buffer_unordered(AT_ONCE);
        let mut followed = std::pin::pin!(followed);
        let mut lost = Vec::new();
        while let Some(unresolved) = followed.next().await {
            match unresolved? {
                None => evidence.references.resolved += 1,
                Some(unresolved) => lost.push(unresolved),
            }
        }
        lost.sort_by(|one, other| one.reference.cmp(&other.reference));
        lost.into_iter().for_each(|unresolved| evidence.unresolved(unresolved));
        Ok(())
    }

    /// Looks for a resource on the target, and where it is not there on the source.
    async fn look(&self, named: Named) -> Result<Option<Unresolved>, Halt> {
        let path = format!("{}/{}", named.resource_type, named.id);
        let most = 4 * self.max_line as u64;
        // One that is too large is there.
        let is_there = |found: Found| matches!(found, Found::Body(_) | Found::Refused(200));
        if is_there(self.target.read(&path, most).await?) {
            return Ok(None);
        }
        let is_on_source = match self.source.read(&path, most).await? {
            Found::Absent => Some(false),
            found => is_there(found).then_some(true),
        };
        Ok(Some(Unresolved { reference: path, from: named.from, path: named.path, is_on_source }))
    }
}

/// Where the references of the sample lead.
#[derive(Default)]
struct Trail {
    /// What was read from the target.
    there: HashSet<u64>,
    /// What somebody refers to.
    known: HashSet<u64>,
    waiting: HashMap<u64, Named>,
}

fn take(examined: Examined, of_type: &mut OfType, evidence: &mut Evidence) {
    of_type.compared += 1;
    let mut resource = OfResource {
        r#type: examined.resource_type,
        id: examined.id,
        verdict: "missing",
        http_status: None,
        differences: Vec::new(),
        more: 0,
        exported_sha256: None,
        target_sha256: None,
    };
    match examined.verdict {
        Verdict::Missing => {
            of_type.missing += 1;
            evidence.tell(resource, &Compared::default());
        }
        Verdict::Unreadable(status) => {
            of_type.unreadable += 1;
            resource.verdict = "unreadable";
            resource.http_status = status;
            evidence.tell(resource, &Compared::default());
        }
        Verdict::Compared { compared, .. } if compared.differences.is_empty() => {
            of_type.equal += 1;
            evidence.count(&compared);
        }
        Verdict::Compared { compared, exported, found } => {
            of_type.differing += 1;
            resource.verdict = "differs";
            resource.differences.clone_from(&compared.differences);
            resource.more = compared.more;
            resource.exported_sha256 = Some(exported);
            resource.target_sha256 = Some(found);
            evidence.tell(resource, &compared);
        }
    }
}

/// What a reference names (FHIR R4, "Literal References").
fn class<'a>(text: &'a str, source: &str, target: &str) -> Class<'a> {
    let below = |base: &str| text.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
    if text.starts_with('#') {
        return Class::Contained;
    }
    let own = below(target);
    if own.is_none() && below(source).is_some() {
        return Class::ToSource;
    }
    let relative = own.unwrap_or(text);
    if relative.contains("://") {
        return Class::Elsewhere;
    }
    let current = relative.split("/_history/").next().unwrap_or_default();
    match current.split_once('/') {
        Some((resource_type, id)) if is_type(resource_type) && is_id(id) => {
            Class::Relative(resource_type, id)
        }
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_apart() {
        let (source, target) = ("https://old.example/fhir", "https://new.example/r4");
        for (text, expected) in [
            ("#med", Class::Contained),
            ("Patient/1", Class::Relative("Patient", "1")),
            ("Patient/1/_history/2", Class::Relative("Patient", "1")),
            ("https://new.example/r4/Patient/1", Class::Relative("Patient", "1")),
            ("https://old.example/fhir/Patient/1", Class::ToSource),
            ("https://old.example/fhirs/Patient/1", Class::Elsewhere),
            ("http://third.example/Patient/1", Class::Elsewhere),
            ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520", Class::Other),
            ("Patient?identifier=x|1", Class::Other),
            ("patient/1", Class::Other),
            ("Patient/1/2", Class::Other),
            ("", Class::Other),
        ] {
            assert_eq!(class(text, source, target), expected, "{text}");
        }
    }
}
