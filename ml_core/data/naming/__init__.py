"""What file names and tables say: pairs of images and masks, labels, published datasets. Imports no torch."""
