//! Laws of the route language, on random texts, tables and messages.
