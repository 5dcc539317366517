"""Bytes on their way in: the tus protocol, the spool, and what becomes of an upload."""
