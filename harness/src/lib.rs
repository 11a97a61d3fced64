//! harness
pub mod deadlines;
pub mod evidence;
pub mod fault;
pub mod judge;
pub mod outcome;
pub mod report;
pub mod requirement;
pub mod scenario_data;
