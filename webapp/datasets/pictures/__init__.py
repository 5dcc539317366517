"""Thumbnails, tiles and masks, encoded here and never sent as they came."""
