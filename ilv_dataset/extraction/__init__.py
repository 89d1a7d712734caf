"""Objects of instructions by a language model: asked from the launcher, checked, kept."""
