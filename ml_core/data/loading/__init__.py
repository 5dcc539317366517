"""Loads batches from prepared arrays to the device: views, augmentation, masks, labels."""
