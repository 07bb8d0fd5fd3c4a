-- Write everything into the one file, so that no write-ahead log stands beside it.
CHECKPOINT;
