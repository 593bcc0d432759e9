//! nagios
