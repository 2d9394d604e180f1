"""Images in other programs: kernels, modules, wrappers, hooks of shells."""
