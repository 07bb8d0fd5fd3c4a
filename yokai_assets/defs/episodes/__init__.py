"""The episode domain: frames, layers and embeddings, one partition per episode."""
