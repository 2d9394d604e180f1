"""The manifests of pixi, conda-workspaces and uv, read in place of an environment.yml."""
