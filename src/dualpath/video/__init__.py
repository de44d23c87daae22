"""Video files to uint8 tensors: decoding, index maths, transforms, and clips drawn by the project. Knows no networks."""
