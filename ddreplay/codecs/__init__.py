"""The picture codecs behind ``ddreplay.codec``."""
