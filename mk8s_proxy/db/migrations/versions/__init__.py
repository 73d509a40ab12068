"""One file per change of the schema, numbered. A released file is never edited."""
