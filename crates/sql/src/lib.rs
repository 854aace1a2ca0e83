//! What an SQL statement does, from the real grammars, without a database.
