"""Files, processes, namespaces, errors, URLs: what knows nothing of conda."""
