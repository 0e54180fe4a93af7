//! SQL: one text for both databases, one function for each thing done.
