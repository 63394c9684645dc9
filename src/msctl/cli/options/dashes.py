"""The words of a verb before `--`, which click's parser drops."""

WORDS_BEFORE_DASHES = "msctl.words_before_dashes"
"""Key of click's `meta`: the number of the verb's words before `--`; None without it."""
