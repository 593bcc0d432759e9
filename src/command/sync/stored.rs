//! `sync NAME --output-dir s3://…`: the present state of a server's data in an object store.

use super::super::bulk_export::{again, begin, go, habits, state, stores};
use super::{Kept, SyncArgs};
use crate::bulk::export::{Mode, Report, Status};
use crate::bulk::ledger::Ledger;
use crate::bulk::objects::{self, Address, Bucket, Courier, Destination};
use crate::bulk::request::ExportRequest;
use crate::bulk::store::Compression;
use crate::bulk::sync::stored::{self, CURRENT};
use crate::bulk::sync::{Applied, Book, Pending, Run};
use crate::bulk::{disk, place};
use crate::context::Context;
use crate::inventory::Inventory;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Exit, Result};

/// One run.
pub(super) struct Order<'a> {
    pub args: &'a SyncArgs,
    pub context: &'a Context,
    pub inventory: &'a Inventory,
    pub server: &'a Server,
}

impl Order<'_> {
    pub(super) async fn run(&self, address: &Address, scope: &ExportRequest) -> Result<Kept> {
        let bucket = stores::bucket(self.context, address)?;
        let desk = stored::desk(&state()?, &bucket);
        disk::private_folder(&desk)?;
        let _lock = disk::lock(&desk, "place")?;
        let (server, url) = (&self.server.name, self.server.url.as_str());
        let mut book = Book::read(&bucket, server, url, scope).await.map_err(Error::from)?;
        let every = self.args.full_every;
        let is_due = every.is_some_and(|every| book.since_full() + 1 >= every as usize);
        let next = book.next(self.args.full || is_due || habits::has_no_since(self.server));
        book.keep(&bucket).await.map_err(Error::from)?;
        let report = match self.export(&bucket, scope, &next).await {
            Ok(report) => report,
            Err(error) => {
                // What the server has given up is not gone on with; anything else is.
                if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Data) {
                    book.pending = None;
                    book.keep(&bucket).await.map_err(Error::from)?;
                }
                return Err(error);
            }
        };
        if report.conclusion.status != Status::Complete {
            if report.conclusion.exit_code != Exit::RESUMABLE.0 {
                book.pending = None;
                book.keep(&bucket).await.map_err(Error::from)?;
            }
            let exit = Exit(report.conclusion.exit_code);
            return Ok(kept(&bucket, next, report, None, exit));
        }
        let courier = Courier::new(bucket.clone(), &stores::surroundings(self.context)?);
        let time = report.conclusion.transaction_time.as_deref();
        let work = desk.join("work");
        let applied = stored::apply(&courier, &next, time, &work).await.map_err(Error::from)?;
        book.close(Run {
            number: next.number,
            since: next.since.clone(),
            transaction_time: report.conclusion.transaction_time.clone(),
            finished_at: self.context.clock.now(),
            received: applied.received,
            deleted: applied.deleted,
            resources: applied.counts.values().sum(),
        });
        book.keep(&bucket).await.map_err(Error::from)?;
        self.tidy_up(&bucket, &next).await?;
        let target =
            format!("{address}: {} received, {} deleted", applied.received, applied.deleted);
        self.context.audit().outcome(Some(&self.server.name), &target, &Ok(()));
        Ok(kept(&bucket, next, report, Some(applied), Exit::OK))
    }

    async fn export(
        &self,
        bucket: &Bucket,
        scope: &ExportRequest,
        next: &Pending,
    ) -> Result<Report> {
        let request = ExportRequest { since: next.since.clone(), ..scope.clone() };
        let run = bucket.below(&stored::run_name(next.number));
        let place = Destination::Store(run.address().clone());
        let (context, server) = (self.context, self.server);
        again::admit(context, server, &request, &place, &self.args.again).await?;
        let (mode, shape) = (Mode::Bulk, Compression::None);
        let ledger = begin(context, server, &place, &request, mode, shape).await?;
        go(context, self.inventory, server, ledger, &self.args.how).await
    }

    /// Removes what is older than the state before this one: readers may still be in that.
    async fn tidy_up(&self, bucket: &Bucket, next: &Pending) -> Result<()> {
        let (runs, objects) = stored::old(bucket, next.number).await.map_err(Error::from)?;
        for name in objects {
            bucket.delete(&name).await.map_err(Error::from)?;
        }
        for number in runs {
            let run = bucket.below(&stored::run_name(number));
            if let Ok(folder) = place::of_address(&state()?, run.address()) {
                let ledger = Ledger::open(&folder)?;
                objects::destroy(&ledger, &run).await.map_err(Error::from)?;
            }
            // Its ledger may be elsewhere: the copy is ours all the same.
            let mut left = Vec::new();
            let mut tell = |found: objects::Found| {
                left.push(found.name);
                true
            };
            run.list(&mut tell).await.map_err(Error::from)?;
            for name in left {
                run.delete(&name).await.map_err(Error::from)?;
            }
        }
        Ok(())
    }
}

fn kept(
    bucket: &Bucket,
    run: Pending,
    report: Report,
    applied: Option<Applied>,
    exit: Exit,
) -> Kept {
    let place = bucket.address().to_string();
    let current = bucket.address().object(CURRENT);
    Kept { place, current, run, report, applied, exit }
}
