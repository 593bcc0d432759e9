//! openmetrics
