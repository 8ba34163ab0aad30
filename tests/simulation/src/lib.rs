//! The real service and the real client on a simulated network, under faults that one seed decides.
#![forbid(unsafe_code)]
