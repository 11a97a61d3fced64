//! The report of a run: a pure function of the recorded events.
