"""Tables of embeddings that are larger than memory, made part by part by one process or by many machines."""
