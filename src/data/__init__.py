"""From a dataset's files to splits: pictures on disk, decoding, caches, class names, sampling."""
