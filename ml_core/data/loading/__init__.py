"""From prepared arrays to batches on the device: views, augmentation, masks, labels."""
