"""Networks: encoders, BYOL, U-Net, linear classifier, activation maps, tiled prediction."""
