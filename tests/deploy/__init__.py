"""The files of deploy/ and the image: run for real where that can be, judged where it cannot."""
