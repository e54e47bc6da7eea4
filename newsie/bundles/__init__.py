"""Model bundles: the files of a model, their manifest, the registry of a folder of models, and the hub."""
