"""What a training starts from: the meaning of `model`, and the weights that it names."""
