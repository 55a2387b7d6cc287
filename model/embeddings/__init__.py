"""Word vectors learned from sequences of words: word2vec and fastText by gensim, GloVe in torch.

A word is a string; the corpus can be gone through again and gives lists of words; the vocabulary is a dict from word
to count in the order of the rows. All give fp32 matrices in that order.
"""
