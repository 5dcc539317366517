"""Operations on pixels: grey windows, Lab colour, blur, perceptual hashes, contact sheets."""
