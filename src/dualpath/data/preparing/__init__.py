"""A data set encoded once, as files or shards: `dualpath data prepare`, and how its result is read."""
