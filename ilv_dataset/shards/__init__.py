"""What each stage does with one shard: plain functions that stream, write and commit it."""
