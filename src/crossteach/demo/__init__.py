"""What comes with the package: a data set, four pretrained models, and the demonstration that uses them."""
