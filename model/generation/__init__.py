"""What a model answers to prompts: greedily, sampled, or by beam search. `settings` imports no torch."""
