"""The scripted model's pure parts: what it was asked, what it says, which fault it plays. No I/O and no clock."""
