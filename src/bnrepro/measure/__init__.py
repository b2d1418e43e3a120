"""What is measured of a trained net: metrics by name, and the functions that measure them."""
