"""The trainer: converted shards into batches, a small policy, its loop."""
