//! Reports on a log for an operator, and cuts a damaged one.
