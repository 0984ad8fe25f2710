"""The one exception halfulp raises on purpose."""


class HalfulpError(ValueError):
    """Bad input: one sentence that says what was wrong and what would be right."""
