"""The proof that interleaved instructions generalise: scenes, splits, rollouts, tables."""
