//! harness/cluster
