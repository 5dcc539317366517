"""Operations on pixels: windows, Lab colour, blur, perceptual hashes, sheets of pictures."""
