"""The families of backbones: one module here is one entry of the catalog."""
