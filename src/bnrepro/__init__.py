"""bnrepro: a reproduction study of Ioffe & Szegedy 2015, Batch Normalization (arXiv:1502.03167)."""
