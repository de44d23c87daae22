"""Video files to uint8 tensors: decoding, index maths, transforms, drawn clips. Knows no networks."""
