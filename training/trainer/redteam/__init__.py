"""How an adapter holds out: under attacks, at other strengths, without its own direction."""
