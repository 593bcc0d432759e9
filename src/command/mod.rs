//! One file per verb: its arguments above what it does.
//!
//! Enters: parsed arguments and the context. Leaves: an [`Outcome`](crate::context::Outcome). A
//! command puts rooms together; it speaks no HTTP and prints nothing itself.

pub mod explain;
