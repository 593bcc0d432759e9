//! Bounds that hold against a hostile or broken server.

/// Most bytes of one body as it is sent.
pub const WIRE_BYTES: u64 = 12 * 1024 * 1024;
/// Most bytes of one body after decompression.
pub const BODY_BYTES: u64 = 12 * 1024 * 1024;
/// Most bytes of a health answer, a search answer or an error that is looked at.
pub const SMALL_BODY_BYTES: u64 = 4 * 1024 * 1024;
/// Most characters of a server's own words that are shown.
pub const SERVER_TEXT_CHARS: usize = 500;
/// Most redirects that are followed.
pub const REDIRECTS: usize = 5;
/// Most bytes of a published directory of servers: a vendor's whole list.
pub const DIRECTORY_BYTES: u64 = 64 * 1024 * 1024;
