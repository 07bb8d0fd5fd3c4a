"""The series domain, unpartitioned: the index, the clustering, the registry. It reads whatever episodes exist."""
