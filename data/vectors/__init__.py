"""Word vectors: a matrix with a row for each word, on disk, in the formats of others, and how they are judged."""
