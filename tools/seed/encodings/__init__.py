"""Stands in for encodings in CPython 3.9 and 3.10: UTF-8 under every name, which is all that the build speaks."""

import _codecs


class Codec(tuple):
    """What codecs.lookup returns, and its own incremental encoder and decoder: no text is ever cut in two here."""

    name = "utf-8"
    _is_text_encoding = True

    def incrementalencoder(self, errors):
        """Return the incremental encoder."""
        return self

    incrementaldecoder = incrementalencoder

    def setstate(self, state):
        """Forget nothing: there is no state."""

    def reset(self):
        """Forget nothing: there is no state."""

    def encode(self, text, final=False):
        """Encode what standard error prints."""
        return self[0](text, "backslashreplace")[0]


UTF_8 = Codec((_codecs.utf_8_encode, _codecs.utf_8_decode, None, None))
_codecs.register(lambda name: UTF_8)
