"""Generated corpora in their official layouts: names, label files and transcripts, with a few milliseconds of audio."""
