"""The protocol of OCI registries: one repository, its blobs and manifests, and who may use it."""
