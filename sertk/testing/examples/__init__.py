"""The smallest plugin of each kind: what `sertk plugins new` writes, docs/plugins.md shows and the tests run."""
