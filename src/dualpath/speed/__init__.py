"""How fast and how large models are, measured side by side.

products    which matrix products a model does         ceiling   how fast the chip does just those
ours        the library's methods as candidates        turns     candidates in turn, each in a process of its own
worker      that process
"""
