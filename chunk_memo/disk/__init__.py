"""Everything that touches bytes: the file format, commits, encodings, layouts."""
